//! One librdkafka client: its log lines, its errors, its callbacks.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::BaseConsumer;
use rdkafka::consumer::Consumer as _;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::error::RDKafkaErrorCode;
use refold_ports::source::SourceError;

use crate::config::KafkaConfig;
use crate::settings;
use crate::settings::Purpose;

/// The log facility under which librdkafka reports that a broker of another
/// cluster answers at a known address.
const OTHER_CLUSTER_FACILITY: &str = "CLUSTERID";

/// Events served per call of [`Client::serve`]; more than a read's worth.
const EVENTS_PER_SERVE: usize = 8;

/// What librdkafka said about a client as a whole.
#[derive(Debug, Default)]
pub(crate) struct Events {
    heard: Mutex<Heard>,
}

#[derive(Debug, Default, Clone)]
struct Heard {
    last_error: Option<(RDKafkaErrorCode, String)>,
    other_cluster: Option<String>,
}

impl Events {
    fn with<T>(&self, change: impl FnOnce(&mut Heard) -> T) -> T {
        // A panic while two strings are replaced leaves them usable.
        change(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientContext for Events {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        if facility == OTHER_CLUSTER_FACILITY {
            self.with(|heard| heard.other_cluster = Some(line.to_owned()));
        }
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => tracing::warn!(facility, "kafka client: {line}"),
            RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => {
                tracing::info!(facility, "kafka client: {line}");
            }
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!(facility, "kafka client: {line}");
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "kafka client: {reason}");
        if let Some(code) = error.rdkafka_error_code() {
            self.with(|heard| heard.last_error = Some((code, reason.to_owned())));
        }
    }
}

impl ConsumerContext for Events {}

/// The rdkafka consumer behind a client, used without a group.
pub(crate) type Consumer = BaseConsumer<Events>;

/// A librdkafka client. Dropping the last reference ends its threads.
pub(crate) struct Client {
    consumer: Arc<Consumer>,
    deadline: Duration,
}

impl Client {
    /// Starts a client; connects to nothing yet.
    pub(crate) fn start(config: &KafkaConfig, purpose: Purpose) -> Result<Self, SourceError> {
        let consumer = settings::client_config(config, purpose)
            .map_err(|error| SourceError::Fatal(error.to_string()))?
            .create_with_context(Events::default())
            .map_err(|error| {
                SourceError::Fatal(format!("the kafka client cannot be started: {error}"))
            })?;
        Ok(Self {
            consumer: Arc::new(consumer),
            deadline: config.deadline(),
        })
    }

    pub(crate) fn consumer(&self) -> &Arc<Consumer> {
        &self.consumer
    }

    /// How long one question may take.
    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Serves waiting log lines and errors. They queue up in the client until
    /// somebody does, so every read does.
    pub(crate) fn serve(&self) {
        for _ in 0..EVENTS_PER_SERVE {
            // Errors reach `Events` before they are returned here.
            let _ = self.consumer.poll(Duration::ZERO);
        }
    }

    /// The sentence of the last error of the client as a whole, if any.
    pub(crate) fn last_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.consumer
            .context()
            .with(|heard| heard.last_error.clone())
    }

    /// An error when brokers of another cluster have answered this client:
    /// offsets of one cluster mean nothing in another.
    pub(crate) fn check_cluster(&self) -> Result<(), SourceError> {
        let seen = self
            .consumer
            .context()
            .with(|heard| heard.other_cluster.clone());
        match seen {
            None => Ok(()),
            Some(line) => Err(SourceError::Fatal(format!(
                "another kafka cluster answers at the known address: {line}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_of_another_cluster_makes_the_client_unusable() {
        let client = Client::start(&KafkaConfig::new("127.0.0.1:1"), Purpose::Questions)
            .expect("no connection is needed to start");
        assert_eq!(client.check_cluster(), Ok(()));
        client.consumer().context().log(
            RDKafkaLogLevel::Warning,
            OTHER_CLUSTER_FACILITY,
            "reports different ClusterId",
        );
        assert!(matches!(client.check_cluster(), Err(SourceError::Fatal(_))));
    }
}
