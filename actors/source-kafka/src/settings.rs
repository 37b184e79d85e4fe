//! Every librdkafka setting that Refold forces, with its reason. A default
//! that nobody sees is how events get lost.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use crate::config::ConfigError;
use crate::config::KafkaConfig;

/// What a client is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Metadata and watermarks; never reads a record.
    Questions,
    /// One partition's history at full speed.
    Bulk,
    /// The moving end of many partitions.
    Tail,
    /// Membership of a group; never reads a record either.
    Group,
}

/// A setting that keeps a promise of the log port: name, value, reason.
type Forced = (&'static str, &'static str, &'static str);

/// The same for every client. A user cannot change these.
const SAFE: &[Forced] = &[
    (
        "auto.offset.reset",
        "error",
        "an offset outside the log must be an error, never a silent jump over deleted events",
    ),
    (
        "enable.auto.commit",
        "false",
        "positions live in the database, in the transaction that applies the events",
    ),
    (
        "enable.auto.offset.store",
        "false",
        "positions live in the database, in the transaction that applies the events",
    ),
    (
        "isolation.level",
        "read_committed",
        "records of aborted transactions are not part of the log",
    ),
    (
        "check.crcs",
        "true",
        "a record that rotted on disk or on the wire must stop the reader, not reach a table",
    ),
    (
        "enable.partition.eof",
        "true",
        "the end of an idle, empty or marker-ended partition is known by this event only",
    ),
    (
        "allow.auto.create.topics",
        "false",
        "a misspelt topic must be reported as missing, not be created empty",
    ),
    (
        "statistics.interval.ms",
        "0",
        "nothing reads the statistics, and they queue up behind a reader that is not called",
    ),
];

/// Set by other means than this table, or to be left alone: name, reason.
const OFF_LIMITS: &[(&str, &str)] = &[
    (
        "bootstrap.servers",
        "the brokers are given by their own flag",
    ),
    (
        "metadata.broker.list",
        "the brokers are given by their own flag",
    ),
    (
        "group.id",
        "partitions are read without a consumer group, so that nothing can rebalance or commit",
    ),
    (
        "group.instance.id",
        "partitions are read without a consumer group, so that nothing can rebalance or commit",
    ),
    (
        "group.protocol",
        "partitions are read without a consumer group, so that nothing can rebalance or commit",
    ),
    (
        "auto.commit.enable",
        "positions live in the database, in the transaction that applies the events",
    ),
    (
        "offset.store.method",
        "positions live in the database, in the transaction that applies the events",
    ),
    ("enable.random.seed", "it has no meaning for a reader"),
    (
        "log.queue",
        "log lines are collected by the reader that owns the client",
    ),
];

/// History: the client fetches ahead of the fold, but not so far that records
/// fall out of the cache before they are folded (see `examples/read_rate.rs`).
const BULK: &[(&str, &str)] = &[
    // The queue is bounded in bytes below; a bound in messages would bind first for small records.
    ("queued.min.messages", "1000000"),
    // Kibibytes of keys and values that may wait. The memory behind it is about four times as much.
    ("queued.max.messages.kbytes", "16384"),
    // Compressed bytes of a partition per answer. A megabyte is milliseconds of
    // work; with four, a record costs a tenth more CPU.
    ("fetch.message.max.bytes", "1048576"),
    // The history is there: the broker never has to wait for more of it.
    ("fetch.min.bytes", "1"),
    ("fetch.wait.max.ms", "50"),
    // A full queue is looked at again after this long; the default, a second, stalls the reader.
    ("fetch.queue.backoff.ms", "2"),
];

/// The end: records count as soon as they are there; queues stay small because
/// one client holds one per partition.
const TAIL: &[(&str, &str)] = &[
    ("queued.min.messages", "20000"),
    ("queued.max.messages.kbytes", "4096"),
    ("fetch.message.max.bytes", "1048576"),
    // A busy topic would answer each request with a few records of each partition, hundreds of
    // times a second, and a batch waits for more of them anyway (`batch_age`). So the broker
    // answers when there is enough, or after this long, which also bounds how long the end of the
    // log stays unknown and how long a partition waits to join the next request.
    ("fetch.min.bytes", "65536"),
    ("fetch.wait.max.ms", "25"),
    ("fetch.queue.backoff.ms", "5"),
];

/// The same for both kinds of reader.
const READERS: &[(&str, &str)] = &[
    // After an error of a partition; the default, half a second, is a pause in the tail.
    ("fetch.error.backoff.ms", "100"),
];

/// Connections: a lost broker is tried again soon, and small requests are not held back.
const CONNECTIONS: &[(&str, &str)] = &[
    ("reconnect.backoff.ms", "50"),
    ("reconnect.backoff.max.ms", "1000"),
    ("socket.nagle.disable", "true"),
    ("socket.keepalive.enable", "true"),
];

/// Why a user may not set `property`; `None` when it is free.
pub(crate) fn why_forbidden(property: &str) -> Option<&'static str> {
    // librdkafka takes topic settings under this prefix, too.
    let name = property.strip_prefix("topic.").unwrap_or(property);
    let forced = SAFE.iter().map(|(n, _, reason)| (*n, *reason));
    forced
        .chain(OFF_LIMITS.iter().copied())
        .find(|(n, _)| *n == name)
        .map(|(_, reason)| reason)
}

/// The settings of a client: what Refold prefers, then what the user says,
/// then what Refold insists on.
///
/// # Errors
/// When no broker is named or librdkafka refuses a property.
pub(crate) fn client_config(
    config: &KafkaConfig,
    purpose: Purpose,
) -> Result<ClientConfig, ConfigError> {
    if config.brokers().trim().is_empty() {
        return Err(ConfigError::NoBrokers);
    }
    let mut settings = ClientConfig::new();
    let preferred: &[&[(&str, &str)]] = match purpose {
        Purpose::Questions | Purpose::Group => &[CONNECTIONS],
        Purpose::Bulk => &[CONNECTIONS, READERS, BULK],
        Purpose::Tail => &[CONNECTIONS, READERS, TAIL],
    };
    for (name, value) in preferred.iter().flat_map(|table| table.iter()) {
        settings.set(*name, *value);
    }
    settings.set("client.id", "refold");
    for (name, value) in config.properties() {
        settings.set(name, value);
    }
    for (name, value, _) in SAFE {
        settings.set(*name, *value);
    }
    settings.set("bootstrap.servers", config.brokers());
    // A topic that is created again under its name is told in these lines only.
    let debug = match config.properties().get("debug") {
        Some(wanted) => format!("metadata,{wanted}"),
        None => "metadata".to_owned(),
    };
    settings.set("debug", debug);
    settings.set_log_level(RDKafkaLogLevel::Debug);
    settings
        .create_native_config()
        .map_err(|error| ConfigError::Refused(error.to_string()))?;
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PURPOSES: [Purpose; 3] = [Purpose::Questions, Purpose::Bulk, Purpose::Tail];

    #[test]
    fn every_client_gets_every_safe_setting_and_no_group() {
        for purpose in PURPOSES {
            let settings = client_config(&KafkaConfig::new("127.0.0.1:1"), purpose)
                .expect("the tables hold known properties");
            for (name, value, reason) in SAFE {
                assert_eq!(settings.get(name), Some(*value), "{name}");
                assert!(!reason.is_empty());
            }
            assert_eq!(settings.get("group.id"), None);
        }
    }

    #[test]
    fn a_user_may_tune_queues_but_not_misspell_them() {
        let tuned = KafkaConfig::new("127.0.0.1:1")
            .with_property("queued.max.messages.kbytes", "2048")
            .expect("queue sizes are free");
        let settings = client_config(&tuned, Purpose::Bulk).expect("a known property");
        assert_eq!(settings.get("queued.max.messages.kbytes"), Some("2048"));

        let misspelt = KafkaConfig::new("127.0.0.1:1")
            .with_property("queued.max.mesages", "1")
            .expect("the name is looked at when the client is made");
        assert!(matches!(
            client_config(&misspelt, Purpose::Bulk),
            Err(ConfigError::Refused(_))
        ));
    }

    #[test]
    fn a_connection_without_brokers_is_refused() {
        assert_eq!(
            client_config(&KafkaConfig::new(" "), Purpose::Tail).err(),
            Some(ConfigError::NoBrokers)
        );
    }
}
