//! A partition whose leader dies is read on from the next one.

use std::time::Duration;

use refold_domain::position::Offset;
use refold_local::KafkaCluster;
use refold_local::testing::ScratchDir;
use refold_ports::conformance::log::StagedTopic as _;
use refold_ports::source::LogSource as _;
use refold_ports::source::ReadMode;
use refold_source_kafka::KafkaConfig;
use refold_source_kafka::KafkaSource;

use crate::broker::P0;
use crate::broker::read_through;
use crate::broker::records;
use crate::broker::with_reader;
use crate::stage::Broker;
use crate::stage::Topic;

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_dies_is_replaced_and_nothing_is_skipped_or_repeated() {
    let dir = ScratchDir::new("source-kafka-leader").expect("a directory");
    let cluster = KafkaCluster::start(dir.path(), 3).expect("three brokers");
    let brokers = cluster.bootstrap();
    let broker = Broker::new(&brokers);
    broker.create_topic_with("led", 1, 3, &[]).await;
    let topic = Topic::new(&broker, "led");
    for first in (0..400).step_by(20) {
        topic.produce(P0, records(first, 20, 500)).await;
    }
    let config = KafkaConfig::new(&brokers)
        .with_deadline(Duration::from_secs(3))
        .with_property("fetch.message.max.bytes", "20000")
        .expect("a size is free");
    let source = KafkaSource::new(config, "led").expect("a legal configuration");
    let reader = source.open(P0, Offset(0), ReadMode::Bulk).await;
    let (reader, first) = with_reader(reader.expect("opens"), |reader| {
        read_through(reader, Offset(50))
    })
    .await;

    let leader = broker.leader("led", P0).await;
    // Nodes are numbered from 1, and killed by their place.
    cluster
        .kill_node(leader as usize - 1)
        .expect("the leader is killed");
    let (reader, second) = with_reader(reader, |reader| read_through(reader, Offset(400))).await;
    topic.produce(P0, records(400, 100, 500)).await;
    let (_, third) = with_reader(reader, |reader| read_through(reader, Offset(500))).await;
    let all: Vec<i64> = [first, second, third].concat();
    assert_eq!(all, (0..500).collect::<Vec<_>>());
}
