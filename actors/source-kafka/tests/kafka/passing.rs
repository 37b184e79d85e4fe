//! Errors that pass never move a position: librdkafka's own mock of a cluster
//! fails requests and loses brokers while a reader reads.

use std::time::Duration;
use std::time::Instant;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::RDKafkaApiKey;
use rdkafka::types::RDKafkaRespErr;
use refold_domain::log::Chunk;
use refold_domain::position::Offset;
use refold_ports::source::ChunkReader;
use refold_ports::source::LogSource;
use refold_ports::source::ReadLimit;
use refold_ports::source::SourceError;
use refold_source_kafka::KafkaConfig;
use refold_source_kafka::KafkaSource;

use crate::broker::P0;
use crate::broker::records;
use crate::stage;

const TOPIC: &str = "passing";
const RECORDS: usize = 600;
const BROKERS: i32 = 3;
const PATIENCE: Duration = Duration::from_secs(60);

/// What a broker may answer for a moment, to a fetch and to a question.
const FETCH_ERRORS: &[RDKafkaRespErr] = &[
    RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
    RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE,
    RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
    RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
    RDKafkaRespErr::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
    RDKafkaRespErr::RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH,
    RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN,
];
const QUESTION_ERRORS: &[RDKafkaRespErr] = &[
    RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
    RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
];

/// Makes trouble number `round`.
fn disturb(cluster: &MockCluster<'static, DefaultProducerContext>, round: usize) {
    let error = FETCH_ERRORS[round % FETCH_ERRORS.len()];
    cluster.request_errors(RDKafkaApiKey::Fetch, &[error]);
    if round % 5 == 3 {
        let error = QUESTION_ERRORS[round / 5 % QUESTION_ERRORS.len()];
        cluster.request_errors(RDKafkaApiKey::ListOffsets, &[error]);
    }
    let broker = 1 + round as i32 % BROKERS;
    match round % 7 {
        2 => cluster.broker_down(broker).expect("the broker goes down"),
        4 => all_up(cluster),
        6 => cluster
            .partition_leader(TOPIC, P0.0, Some(broker))
            .expect("the leader changes"),
        _ => {}
    }
}

/// Brings all brokers up; those that never went down do not mind.
fn all_up(cluster: &MockCluster<'static, DefaultProducerContext>) {
    for broker in 1..=BROKERS {
        cluster.broker_up(broker).expect("the broker comes up");
    }
}

/// Reads everything in small chunks, with trouble between them; answers the
/// offsets and how many reads failed.
fn read_disturbed(
    reader: &mut dyn ChunkReader,
    cluster: &MockCluster<'static, DefaultProducerContext>,
) -> (Vec<i64>, usize) {
    let limit = ReadLimit {
        records: 20,
        bytes: 1 << 20,
    };
    let begun = Instant::now();
    let mut chunk = Chunk::new(P0, Offset(0));
    let (mut offsets, mut failures, mut rounds) = (Vec::new(), 0, 0);
    while offsets.len() < RECORDS {
        match reader.read(&mut chunk, limit, Duration::from_millis(200)) {
            Ok(()) => {}
            Err(SourceError::Unreachable(_)) => failures += 1,
            Err(error) => panic!("at {}: {error}", chunk.to()),
        }
        if chunk.is_empty() {
            all_up(cluster);
        } else {
            offsets.extend(chunk.records().map(|record| record.offset.0));
            disturb(cluster, rounds);
            rounds += 1;
        }
        assert!(begun.elapsed() < PATIENCE, "only {} came", offsets.len());
    }
    (offsets, failures)
}

#[test]
fn errors_that_pass_leave_nothing_out_and_repeat_nothing() {
    // The mock cluster stays on this thread, which may block while it reads.
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for (client, mode) in stage::WAYS {
        let cluster = MockCluster::new(BROKERS).expect("a mock cluster");
        cluster.create_topic(TOPIC, 1, BROKERS).expect("a topic");
        let brokers = cluster.bootstrap_servers();
        runtime.block_on(async {
            let producer = stage::producer(&brokers, &[]);
            stage::send(&producer, TOPIC, P0, records(0, RECORDS, 100)).await;
        });

        // A queue of a few records, so that every round fetches.
        let mut config = KafkaConfig::new(&brokers)
            .with_deadline(Duration::from_secs(2))
            .with_bulk_client(client);
        for (name, value) in [
            ("queued.max.messages.kbytes", "2"),
            ("fetch.message.max.bytes", "4096"),
        ] {
            config = config.with_property(name, value).expect("queues are free");
        }
        let source = KafkaSource::new(config, TOPIC).expect("a legal configuration");
        let reader = runtime.block_on(source.open(P0, Offset(0), mode));
        let (offsets, failures) = read_disturbed(&mut *reader.expect("opens"), &cluster);
        println!("{client:?} {mode:?}: {failures} reads failed and were repeated");
        assert_eq!(offsets, (0..RECORDS as i64).collect::<Vec<_>>());
    }
}

/// A topic that was created or moved this moment: metadata names a leader that
/// does not know of it yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_waits_until_the_leader_leads() {
    let cluster = MockCluster::new(BROKERS).expect("a mock of a cluster");
    cluster.create_topic(TOPIC, 1, 1).expect("a topic");
    let source = KafkaSource::new(KafkaConfig::new(cluster.bootstrap_servers()), TOPIC);
    let source = source.expect("a legal configuration");
    cluster.request_errors(
        RDKafkaApiKey::ListOffsets,
        &[
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE,
        ],
    );
    let ends = source.watermarks(P0).await.expect("the errors pass");
    assert_eq!((ends.low, ends.high), (Offset(0), Offset(0)));
}
