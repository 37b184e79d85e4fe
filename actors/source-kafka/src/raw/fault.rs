//! What goes wrong between this client and a broker, and which error code of
//! an answer means what. One table, so that no two call sites can disagree.

use refold_ports::source::SourceError;

use super::wire::Malformed;

/// Why a connection or a question came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It may pass: with another connection, or after a while. One sentence.
    Passing(String),
    /// Trying again is pointless.
    Final(SourceError),
}

impl Failure {
    /// A failure that somebody has to act upon.
    pub(crate) fn fatal(sentence: impl Into<String>) -> Self {
        Self::Final(SourceError::Fatal(sentence.into()))
    }
}

impl From<Malformed> for Failure {
    /// Passing: a connection that delivers garbage is given up, and the next one may not.
    fn from(error: Malformed) -> Self {
        Self::Passing(error.to_string())
    }
}

/// What a client does about an error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not an error.
    Fine,
    /// Find the leader again, and go on at the same position.
    Passing,
    /// The position lies outside the leader's log.
    OffsetRefused,
    /// The topic may be gone, or be another one.
    TopicGone,
    /// The broker cannot read its own log.
    Corrupt,
    /// Somebody has to act.
    Fatal,
}

/// Code, its name in the protocol, what it means here, and for a fatal one what to do.
type Known = (i16, &'static str, Verdict, &'static str);

const KNOWN: &[Known] = &[
    (0, "NONE", Verdict::Fine, ""),
    (-1, "UNKNOWN_SERVER_ERROR", Verdict::Passing, ""),
    (1, "OFFSET_OUT_OF_RANGE", Verdict::OffsetRefused, ""),
    (2, "CORRUPT_MESSAGE", Verdict::Corrupt, ""),
    (3, "UNKNOWN_TOPIC_OR_PARTITION", Verdict::TopicGone, ""),
    (
        4,
        "INVALID_FETCH_SIZE",
        Verdict::Fatal,
        "correct fetch.message.max.bytes",
    ),
    (5, "LEADER_NOT_AVAILABLE", Verdict::Passing, ""),
    (6, "NOT_LEADER_OR_FOLLOWER", Verdict::Passing, ""),
    (7, "REQUEST_TIMED_OUT", Verdict::Passing, ""),
    (8, "BROKER_NOT_AVAILABLE", Verdict::Passing, ""),
    (9, "REPLICA_NOT_AVAILABLE", Verdict::Passing, ""),
    (
        10,
        "MESSAGE_TOO_LARGE",
        Verdict::Fatal,
        "raise fetch.message.max.bytes",
    ),
    (13, "NETWORK_EXCEPTION", Verdict::Passing, ""),
    (
        17,
        "INVALID_TOPIC_EXCEPTION",
        Verdict::Fatal,
        "correct -topic",
    ),
    (
        29,
        "TOPIC_AUTHORIZATION_FAILED",
        Verdict::Fatal,
        "grant this client READ and DESCRIBE on the topic",
    ),
    (
        31,
        "CLUSTER_AUTHORIZATION_FAILED",
        Verdict::Fatal,
        "grant this client access to the cluster",
    ),
    (
        33,
        "UNSUPPORTED_SASL_MECHANISM",
        Verdict::Fatal,
        "correct sasl.mechanism",
    ),
    (
        34,
        "ILLEGAL_SASL_STATE",
        Verdict::Fatal,
        "correct security.protocol: this listener wants another one",
    ),
    (
        35,
        "UNSUPPORTED_VERSION",
        Verdict::Fatal,
        "read with -bulk-client=librdkafka",
    ),
    (
        42,
        "INVALID_REQUEST",
        Verdict::Fatal,
        "read with -bulk-client=librdkafka",
    ),
    (
        43,
        "UNSUPPORTED_FOR_MESSAGE_FORMAT",
        Verdict::Fatal,
        "read with -bulk-client=librdkafka",
    ),
    (56, "KAFKA_STORAGE_ERROR", Verdict::Passing, ""),
    (
        58,
        "SASL_AUTHENTICATION_FAILED",
        Verdict::Fatal,
        "correct sasl.username and sasl.password",
    ),
    (74, "FENCED_LEADER_EPOCH", Verdict::Passing, ""),
    (75, "UNKNOWN_LEADER_EPOCH", Verdict::Passing, ""),
    (
        76,
        "UNSUPPORTED_COMPRESSION_TYPE",
        Verdict::Fatal,
        "read with -bulk-client=librdkafka",
    ),
    (78, "OFFSET_NOT_AVAILABLE", Verdict::Passing, ""),
    (100, "UNKNOWN_TOPIC_ID", Verdict::TopicGone, ""),
    (103, "INCONSISTENT_TOPIC_ID", Verdict::TopicGone, ""),
];

fn known(code: i16) -> Option<&'static Known> {
    KNOWN.iter().find(|(known, ..)| *known == code)
}

/// Judges a code. One that a newer broker invented passes, or is reported
/// when the deadline is over.
pub(crate) fn judge(code: i16) -> Verdict {
    known(code).map_or(Verdict::Passing, |(_, _, verdict, _)| *verdict)
}

/// The code in words, with what to do about it if anything can be done.
pub(crate) fn describe(code: i16) -> String {
    match known(code) {
        None => format!("error {code}"),
        Some((_, name, _, "")) => format!("error {code} {name}"),
        Some((_, name, _, advice)) => format!("error {code} {name}; {advice}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_once_and_every_fatal_one_says_what_to_do() {
        for (at, (code, name, verdict, advice)) in KNOWN.iter().enumerate() {
            assert!(KNOWN[at + 1..].iter().all(|(other, ..)| other != code));
            assert_eq!(*verdict == Verdict::Fatal, !advice.is_empty(), "{name}");
        }
    }

    #[test]
    fn the_names_are_those_of_the_protocol() {
        use kafka_protocol::error::ResponseError;
        let squeeze = |name: &str| name.replace('_', "").to_lowercase();
        for (code, name, ..) in KNOWN.iter().filter(|(code, ..)| *code != 0) {
            let theirs = ResponseError::try_from_code(*code).expect("an error");
            assert_eq!(squeeze(name), squeeze(&theirs.to_string()));
        }
    }

    #[test]
    fn a_changed_leader_and_a_code_without_a_name_pass() {
        for code in [5, 6, 74, 75, 31_999] {
            assert_eq!(judge(code), Verdict::Passing);
        }
        assert_eq!(describe(31_999), "error 31999");
    }
}
