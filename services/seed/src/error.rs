//! What stops a seed, a tail or a question to the oracle.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::params::{InvalidParams, SeedParams};

/// Why a command did not do what was asked. Every message is one sentence for
/// the person at the terminal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeedError {
    /// The parameters describe no log.
    #[error(transparent)]
    Params(#[from] InvalidParams),
    /// The broker did not answer, or refused.
    #[error("cannot {doing} at {brokers}: {source}")]
    Broker {
        /// What was tried, as a verb and its object.
        doing: &'static str,
        /// Bootstrap servers.
        brokers: String,
        /// The client's error.
        source: KafkaError,
    },
    /// There is no such topic.
    #[error("topic {0} does not exist")]
    NoTopic(String),
    /// The topic exists with another number of partitions.
    #[error("topic {topic} has {found} partitions, not {wanted}: choose another topic")]
    Partitions {
        /// The topic.
        topic: String,
        /// Partitions it has.
        found: u32,
        /// Partitions asked for.
        wanted: u32,
    },
    /// The topic was seeded with other parameters.
    #[error("topic {topic} was seeded with other parameters ({stored:?}): choose another topic")]
    OtherParams {
        /// The topic.
        topic: String,
        /// Parameters stored beside it.
        stored: Box<SeedParams>,
    },
    /// What the topic holds is not this log.
    #[error("topic {topic} holds something else at partition {partition}, offset {offset}")]
    OtherLog {
        /// The topic.
        topic: String,
        /// Partition of the record.
        partition: u32,
        /// Offset of the record.
        offset: u64,
    },
    /// The beginning of the log is gone.
    #[error("partition {partition} of {topic} begins at offset {start}: its history was deleted")]
    Truncated {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// Its first offset.
        start: u64,
    },
    /// The end offsets keep moving although nothing of ours writes.
    #[error("another producer is writing to {0}: its end offsets keep moving")]
    StillMoving(String),
    /// A record landed at another offset than its place in the stream.
    #[error(
        "partition {partition} acknowledged offset {found} where the stream has {expected}: \
         another producer wrote to this topic, delete it and seed again"
    )]
    Displaced {
        /// The partition.
        partition: u32,
        /// Offset that the broker gave.
        found: i64,
        /// Offset that the record has in the stream.
        expected: u64,
    },
    /// A record could not be delivered.
    #[error("partition {partition} took no more records: {source}")]
    Delivery {
        /// The partition.
        partition: u32,
        /// The client's error.
        source: KafkaError,
    },
    /// The leader of a partition cannot be reached, or hung up.
    #[error(
        "partition {partition} took no more records: the connection to {brokers} broke: {source}"
    )]
    Connection {
        /// The partition.
        partition: u32,
        /// Bootstrap servers.
        brokers: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The broker refuses a batch, for a reason that does not pass.
    #[error(
        "partition {partition} took no more records: the broker refused a batch with Kafka's \
         error code {code}"
    )]
    RefusedBatch {
        /// The partition.
        partition: u32,
        /// The protocol's error code.
        code: i16,
    },
    /// A broker came back with less than it had acknowledged.
    #[error(
        "partition {partition} of {topic} ends at offset {end} although the records below \
         {acknowledged} were acknowledged: the broker lost them; the same command writes them again"
    )]
    Receded {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// Where it ends.
        end: u64,
        /// Where it should end at least.
        acknowledged: u64,
    },
    /// Nothing beside the topic says how it was seeded.
    #[error("no seed parameters are stored beside topic {0}: give them as flags")]
    NoParams(String),
    /// The stored parameters cannot be read.
    #[error("the seed parameters stored beside topic {topic} cannot be read: {source}")]
    BadParams {
        /// The topic.
        topic: String,
        /// What is wrong with them.
        source: serde_json::Error,
    },
    /// There is no such aggregate, or it has no such version at that point.
    #[error("aggregate {id} has no version {version} below the given offsets")]
    NoSuchState {
        /// The aggregate.
        id: i64,
        /// The version asked for.
        version: u64,
    },
    /// There is no such aggregate, or it has no event at that point.
    #[error("aggregate {0} has no event below the given offsets")]
    NoSuchAggregate(i64),
    /// A vector of offsets does not fit the log.
    #[error("{found} offsets given for {wanted} partitions")]
    Offsets {
        /// Offsets given.
        found: usize,
        /// Partitions of the log.
        wanted: u32,
    },
    /// The output could not be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
}

/// Whose move it is after a [`SeedError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The flags ask for something that does not exist or makes no sense.
    Usage,
    /// The topic holds something that must not be overwritten.
    Refused,
    /// No broker answers.
    Unreachable,
    /// Something went wrong on the way.
    Failed,
}

impl SeedError {
    /// Whose move it is: what an exit code should tell.
    pub fn cause(&self) -> Cause {
        match self {
            SeedError::Params(_)
            | SeedError::NoTopic(_)
            | SeedError::NoParams(_)
            | SeedError::NoSuchState { .. }
            | SeedError::NoSuchAggregate(_)
            | SeedError::Offsets { .. } => Cause::Usage,
            SeedError::Partitions { .. }
            | SeedError::OtherParams { .. }
            | SeedError::OtherLog { .. }
            | SeedError::Truncated { .. }
            | SeedError::StillMoving(_)
            | SeedError::Displaced { .. } => Cause::Refused,
            SeedError::Broker { source, .. } | SeedError::Delivery { source, .. } => {
                match source.rdkafka_error_code() {
                    Some(
                        RDKafkaErrorCode::BrokerTransportFailure
                        | RDKafkaErrorCode::AllBrokersDown
                        | RDKafkaErrorCode::OperationTimedOut
                        | RDKafkaErrorCode::MessageTimedOut
                        | RDKafkaErrorCode::Resolve,
                    ) => Cause::Unreachable,
                    _ => Cause::Failed,
                }
            }
            SeedError::Connection { .. } => Cause::Unreachable,
            SeedError::BadParams { .. }
            | SeedError::Output(_)
            | SeedError::RefusedBatch { .. }
            | SeedError::Receded { .. } => Cause::Failed,
        }
    }
}
