//! How the server of an event table is reached.

use std::time::Duration;

use tokio_postgres::Config;

/// Longest name of an event table; Postgres cuts a longer one off where the name of its sequence is made from it.
const NAME_BYTES: usize = 50;

/// What is wrong with the words of a user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventStoreError {
    /// The connection string.
    #[error("read the connection string: {0}")]
    Dsn(String),
    /// The table's name.
    #[error(
        "`{0}` is not the name of an event table: 1 to {NAME_BYTES} letters, digits, `_`, `-` or `.`, and not `logs`"
    )]
    Name(String),
}

/// How the server is reached and how long it may take to answer.
#[derive(Debug, Clone)]
pub struct EventStoreOptions {
    /// Where the server is and who we are there. Its `Debug` form hides the password.
    pub config: Config,
    /// Longest wait for one answer, enforced by the client: nothing on the server fires for a
    /// stopped backend.
    pub deadline: Duration,
}

impl EventStoreOptions {
    /// Options for a connection URL or key-value string, with a deadline of 10 seconds.
    ///
    /// # Errors
    /// [`EventStoreError::Dsn`] when the string cannot be read.
    pub fn parse(dsn: &str) -> Result<Self, EventStoreError> {
        let config = dsn.parse();
        let config = config.map_err(|error: tokio_postgres::Error| {
            let source = std::error::Error::source(&error);
            let why = source.map_or_else(|| error.to_string(), ToString::to_string);
            EventStoreError::Dsn(why)
        })?;
        Ok(Self {
            config,
            deadline: Duration::from_secs(10),
        })
    }
}

/// A name that can stand between double quotes, and leaves room for that of its sequence.
pub(crate) fn check_name(name: &str) -> Result<(), EventStoreError> {
    let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    let fits = (1..=NAME_BYTES).contains(&name.len());
    match fits && name != "logs" && name.bytes().all(legal) {
        true => Ok(()),
        false => Err(EventStoreError::Name(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_cannot_be_quoted_or_is_too_long_is_refused() {
        for name in ["", "a b", "a\"b", "logs", "événements", &"x".repeat(51)] {
            assert!(check_name(name).is_err(), "{name}");
        }
        for name in ["accounts-events", "a.b_c", &"x".repeat(50)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn a_connection_string_that_cannot_be_read_is_refused() {
        let refused = EventStoreOptions::parse("postgres://host:port/db");
        assert!(matches!(refused, Err(EventStoreError::Dsn(_))));
    }
}
