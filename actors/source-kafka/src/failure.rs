//! Which error of a partition means what. One table, so that two call sites
//! cannot disagree about what may be tried again.

use rdkafka::error::RDKafkaErrorCode as Code;

/// What a reader does about an error event of its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not an error: everything up to the end of the log was delivered.
    EndOfLog,
    /// librdkafka goes on by itself; counts only if nothing comes for long.
    Passing,
    /// The broker refuses the offset, and librdkafka has stopped fetching.
    OffsetRefused,
    /// The topic or partition may be gone.
    TopicGone,
    /// Bytes of the log cannot be read. librdkafka would skip over them.
    Corrupt,
    /// Somebody has to act; trying again is pointless.
    Fatal,
}

/// Codes that need more than patience; every other one is [`Verdict::Passing`],
/// because librdkafka retries all of them without moving its position.
const VERDICTS: &[(Code, Verdict)] = &[
    (Code::PartitionEOF, Verdict::EndOfLog),
    (Code::AutoOffsetReset, Verdict::OffsetRefused),
    (Code::OffsetOutOfRange, Verdict::OffsetRefused),
    (Code::UnknownTopic, Verdict::TopicGone),
    (Code::UnknownTopicOrPartition, Verdict::TopicGone),
    (Code::UnknownPartition, Verdict::TopicGone),
    (Code::UnknownTopicId, Verdict::TopicGone),
    // librdkafka reports these for one batch and goes on behind it.
    (Code::BadMessage, Verdict::Corrupt),
    (Code::BadCompression, Verdict::Corrupt),
    (Code::NotImplemented, Verdict::Corrupt),
    // The broker reports this one when its own check fails.
    (Code::InvalidMessage, Verdict::Corrupt),
    (Code::MessageSizeTooLarge, Verdict::Fatal),
    (Code::InvalidMessageSize, Verdict::Fatal),
    // An unclean leader election took records away that were read before.
    (Code::LogTruncation, Verdict::Fatal),
    (Code::TopicAuthorizationFailed, Verdict::Fatal),
    (Code::ClusterAuthorizationFailed, Verdict::Fatal),
    (Code::SaslAuthenticationFailed, Verdict::Fatal),
    (Code::Authentication, Verdict::Fatal),
    (Code::UnsupportedFeature, Verdict::Fatal),
    (Code::Fatal, Verdict::Fatal),
];

/// Judges a code as librdkafka reports it. Brokers newer than the client may
/// send codes that it has no name for.
pub(crate) fn judge(code: i32) -> Verdict {
    VERDICTS
        .iter()
        .find(|(known, _)| *known as i32 == code)
        .map_or(Verdict::Passing, |(_, verdict)| *verdict)
}

/// Whether an error of a whole client is one that waiting does not cure.
pub(crate) fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::SSL
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_librdkafka_would_skip_is_corruption() {
        for code in [Code::BadMessage, Code::BadCompression, Code::NotImplemented] {
            assert_eq!(judge(code as i32), Verdict::Corrupt);
        }
    }

    #[test]
    fn a_lost_broker_and_a_code_without_a_name_pass() {
        for code in [
            Code::AllBrokersDown as i32,
            Code::BrokerTransportFailure as i32,
            Code::NotLeaderForPartition as i32,
            Code::OffsetNotAvailable as i32,
            31_999,
        ] {
            assert_eq!(judge(code), Verdict::Passing);
        }
    }

    #[test]
    fn no_code_is_judged_twice() {
        for (at, (code, _)) in VERDICTS.iter().enumerate() {
            assert!(VERDICTS[at + 1..].iter().all(|(other, _)| other != code));
        }
    }
}
