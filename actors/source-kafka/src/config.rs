//! What a user may say about the connection to Kafka.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::settings;

/// How long a question to the brokers (metadata, watermarks) may take. Long
/// enough for a leader election, short enough for an operator who waits.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(5);

/// What is wrong with a connection's configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The property is Refold's to set, because another value could lose or repeat events.
    #[error("kafka property {property} cannot be set: {reason}")]
    Forbidden {
        /// The property's name.
        property: String,
        /// Why Refold insists on its own value.
        reason: String,
    },
    /// The client library does not take the property or its value.
    #[error("the kafka client refuses its configuration: {0}")]
    Refused(String),
    /// No broker was named.
    #[error("no kafka broker was given; name at least one as host:port")]
    NoBrokers,
    /// The topic's name is empty or not a Kafka name.
    #[error("{0:?} is not a topic name: use 1 to 249 letters, digits, '.', '_' or '-'")]
    TopicName(String),
}

/// What reads history ([`refold_ports::source::ReadMode::Bulk`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BulkClient {
    /// Refold's own fetch loop: the least CPU per event. Properties that it
    /// cannot honour make it leave the partition to librdkafka.
    #[default]
    Raw,
    /// librdkafka, as for everything else.
    Librdkafka,
}

/// How to reach a Kafka cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaConfig {
    brokers: String,
    properties: BTreeMap<String, String>,
    deadline: Duration,
    bulk_client: BulkClient,
}

impl KafkaConfig {
    /// A cluster by its bootstrap brokers, `host:port,host:port`.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            properties: BTreeMap::new(),
            deadline: DEFAULT_DEADLINE,
            bulk_client: BulkClient::default(),
        }
    }

    /// Adds a librdkafka property, such as `security.protocol` or `client.rack`.
    ///
    /// # Errors
    /// [`ConfigError::Forbidden`] for a property that Refold sets itself.
    pub fn with_property(
        mut self,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<Self, ConfigError> {
        let name = name.into();
        if let Some(reason) = settings::why_forbidden(&name) {
            return Err(ConfigError::Forbidden {
                property: name,
                reason: reason.to_owned(),
            });
        }
        self.properties.insert(name, value.into());
        Ok(self)
    }

    /// Sets how long one question to the brokers may take; 5 s if not called.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Chooses what reads history; [`BulkClient::Raw`] if not called.
    #[must_use]
    pub fn with_bulk_client(mut self, client: BulkClient) -> Self {
        self.bulk_client = client;
        self
    }

    /// The bootstrap brokers as given.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// How long one question to the brokers may take.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(crate) fn bulk_client(&self) -> BulkClient {
        self.bulk_client
    }

    pub(crate) fn properties(&self) -> &BTreeMap<String, String> {
        &self.properties
    }
}

impl fmt::Debug for KafkaConfig {
    /// Names of the properties only: values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("properties", &self.properties.keys())
            .field("deadline", &self.deadline)
            .field("bulk_client", &self.bulk_client)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_that_keeps_events_safe_cannot_be_overridden() {
        for property in [
            "auto.offset.reset",
            "topic.auto.offset.reset",
            "enable.auto.commit",
            "auto.commit.enable",
            "enable.auto.offset.store",
            "isolation.level",
            "check.crcs",
            "enable.partition.eof",
            "group.id",
            "allow.auto.create.topics",
            "metadata.broker.list",
        ] {
            let refused = KafkaConfig::new("127.0.0.1:9092").with_property(property, "x");
            assert!(
                matches!(&refused, Err(ConfigError::Forbidden { property: p, reason })
                    if p == property && !reason.is_empty()),
                "{property}: {refused:?}"
            );
        }
    }

    #[test]
    fn other_properties_pass_and_their_values_stay_out_of_debug_output() {
        let config = KafkaConfig::new("127.0.0.1:9092")
            .with_property("sasl.password", "hunter2")
            .expect("a password is the user's to set");
        let shown = format!("{config:?}");
        assert!(shown.contains("sasl.password"));
        assert!(!shown.contains("hunter2"));
    }
}
