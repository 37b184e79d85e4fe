//! The kinds of faults.

use std::fmt;
use std::str::FromStr;

/// What a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// One projector process.
    Projector,
    /// All projectors' sessions and connections with a server, or the server itself.
    Servers,
    /// The registry: which version serves.
    Registry,
}

/// How an actor fails at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actors {
    /// It panics.
    Panic,
    /// A stage fails with an error.
    Error,
    /// A stage lasts longer.
    Delay,
    /// Its process is killed there.
    Kill,
    /// Its process is stopped there.
    Stop,
}

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An actor panics in the middle of a batch.
    ActorPanic,
    /// A stage of a batch fails with an error.
    ActorError,
    /// A stage of a batch lasts longer.
    ActorDelay,
    /// SIGKILL for a projector, at any moment.
    ProjectorKill,
    /// SIGKILL for a projector, at a named point of a batch.
    ProjectorKillMidBatch,
    /// SIGTERM for a projector.
    ProjectorTerm,
    /// SIGSTOP for a projector, and SIGCONT before anybody takes over.
    ProjectorPause,
    /// SIGSTOP at a named point of a batch; SIGCONT when another one has taken over.
    ProjectorZombie,
    /// SIGKILL for the broker.
    BrokerKill,
    /// SIGSTOP for the broker.
    BrokerPause,
    /// SIGKILL for the database server.
    PostgresKill,
    /// SIGSTOP for the database server and its sessions.
    PostgresPause,
    /// The projectors' sessions are ended by the server.
    SessionsTerminated,
    /// Connections with the database are reset.
    PostgresReset,
    /// Nothing passes between projectors and database.
    PostgresBlackhole,
    /// All that passes between projectors and database comes later.
    PostgresLatency,
    /// Little passes between projectors and database.
    PostgresBandwidth,
    /// All that passes between projectors and database comes in small pieces.
    PostgresSlice,
    /// A connection is reset in front of its COMMIT, which never arrives.
    CommitLost,
    /// A connection is reset when its COMMIT is in and the answer is on its way.
    AnswerLost,
    /// Connections with the broker are reset.
    KafkaReset,
    /// Nothing passes between projectors and broker.
    KafkaBlackhole,
    /// All that passes between projectors and broker comes later.
    KafkaLatency,
    /// Little passes between projectors and broker.
    KafkaBandwidth,
    /// All that passes between projectors and broker comes in small pieces.
    KafkaSlice,
    /// Another version is promoted, or rolled back.
    Switch,
}

/// A kind's word, how long it lasts by default in milliseconds (where it lasts), and what it does.
type Row = (Kind, &'static str, Option<[u64; 2]>, &'static str);

const TABLE: [Row; 26] = [
    (
        Kind::ActorPanic,
        "actor-panic",
        None,
        "an actor panics at a named point of a batch",
    ),
    (
        Kind::ActorError,
        "actor-error",
        None,
        "a stage of a batch fails with an error",
    ),
    (
        Kind::ActorDelay,
        "actor-delay",
        Some([500, 3_000]),
        "a stage of a batch lasts longer",
    ),
    (
        Kind::ProjectorKill,
        "projector-kill",
        None,
        "SIGKILL for a projector process, at any moment",
    ),
    (
        Kind::ProjectorKillMidBatch,
        "projector-kill-mid-batch",
        None,
        "SIGKILL for a projector process at a named point of a batch",
    ),
    (
        Kind::ProjectorTerm,
        "projector-term",
        None,
        "SIGTERM for a projector process, which drains and is started again",
    ),
    (
        Kind::ProjectorPause,
        "projector-pause",
        Some([500, 3_000]),
        "SIGSTOP for a projector process, then SIGCONT",
    ),
    (
        Kind::ProjectorZombie,
        "projector-zombie",
        None,
        "SIGSTOP at a named point of a batch; another process takes over; SIGCONT, and the first must be fenced off",
    ),
    (
        Kind::BrokerKill,
        "broker-kill",
        None,
        "SIGKILL for the broker, which is started again",
    ),
    (
        Kind::BrokerPause,
        "broker-pause",
        Some([500, 3_000]),
        "SIGSTOP for the broker, then SIGCONT",
    ),
    (
        Kind::PostgresKill,
        "postgres-kill",
        None,
        "SIGKILL for the database server, which is started again and recovers",
    ),
    (
        Kind::PostgresPause,
        "postgres-pause",
        Some([500, 3_000]),
        "SIGSTOP for the database server and its sessions, then SIGCONT",
    ),
    (
        Kind::SessionsTerminated,
        "sessions-terminated",
        None,
        "pg_terminate_backend for every session that owns a partition",
    ),
    (
        Kind::PostgresReset,
        "postgres-reset",
        None,
        "every connection between projectors and database is reset",
    ),
    (
        Kind::PostgresBlackhole,
        "postgres-blackhole",
        Some([500, 3_000]),
        "nothing passes between projectors and database",
    ),
    (
        Kind::PostgresLatency,
        "postgres-latency",
        Some([1_000, 3_000]),
        "what passes between projectors and database is 50 to 250 ms late",
    ),
    (
        Kind::PostgresBandwidth,
        "postgres-bandwidth",
        Some([1_000, 3_000]),
        "256 KiB a second and connection pass between projectors and database",
    ),
    (
        Kind::PostgresSlice,
        "postgres-slice",
        Some([1_000, 3_000]),
        "what passes between projectors and database comes in pieces of a few bytes",
    ),
    (
        Kind::CommitLost,
        "commit-lost",
        None,
        "a connection is reset in front of its COMMIT, which never arrives",
    ),
    (
        Kind::AnswerLost,
        "answer-lost",
        None,
        "a connection is reset between a COMMIT that is in and its answer",
    ),
    (
        Kind::KafkaReset,
        "kafka-reset",
        None,
        "every connection between projectors and broker is reset",
    ),
    (
        Kind::KafkaBlackhole,
        "kafka-blackhole",
        Some([500, 3_000]),
        "nothing passes between projectors and broker",
    ),
    (
        Kind::KafkaLatency,
        "kafka-latency",
        Some([1_000, 3_000]),
        "what passes between projectors and broker is 50 to 250 ms late",
    ),
    (
        Kind::KafkaBandwidth,
        "kafka-bandwidth",
        Some([1_000, 3_000]),
        "256 KiB a second and connection pass between projectors and broker",
    ),
    (
        Kind::KafkaSlice,
        "kafka-slice",
        Some([1_000, 3_000]),
        "what passes between projectors and broker comes in pieces of a few bytes",
    ),
    (
        Kind::Switch,
        "switch",
        None,
        "another version is promoted in the middle, or rolled back",
    ),
];

impl Kind {
    /// All kinds.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    fn row(self) -> &'static Row {
        // Every kind has its row: a test looks.
        let found = TABLE.iter().find(|row| row.0 == self);
        found.unwrap_or(&TABLE[0])
    }

    /// Its word in scenarios and reports.
    pub fn word(self) -> &'static str {
        self.row().1
    }

    /// How long it lasts unless a scenario says otherwise, in milliseconds `[least, most]`;
    /// `None` where it is over when it is done.
    pub fn lasts_ms(self) -> Option<[u64; 2]> {
        self.row().2
    }

    /// What it does, for people.
    pub fn tells(self) -> &'static str {
        self.row().3
    }

    /// What it hits.
    pub fn victim(self) -> Victim {
        match self {
            Self::ProjectorKill | Self::ProjectorTerm | Self::ProjectorPause => Victim::Projector,
            Self::Switch => Victim::Registry,
            _ if self.at_a_point().is_some() => Victim::Projector,
            _ => Victim::Servers,
        }
    }

    /// What happens to an actor at a named point of its work; `None` for a kind that has no point.
    pub fn at_a_point(self) -> Option<Actors> {
        match self {
            Self::ActorPanic => Some(Actors::Panic),
            Self::ActorError => Some(Actors::Error),
            Self::ActorDelay => Some(Actors::Delay),
            Self::ProjectorKillMidBatch => Some(Actors::Kill),
            Self::ProjectorZombie => Some(Actors::Stop),
            _ => None,
        }
    }

    /// Whether it can happen while the new version is built: nothing can be promoted by then.
    pub fn fits_a_build(self) -> bool {
        self.victim() != Victim::Registry
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::all().find(|kind| kind.word() == text).ok_or_else(|| {
            let known: Vec<_> = Self::all().map(Self::word).collect();
            format!("there is no fault {text:?}; there are {}", known.join(", "))
        })
    }
}

impl TryFrom<String> for Kind {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_a_word_of_its_own_that_reads_back() {
        let words: BTreeSet<_> = Kind::all().map(Kind::word).collect();
        assert_eq!(words.len(), TABLE.len());
        for kind in Kind::all() {
            assert_eq!(kind.word().parse(), Ok(kind));
        }
        let refused = "explode".parse::<Kind>().expect_err("no such fault");
        assert!(words.iter().all(|word| refused.contains(word)), "{refused}");
    }

    #[test]
    fn kinds_at_a_point_hit_a_projector_and_a_switch_waits_for_the_build() {
        assert_eq!(Kind::ActorPanic.victim(), Victim::Projector);
        assert_eq!(Kind::BrokerKill.victim(), Victim::Servers);
        assert!(!Kind::Switch.fits_a_build());
        assert!(Kind::AnswerLost.fits_a_build());
    }
}
