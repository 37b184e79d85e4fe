//! The raw reader and a network that does harm: nothing is skipped, nothing
//! repeated, nothing panics, and a silent broker is reported in time.

use std::net::TcpListener;
use std::time::Duration;
use std::time::Instant;

use refold_domain::position::Offset;
use refold_local::testing;
use refold_ports::conformance::log::StagedTopic as _;
use refold_ports::source::LogSource as _;
use refold_ports::source::ReadMode;
use refold_ports::source::SourceError;
use refold_source_kafka::KafkaConfig;
use refold_source_kafka::KafkaSource;

use crate::broker::P0;
use crate::broker::read_through;
use crate::broker::read_to_error;
use crate::broker::records;
use crate::broker::with_reader;
use crate::proxy::FETCH;
use crate::proxy::Harm;
use crate::proxy::METADATA;
use crate::proxy::Proxy;
use crate::stage::Broker;
use crate::stage::Topic;

const RECORDS: usize = 1_000;
const DEADLINE: Duration = Duration::from_secs(2);

async fn filled(prefix: &str) -> String {
    let broker = Broker::new(&testing::stack().kafka);
    let name = testing::unique_topic(prefix);
    broker.create_topic(&name, 1).await;
    let topic = Topic::new(&broker, &name);
    // Batches of a few records, so that there are many answers.
    for first in (0..RECORDS).step_by(20) {
        topic.produce(P0, records(first, 20, 100)).await;
    }
    name
}

fn source(brokers: &str, topic: &str) -> KafkaSource {
    let config = KafkaConfig::new(brokers)
        .with_deadline(DEADLINE)
        .with_property("fetch.message.max.bytes", "3000")
        .expect("a size is free");
    KafkaSource::new(config, topic).expect("a legal configuration")
}

/// Every kind of harm, with answers between that pass.
const HARMS: [Harm; 11] = [
    Harm::Cut,
    Harm::Dribble,
    Harm::Half,
    Harm::Late,
    Harm::Garbage,
    Harm::Number,
    Harm::Size(0),
    Harm::Size(3),
    Harm::Size(u32::MAX),
    Harm::Size(90_000_000),
    Harm::Half,
];

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_does_harm_costs_no_record_and_doubles_none() {
    let name = filled("harm").await;
    let proxy = Proxy::start(&testing::stack().kafka, |key, count| {
        let harm = HARMS[count / 3 % HARMS.len()];
        match key {
            FETCH if count % 3 == 1 => harm,
            // Finding the leader again fails now and then, too.
            METADATA if count % 5 == 3 => harm,
            _ => Harm::None,
        }
    });
    let source = source(&proxy.brokers(), &name);
    let mut opened = source.open(P0, Offset(0), ReadMode::Bulk).await;
    while let Err(SourceError::Unreachable(_)) = opened {
        opened = source.open(P0, Offset(0), ReadMode::Bulk).await;
    }
    let reader = opened.expect("opens in the end");
    let end = Offset(RECORDS as i64);
    let (_, offsets) = with_reader(reader, move |reader| read_through(reader, end)).await;
    assert_eq!(offsets, (0..RECORDS as i64).collect::<Vec<_>>());
    assert!(proxy.harmed() >= HARMS.len(), "{}", proxy.harmed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_accepts_and_never_answers_is_unreachable_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("it is bound").to_string();
    let begun = Instant::now();
    let opened = source(&address, "events")
        .open(P0, Offset(0), ReadMode::Bulk)
        .await;
    let error = opened.err();
    assert!(
        matches!(&error, Some(SourceError::Unreachable(text)) if text.contains(&address)),
        "{error:?}"
    );
    assert!(begun.elapsed() >= DEADLINE / 2, "it was given time");
    assert!(begun.elapsed() < DEADLINE * 3, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_falls_silent_is_unreachable_in_time() {
    let name = filled("silence").await;
    let proxy = Proxy::start(&testing::stack().kafka, |key, count| match key {
        FETCH if count > 8 => Harm::Silence,
        _ => Harm::None,
    });
    let source = source(&proxy.brokers(), &name);
    let reader = source.open(P0, Offset(0), ReadMode::Bulk).await;
    let begun = Instant::now();
    let (_, (offsets, error)) = with_reader(reader.expect("opens"), read_to_error).await;
    let got = offsets.len() as i64;
    assert_eq!(offsets, (0..got).collect::<Vec<_>>());
    assert!(got > 0 && got < RECORDS as i64);
    assert!(matches!(&error, SourceError::Unreachable(_)), "{error:?}");
    assert!(begun.elapsed() < DEADLINE * 3, "{:?}", begun.elapsed());
}

/// librdkafka may stop to deliver a partition whose broker answers. What it does not get over by
/// itself ends the reader, and the next reader comes by a client of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_delivers_nothing_any_more_is_given_up_and_the_next_reader_gets_another() {
    let broker = Broker::new(&testing::stack().kafka);
    let name = testing::unique_topic("starved");
    broker.create_topic(&name, 1).await;
    let topic = Topic::new(&broker, &name);
    topic.produce(P0, records(0, 50, 10)).await;
    let proxy = Proxy::start(&testing::stack().kafka, |_, _| Harm::None);
    let config = KafkaConfig::new(proxy.brokers()).with_deadline(Duration::from_secs(1));
    let source = KafkaSource::new(config, &name).expect("a legal configuration");
    let reader = source.open(P0, Offset(0), ReadMode::Tail).await;
    let (reader, before) = with_reader(reader.expect("opens"), |reader| {
        read_through(reader, Offset(50))
    })
    .await;
    assert_eq!(before.len(), 50);

    proxy.starve_present();
    topic.produce(P0, records(50, 50, 10)).await;
    let (reader, (none, first)) = with_reader(reader, read_to_error).await;
    assert_eq!(none, Vec::<i64>::new());
    assert!(matches!(first, SourceError::Unreachable(_)), "{first:?}");
    let (_reader, (none, last)) = with_reader(reader, read_to_error).await;
    assert_eq!(none, Vec::<i64>::new());
    let given_up =
        matches!(&last, SourceError::Fatal(why) if why.ends_with("its client is given up"));
    assert!(given_up, "{last:?}");

    let next = source.open(P0, Offset(50), ReadMode::Tail).await;
    let (_, after) = with_reader(next.expect("opens"), |reader| {
        read_through(reader, Offset(100))
    })
    .await;
    assert_eq!(after, (50..100).collect::<Vec<_>>());
}
