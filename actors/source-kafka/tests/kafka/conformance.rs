//! The log's conformance suite on a real broker.

use std::sync::Arc;

use refold_ports::conformance::log;
use refold_source_kafka::BulkClient;

use crate::stage::Broker;

#[tokio::test(flavor = "multi_thread")]
async fn kafka_keeps_the_promises_of_a_log() {
    let broker = Broker::new(&refold_local::testing::stack().kafka);
    let passed = log::run("kafka", Arc::new(broker)).await;
    assert_eq!(passed, log::case_count());
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_keeps_them_when_librdkafka_reads_history_too() {
    let broker = Broker::new(&refold_local::testing::stack().kafka);
    let broker = broker.read_by(BulkClient::Librdkafka);
    let passed = log::run("kafka, librdkafka for bulk", Arc::new(broker)).await;
    assert_eq!(passed, log::case_count());
}
