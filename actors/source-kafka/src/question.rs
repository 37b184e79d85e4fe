//! What the brokers are asked: the topic's identity and the ends of a
//! partition. Every question blocks, for the client's deadline at most.

use std::time::Duration;
use std::time::Instant;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::helpers::rd_kafka_resp_err_t_to_rdkafka_error as code_of;
use refold_domain::log::TopicIdentity;
use refold_domain::log::Watermarks;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::source::SourceError;

use crate::client::Client;
use crate::failure;

/// Pause before a question goes out again after a broker said that it does not
/// lead the partition; librdkafka's own `retry.backoff.ms` has this default.
const LEADER_BACKOFF: Duration = Duration::from_millis(100);

/// What the topic is. Ask with a fresh client: one that has run for long may
/// know the cluster by the name of an earlier answer.
pub(crate) fn identity(client: &Client, topic: &str) -> Result<TopicIdentity, SourceError> {
    let partitions = partition_count(client, topic)?;
    let cluster_id = client
        .consumer()
        .client()
        .fetch_cluster_id(client.deadline())
        .ok_or_else(|| unanswered(client, "the cluster's id is not known"))?;
    client.serve();
    client.check_log()?;
    Ok(TopicIdentity {
        cluster_id,
        topic: topic.to_owned(),
        topic_id: client.topic_id(),
        partitions,
    })
}

/// How many partitions the topic has now.
pub(crate) fn partition_count(client: &Client, topic: &str) -> Result<i32, SourceError> {
    let metadata = client
        .consumer()
        .fetch_metadata(Some(topic), client.deadline())
        .map_err(|error| failed(client, topic, &error))?;
    let Some(described) = metadata.topics().iter().find(|t| t.name() == topic) else {
        return Err(SourceError::TopicMissing(topic.to_owned()));
    };
    match described.error().map(code_of) {
        None => {}
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
            return Err(SourceError::TopicMissing(topic.to_owned()));
        }
        Some(Code::TopicAuthorizationFailed) => {
            return Err(SourceError::Fatal(format!(
                "the broker does not let this client read topic {topic}"
            )));
        }
        Some(other) => {
            return Err(SourceError::Unreachable(format!(
                "topic {topic} is not ready: {other}"
            )));
        }
    }
    match i32::try_from(described.partitions().len()) {
        Ok(count) if count > 0 => Ok(count),
        // A topic that was created this moment is known before its partitions are.
        _ => Err(SourceError::Unreachable(format!(
            "topic {topic} has no partition yet"
        ))),
    }
}

/// The ends of a partition now. With `read_committed` the broker answers the
/// last stable offset as the end: records of transactions that are still open
/// lie behind it. A broker that is not the leader, or not yet, is asked again
/// until the client's deadline.
pub(crate) fn watermarks(
    client: &Client,
    topic: &str,
    partition: Partition,
) -> Result<Watermarks, SourceError> {
    let begun = Instant::now();
    loop {
        let left = client.deadline().saturating_sub(begun.elapsed());
        match client.consumer().fetch_watermarks(topic, partition.0, left) {
            Ok((low, high)) => {
                return Ok(Watermarks {
                    low: Offset(low),
                    high: Offset(high),
                });
            }
            // The question itself does not wait for a leader: metadata of a topic
            // that was created or moved this moment names one that does not lead.
            Err(error) if leads_elsewhere(&error) && left > LEADER_BACKOFF => {
                std::thread::sleep(LEADER_BACKOFF);
            }
            Err(error) => return Err(missing_or(client, topic, partition, &error)),
        }
    }
}

/// Whether the asked broker does not lead the partition, which passes.
fn leads_elsewhere(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::NotLeaderForPartition
                | Code::FencedLeaderEpoch
                | Code::UnknownLeaderEpoch
                | Code::OffsetNotAvailable
        )
    )
}

/// A failed question about a partition: is the topic or the partition missing?
fn missing_or(
    client: &Client,
    topic: &str,
    partition: Partition,
    error: &KafkaError,
) -> SourceError {
    let unknown = matches!(
        error.rdkafka_error_code(),
        Some(
            Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::UnknownPartition
                | Code::LeaderNotAvailable
                | Code::UnknownTopicId
        )
    );
    if !unknown {
        return failed(client, topic, error);
    }
    match partition_count(client, topic) {
        Err(error) => error,
        Ok(count) if partition.0 >= count || partition.0 < 0 => {
            no_partition(topic, partition, count)
        }
        Ok(_) => failed(client, topic, error),
    }
}

/// The error for a partition that the topic does not have.
pub(crate) fn no_partition(topic: &str, partition: Partition, count: i32) -> SourceError {
    SourceError::Fatal(format!(
        "topic {topic} has no partition {partition}: it has {count}, counted from 0"
    ))
}

fn failed(client: &Client, topic: &str, error: &KafkaError) -> SourceError {
    unanswered(client, &format!("topic {topic}: {error}"))
}

/// An error for a question without an answer, with what the client said
/// meanwhile, which usually names the cause.
fn unanswered(client: &Client, what: &str) -> SourceError {
    client.serve();
    let at = client.brokers();
    match client.last_error() {
        Some((code, line)) if failure::is_refusal(code) => SourceError::Fatal(format!(
            "the kafka brokers at {at} refuse this client: {line}"
        )),
        Some((_, line)) => SourceError::Unreachable(format!("{what} at {at} ({line})")),
        None => SourceError::Unreachable(format!("{what} at {at}")),
    }
}
