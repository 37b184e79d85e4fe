//! The log's conformance suite on a real broker.

use std::sync::Arc;

use refold_ports::conformance::log;

use crate::stage::Broker;

#[tokio::test(flavor = "multi_thread")]
async fn kafka_keeps_the_promises_of_a_log() {
    let broker = Broker::new(&refold_local::testing::stack().kafka);
    let passed = log::run("kafka", Arc::new(broker)).await;
    assert_eq!(passed, log::case_count());
}
