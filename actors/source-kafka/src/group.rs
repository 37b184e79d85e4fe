//! Kafka's group coordinator as the one who shares partitions out.
//!
//! A client of its own joins the group for its membership alone: what it is assigned is paused at
//! once, it reads no record and commits no offset. The readers know no group.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use async_trait::async_trait;
use rdkafka::ClientContext;
use rdkafka::TopicPartitionList;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::BaseConsumer;
use rdkafka::consumer::Consumer as _;
use rdkafka::consumer::ConsumerContext;
use rdkafka::consumer::Rebalance;
use rdkafka::error::KafkaError;
use refold_domain::position::Partition;
use refold_ports::membership::Group;
use refold_ports::membership::Membership;
use refold_ports::source::SourceError;
use tokio::sync::watch;

use crate::client::Client;
use crate::config::KafkaConfig;
use crate::question;
use crate::settings;
use crate::settings::Purpose;

/// Between two looks at whether the membership ends.
const POLL: Duration = Duration::from_millis(100);

/// Between two questions whether the client still finds its brokers.
const LOOK: Duration = Duration::from_secs(15);

/// How long one such question may take: nobody serves the group meanwhile.
const ANSWER: Duration = Duration::from_secs(2);

/// Questions in a row that the client had no answer to and a fresh one had, before it is given up.
const LOST: u32 = 2;

/// How a group is kept together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GroupProtocol {
    /// Members agree among themselves, one of them shares out (the cooperative sticky assignor:
    /// who keeps a partition never stops working on it). Every broker knows it.
    #[default]
    Classic,
    /// The broker shares out (KIP-848). For brokers from 4.0 on.
    Consumer,
}

/// A consumer group of Kafka.
#[derive(Debug, Clone)]
pub struct KafkaGroup {
    config: KafkaConfig,
    topic: String,
    name: String,
    protocol: GroupProtocol,
}

impl KafkaGroup {
    /// The group `name` over the partitions of `topic`. Connects when it is joined.
    pub fn new(config: KafkaConfig, topic: &str, name: &str, protocol: GroupProtocol) -> Self {
        Self {
            config,
            topic: topic.to_owned(),
            name: name.to_owned(),
            protocol,
        }
    }
}

impl Group for KafkaGroup {
    fn join(&self) -> Result<Box<dyn Membership>, SourceError> {
        let fatal = |why: String| SourceError::Fatal(format!("join group {}: {why}", self.name));
        let mut settings = settings::client_config(&self.config, Purpose::Group)
            .map_err(|error| fatal(error.to_string()))?;
        settings.set("group.id", &self.name);
        let by_protocol: &[(&str, &str)] = match self.protocol {
            GroupProtocol::Classic => &[
                ("partition.assignment.strategy", "cooperative-sticky"),
                // The shortest that a broker allows by default: who dies is replaced after it.
                ("session.timeout.ms", "6000"),
                ("heartbeat.interval.ms", "1500"),
            ],
            GroupProtocol::Consumer => &[("group.protocol", "consumer")],
        };
        for (name, value) in by_protocol {
            settings.set(*name, *value);
        }
        let (assigned, seen) = watch::channel(BTreeSet::new());
        let consumer: BaseConsumer<Watcher> = settings
            .create_with_context(Watcher { assigned })
            .map_err(|error| fatal(error.to_string()))?;
        let subscribed = consumer.subscribe(&[&self.topic]);
        subscribed.map_err(|error| fatal(error.to_string()))?;
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let lookout = Lookout::new(self.config.clone(), &self.topic, LOOK);
        let thread = std::thread::Builder::new()
            .name("group-member".to_owned())
            .spawn(move || serve(&consumer, &told, lookout))
            .map_err(|error| fatal(error.to_string()))?;
        Ok(Box::new(KafkaMember {
            seen,
            over,
            thread: Some(thread),
        }))
    }
}

/// Answers the group until it is over, or the client has lost its brokers for good; the consumer
/// leaves the group when it is dropped.
fn serve(consumer: &BaseConsumer<Watcher>, over: &AtomicBool, mut lookout: Lookout) {
    while !over.load(Ordering::Acquire) {
        match consumer.poll(POLL) {
            // What was fetched before it was paused.
            None | Some(Ok(_)) => {}
            // The client goes on by itself: it joins again when it was thrown out.
            Some(Err(error)) => tracing::debug!(%error, "the group's client"),
        }
        if lookout.is_lost(consumer) {
            return;
        }
    }
}

/// Notices a client that finds no broker any more where others do (ADR 23).
struct Lookout {
    config: KafkaConfig,
    topic: String,
    every: Duration,
    next: Instant,
    lost: u32,
}

impl Lookout {
    fn new(config: KafkaConfig, topic: &str, every: Duration) -> Self {
        Self {
            config: config.with_deadline(ANSWER),
            topic: topic.to_owned(),
            every,
            next: Instant::now() + every,
            lost: 0,
        }
    }

    fn is_lost(&mut self, consumer: &BaseConsumer<Watcher>) -> bool {
        if Instant::now() < self.next {
            return false;
        }
        let own = consumer.fetch_metadata(Some(&self.topic), ANSWER);
        let fresh = || {
            let client = Client::start(&self.config, Purpose::Questions)?;
            question::partition_count(&client, &self.topic)
        };
        match own.is_err() && fresh().is_ok() {
            true => self.lost += 1,
            false => self.lost = 0,
        }
        self.next = Instant::now() + self.every;
        self.lost >= LOST
    }
}

/// A member of a group; a thread serves it.
struct KafkaMember {
    seen: watch::Receiver<BTreeSet<Partition>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for KafkaMember {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        // A process that ended before its client has said goodbye would be waited for.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Membership for KafkaMember {
    async fn changed(&mut self) -> Result<BTreeSet<Partition>, SourceError> {
        let changed = self.seen.changed().await;
        changed.map_err(|_| {
            SourceError::Unreachable("the group's client found no broker any more".to_owned())
        })?;
        Ok(self.seen.borrow_and_update().clone())
    }
}

/// Keeps what the group has assigned.
struct Watcher {
    assigned: watch::Sender<BTreeSet<Partition>>,
}

impl Watcher {
    fn change(
        &self,
        list: &TopicPartitionList,
        change: impl Fn(&mut BTreeSet<Partition>, Partition),
    ) {
        self.assigned.send_if_modified(|assigned| {
            let before = assigned.clone();
            for element in list.elements() {
                change(assigned, Partition(element.partition()));
            }
            *assigned != before
        });
    }
}

impl ClientContext for Watcher {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        tracing::debug!(facility, ?level, "group client: {line}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "group client: {reason}");
    }
}

impl ConsumerContext for Watcher {
    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => {
                if let Err(error) = consumer.pause(list) {
                    tracing::debug!(%error, "pause what was assigned");
                }
                self.change(list, |assigned, partition| {
                    assigned.insert(partition);
                });
            }
            Rebalance::Revoke(list) => self.change(list, |assigned, partition| {
                assigned.remove(&partition);
            }),
            Rebalance::Error(error) => tracing::debug!(%error, "the group does not agree"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::created_topic;

    #[tokio::test]
    async fn a_client_that_finds_no_broker_where_others_do_ends_its_membership() {
        let (brokers, topic) = created_topic("deaf").await;
        let (assigned, mut seen) = watch::channel(BTreeSet::new());
        let settings = settings::client_config(&KafkaConfig::new("127.0.0.1:1"), Purpose::Group);
        let consumer: BaseConsumer<Watcher> = settings
            .expect("legal")
            .set("group.id", "deaf")
            .create_with_context(Watcher { assigned })
            .expect("a client");
        let lookout = Lookout::new(KafkaConfig::new(brokers), &topic, POLL);
        let served = tokio::task::spawn_blocking(move || {
            serve(&consumer, &AtomicBool::new(false), lookout);
        });
        let ended = tokio::time::timeout(Duration::from_secs(60), served).await;
        ended.expect("it notices").expect("and does not panic");
        assert!(seen.changed().await.is_err(), "nobody assigns any more");
    }
}
