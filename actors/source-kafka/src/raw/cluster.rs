//! Where a partition is led, and whether it is still the same log.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use refold_domain::log::Watermarks;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::source::SourceError;

use super::connection::Connection;
use super::fault;
use super::fault::Failure;
use super::fault::Verdict;
use super::message::ClusterMetadata;
use super::message::End;
use super::message::ListOffsets;
use super::message::Metadata;
use super::message::NO_ID;
use super::message::TopicId;
use super::message::TopicMetadata;
use super::options::Address;
use super::options::Options;
use crate::question;

/// A broker that is asked where a partition is led gets at least this long,
/// however many others are left to ask.
const SHORTEST_TRY: Duration = Duration::from_millis(200);

/// A partition's leader, ready to be asked.
pub(crate) struct Leader {
    pub(crate) connection: Connection,
    pub(crate) epoch: i32,
}

/// What a reader knows of the cluster that its partition is in.
pub(crate) struct Cluster {
    options: Arc<Options>,
    topic: Arc<str>,
    partition: Partition,
    /// Brokers that the cluster named last; asked before the bootstrap brokers.
    known: Vec<Address>,
    /// The first answer's; another one later is another log.
    cluster_id: Option<String>,
    topic_id: TopicId,
    /// Highest leader epoch that was seen: a broker that knows a lower one only is behind.
    epoch: i32,
}

impl Cluster {
    pub(crate) fn new(options: Arc<Options>, topic: Arc<str>, partition: Partition) -> Self {
        Self {
            options,
            topic,
            partition,
            known: Vec::new(),
            cluster_id: None,
            topic_id: NO_ID,
            epoch: super::message::NO_EPOCH,
        }
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    pub(crate) fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    pub(crate) fn partition(&self) -> Partition {
        self.partition
    }

    /// Asks one broker after another where the partition is led, and connects there.
    pub(crate) fn find_leader(&mut self, deadline: Instant) -> Result<Leader, Failure> {
        let mut addresses = self.known.clone();
        for address in &self.options.bootstrap {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        // The same broker first every time would carry all readers' questions.
        let turn = fastrand::usize(..addresses.len());
        addresses.rotate_left(turn);
        let mut failures = Vec::new();
        for (at, address) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / (addresses.len() - at) as u32;
            let until = Instant::now() + share.max(SHORTEST_TRY);
            match self.ask_for_leader(address, until) {
                Ok((node, connection)) => return self.connect(&node, connection, deadline),
                Err(failure @ Failure::Final(_)) => return Err(failure),
                Err(Failure::Passing(what)) => failures.push(what),
            }
        }
        Err(Failure::Passing(failures.join("; ")))
    }

    /// The leader's address, and the connection that told it.
    fn ask_for_leader(
        &mut self,
        address: &Address,
        until: Instant,
    ) -> Result<(Address, Connection), Failure> {
        let mut connection = Connection::open(address, &self.options, until)?;
        let request = Metadata { topic: &self.topic };
        let metadata = connection.ask(&request, until)?;
        let leader = self.learn(metadata)?;
        Ok((leader, connection))
    }

    fn connect(
        &self,
        leader: &Address,
        asked: Connection,
        deadline: Instant,
    ) -> Result<Leader, Failure> {
        let connection = if asked.address() == leader {
            asked
        } else {
            drop(asked);
            Connection::open(leader, &self.options, deadline)?
        };
        Ok(Leader {
            connection,
            epoch: self.epoch,
        })
    }

    /// Takes over what a broker knows; answers the leader's address.
    fn learn(&mut self, metadata: ClusterMetadata) -> Result<Address, Failure> {
        self.check_cluster(&metadata)?;
        let topic = metadata
            .topics
            .into_iter()
            .find(|topic| topic.name == *self.topic);
        let Some(topic) = topic else {
            return Err(Failure::Passing(format!(
                "topic {} is not in the answer of the broker that was asked for it",
                self.topic
            )));
        };
        self.check_topic(&topic)?;
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        if count == 0 {
            // A topic that was created this moment is known before its partitions are.
            let what = format!("topic {} has no partition yet", self.topic);
            return Err(Failure::Passing(what));
        }
        let mut partitions = topic.partitions.into_iter();
        let Some(led) = partitions.find(|led| led.partition == self.partition.0) else {
            let error = question::no_partition(&self.topic, self.partition, count);
            return Err(Failure::Final(error));
        };
        if led.epoch >= 0 && led.epoch < self.epoch {
            return Err(Failure::Passing(format!(
                "{} is known at leader epoch {} there, and was led at {} before",
                self.partition, led.epoch, self.epoch
            )));
        }
        let mut brokers = metadata.brokers.into_iter();
        let address = |broker: &super::message::Broker| Address {
            host: broker.host.clone(),
            port: u16::try_from(broker.port).unwrap_or(0),
        };
        self.known = brokers.clone().map(|broker| address(&broker)).collect();
        let Some(leader) = brokers.find(|broker| broker.node == led.node) else {
            let reason = fault::describe(led.code);
            return Err(Failure::Passing(format!(
                "{} has no leader now: {reason}",
                self.partition
            )));
        };
        self.epoch = led.epoch;
        Ok(address(&leader))
    }

    fn check_cluster(&mut self, metadata: &ClusterMetadata) -> Result<(), Failure> {
        match (&self.cluster_id, &metadata.cluster_id) {
            (Some(before), Some(now)) if before != now => Err(another_log(format!(
                "cluster {now} answers where cluster {before} was"
            ))),
            (None, Some(now)) => {
                self.cluster_id = Some(now.clone());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn check_topic(&mut self, topic: &TopicMetadata) -> Result<(), Failure> {
        match fault::judge(topic.code) {
            Verdict::Fine => {}
            Verdict::TopicGone => {
                let missing = SourceError::TopicMissing(self.topic.to_string());
                return Err(Failure::Final(missing));
            }
            Verdict::Fatal => {
                return Err(Failure::fatal(format!(
                    "the broker does not describe topic {}: {}",
                    self.topic,
                    fault::describe(topic.code)
                )));
            }
            _ => {
                return Err(Failure::Passing(format!(
                    "topic {} is not ready: {}",
                    self.topic,
                    fault::describe(topic.code)
                )));
            }
        }
        if self.topic_id == NO_ID {
            self.topic_id = topic.id;
        } else if topic.id != self.topic_id && topic.id != NO_ID {
            return Err(another_log(format!(
                "topic {} was deleted and created again: its id is {}, and was {}",
                self.topic,
                STANDARD_NO_PAD.encode(topic.id),
                STANDARD_NO_PAD.encode(self.topic_id)
            )));
        }
        Ok(())
    }

    /// The ends of the partition, asked from its leader.
    pub(crate) fn ends(
        &self,
        leader: &mut Leader,
        deadline: Instant,
    ) -> Result<Watermarks, Failure> {
        let mut end = |end| {
            let request = ListOffsets {
                topic: &self.topic,
                partition: self.partition.0,
                epoch: leader.epoch,
                end,
            };
            let (code, offset) = leader.connection.ask(&request, deadline)?;
            match fault::judge(code) {
                Verdict::Fine => Ok(Offset(offset)),
                Verdict::Fatal => Err(Failure::fatal(format!(
                    "the broker does not tell the ends of {} of topic {}: {}",
                    self.partition,
                    self.topic,
                    fault::describe(code)
                ))),
                _ => Err(Failure::Passing(format!(
                    "the ends of {} are not known now: {}",
                    self.partition,
                    fault::describe(code)
                ))),
            }
        };
        Ok(Watermarks {
            low: end(End::Low)?,
            high: end(End::High)?,
        })
    }
}

fn another_log(reason: String) -> Failure {
    Failure::fatal(format!(
        "this is not the log that was read before: {reason}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KafkaConfig;
    use crate::raw::message::Broker;
    use crate::raw::message::PartitionLeader;
    use crate::raw::options::Choice;

    fn cluster(partition: i32) -> Cluster {
        let choice = Options::choose(&KafkaConfig::new("127.0.0.1:1"));
        let Ok(Choice::Raw(options)) = choice else {
            panic!("{choice:?}")
        };
        Cluster::new(options, "t".into(), Partition(partition))
    }

    fn metadata(cluster_id: &str, topic_id: TopicId, node: i32, epoch: i32) -> ClusterMetadata {
        ClusterMetadata {
            brokers: vec![Broker {
                node: 1,
                host: "b".to_owned(),
                port: 9,
            }],
            cluster_id: Some(cluster_id.to_owned()),
            topics: vec![TopicMetadata {
                code: 0,
                name: "t".to_owned(),
                id: topic_id,
                partitions: vec![PartitionLeader {
                    code: 0,
                    partition: 0,
                    node,
                    epoch,
                }],
            }],
        }
    }

    #[test]
    fn another_cluster_or_topic_id_is_another_log() {
        let mut known = cluster(0);
        let leader = known.learn(metadata("c", [1; 16], 1, 4));
        assert_eq!(leader.map(|at| at.to_string()), Ok("b:9".to_owned()));
        for other in [metadata("d", [1; 16], 1, 4), metadata("c", [2; 16], 1, 4)] {
            let refused = known.learn(other);
            assert!(
                matches!(&refused, Err(Failure::Final(SourceError::Fatal(text)))
                    if text.contains("not the log")),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn an_older_epoch_and_a_missing_leader_pass() {
        let mut known = cluster(0);
        known.learn(metadata("c", [1; 16], 1, 4)).expect("a leader");
        for behind in [metadata("c", [1; 16], 1, 3), metadata("c", [1; 16], -1, 5)] {
            let passing = known.learn(behind);
            assert!(matches!(passing, Err(Failure::Passing(_))), "{passing:?}");
        }
    }

    #[test]
    fn a_partition_that_the_topic_lacks_is_final() {
        for partition in [1, -1] {
            let refused = cluster(partition).learn(metadata("c", [1; 16], 1, 0));
            assert!(matches!(
                refused,
                Err(Failure::Final(SourceError::Fatal(_)))
            ));
        }
        let mut missing = metadata("c", [0; 16], 1, 0);
        missing.topics[0].code = 3;
        assert_eq!(
            cluster(0).learn(missing),
            Err(Failure::Final(SourceError::TopicMissing("t".to_owned())))
        );
    }
}
