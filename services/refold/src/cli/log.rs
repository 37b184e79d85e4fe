//! The log: a Kafka topic, or a table in Postgres.

use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;

use super::Count;
use super::Failure;
use super::Format;

/// Which log, and in which form its events are.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// Kafka brokers of the log, host:port, separated by commas.
    #[arg(long, env = "REFOLD_BROKERS")]
    pub brokers: Option<String>,
    /// Where the log is a table in Postgres instead: its address as a URL or key=value list, without
    /// a password. `refold event-table create` makes such a table.
    #[arg(long, env = "REFOLD_EVENT_STORE", value_name = "POSTGRES")]
    pub event_store: Option<String>,
    /// File that holds the password of -event-store.
    #[arg(long, env = "REFOLD_EVENT_STORE_PASSWORD_FILE", value_name = "PATH")]
    pub event_store_password_file: Option<PathBuf>,
    /// The topic, or the event table, that holds the events.
    #[arg(long, env = "REFOLD_TOPIC", default_value = "accounts-events")]
    pub topic: String,
    /// Wire form of the events.
    #[arg(long, env = "REFOLD_FORMAT", value_enum, default_value_t = Format::Proto)]
    pub format: Format,
}

/// Where a log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogAddress<'a> {
    /// Kafka brokers.
    Brokers(&'a str),
    /// A Postgres server.
    EventStore(&'a str),
}

impl LogArgs {
    /// Where the log is; `None` where no flag says so.
    ///
    /// # Errors
    /// A usage failure when two places are named.
    pub fn address_if_any(&self) -> Result<Option<LogAddress<'_>>, Failure> {
        match (&self.brokers, &self.event_store) {
            (Some(_), Some(_)) => Err(Failure::usage(
                "-brokers and -event-store name two logs (REFOLD_BROKERS and REFOLD_EVENT_STORE count as well); name one",
            )),
            (Some(brokers), None) => Ok(Some(LogAddress::Brokers(brokers))),
            (None, Some(store)) => Ok(Some(LogAddress::EventStore(store))),
            (None, None) => Ok(None),
        }
    }

    /// Where the log is.
    ///
    /// # Errors
    /// A usage failure when no place is named, or two.
    pub fn address(&self) -> Result<LogAddress<'_>, Failure> {
        self.address_if_any()?.ok_or_else(|| {
            Failure::usage("the log is wanted: -brokers for a Kafka topic, -event-store for a table in Postgres")
        })
    }

    /// The brokers, for what only a Kafka topic has; `what` names it.
    ///
    /// # Errors
    /// A usage failure when the log is an event table, or none is named.
    pub fn brokers(&self, what: &str) -> Result<&str, Failure> {
        match self.address()? {
            LogAddress::Brokers(brokers) => Ok(brokers),
            LogAddress::EventStore(_) => Err(Failure::usage(format!(
                "{what} needs a Kafka topic: -event-store does not have it"
            ))),
        }
    }
}

/// `event-table`
#[derive(Debug, Args)]
pub struct EventTableArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: EventTable,
    /// The Postgres server of the table, as a URL or key=value list, without a password.
    #[arg(
        long,
        env = "REFOLD_EVENT_STORE",
        value_name = "POSTGRES",
        global = true
    )]
    pub event_store: Option<String>,
    /// File that holds the password.
    #[arg(
        long,
        env = "REFOLD_EVENT_STORE_PASSWORD_FILE",
        value_name = "PATH",
        global = true
    )]
    pub event_store_password_file: Option<PathBuf>,
}

/// What there is to do with an event table.
#[derive(Debug, Clone, Subcommand)]
pub enum EventTable {
    /// Create an event table, empty, with what makes it a log.
    Create {
        /// Its name.
        name: String,
        /// How many partitions it has, for ever: a key's partition depends on it.
        #[arg(long, default_value_t = 64)]
        partitions: i32,
    },
    /// Delete the events below an offset, in all partitions. A version that is behind it has to be rebuilt.
    DeleteBelow {
        /// The table's name.
        name: String,
        /// The first offset that is kept.
        offset: Count,
    },
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;
    use crate::cli::Command;
    use crate::cli::Kind;
    use crate::cli::normalise;

    fn log(flags: &[&str]) -> LogArgs {
        let fixed = [
            "refold",
            "as-of",
            "7",
            "-version",
            "accounts_v3",
            "-seq",
            "1",
        ];
        let all = fixed.iter().chain(flags).map(ToString::to_string);
        let cli =
            Cli::try_parse_from(normalise(all.collect::<Vec<String>>())).expect("legal flags");
        match cli.command {
            Command::AsOf(args) => args.log,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_log_is_named_and_no_other() {
        let kafka = log(&["-brokers", "b:1"]);
        assert_eq!(kafka.address().ok(), Some(LogAddress::Brokers("b:1")));
        let table = log(&["-event-store=postgres://h/d"]);
        let at = LogAddress::EventStore("postgres://h/d");
        assert_eq!(table.address().ok(), Some(at));
        for flags in [
            &[][..],
            &["-brokers", "b:1", "-event-store", "postgres://h/d"],
        ] {
            let refused = log(flags).address().expect_err("none or two");
            assert_eq!(refused.kind, Kind::Usage, "{refused}");
        }
        assert!(log(&[]).address_if_any().is_ok_and(|none| none.is_none()));
        let refused = table.brokers("-group").expect_err("no topic");
        assert!(refused.to_string().starts_with("-group needs"), "{refused}");
    }
}
