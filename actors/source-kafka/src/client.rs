//! One librdkafka client: its log lines, its errors, its callbacks.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
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

/// The log facility under which librdkafka reports, among other things, a
/// topic's id when it learns one. It tells nobody else: a topic that was
/// deleted and created again is read on at the old offset without an event.
const METADATA_FACILITY: &str = "METADATA";

/// What librdkafka said about a client as a whole.
#[derive(Debug, Default)]
pub(crate) struct Events {
    heard: Mutex<Heard>,
    /// Lines and errors so far.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Heard {
    last_error: Option<(RDKafkaErrorCode, String)>,
    topic_id: Option<String>,
    /// Why offsets that were read before mean nothing any more.
    another_log: Option<String>,
}

impl Events {
    fn with<T>(&self, change: impl FnOnce(&mut Heard) -> T) -> T {
        // A panic while two strings are replaced leaves them usable.
        change(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the id from a line like `Topic T changed id from A to B`.
    fn learn_topic_id(&self, line: &str) {
        let Some((topic, ids)) = line.split_once(" changed id from ") else {
            return;
        };
        let Some((old, new)) = ids.split_once(" to ") else {
            return;
        };
        self.with(|heard| {
            // The first id replaces the empty one, which is all `A` in base 64.
            if old.bytes().any(|b| b != b'A' && b != b'=') {
                let (_, topic) = topic.rsplit_once(' ').unwrap_or_default();
                heard.another_log = Some(format!(
                    "topic {topic} was deleted and created again: its id is {new}, and was {old}"
                ));
            }
            heard.topic_id = Some(new.to_owned());
        });
    }
}

impl ClientContext for Events {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.count.fetch_add(1, Ordering::Relaxed);
        match facility {
            OTHER_CLUSTER_FACILITY if matches!(level, RDKafkaLogLevel::Warning) => {
                self.with(|heard| heard.another_log = Some(line.to_owned()));
            }
            METADATA_FACILITY => self.learn_topic_id(line),
            _ => {}
        }
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => tracing::warn!(facility, "kafka client: {line}"),
            RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => {
                tracing::info!(facility, "kafka client: {line}");
            }
            RDKafkaLogLevel::Info => tracing::debug!(facility, "kafka client: {line}"),
            RDKafkaLogLevel::Debug => tracing::trace!(facility, "kafka client: {line}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.count.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%error, "kafka client: {reason}");
        if let Some(code) = error.rdkafka_error_code() {
            self.with(|heard| heard.last_error = Some((code, reason.to_owned())));
        }
    }
}

impl ConsumerContext for Events {}

/// The rdkafka consumer behind a client, used without a group.
pub(crate) type Consumer = BaseConsumer<Events>;

/// Why a client was not started. A wrong configuration stays wrong; a machine that has no thread
/// to give (memory, a limit) may have one soon. librdkafka tells the two apart in words alone.
fn not_started(error: &KafkaError) -> SourceError {
    let what = format!("the kafka client cannot be started: {error}");
    match error {
        KafkaError::ClientCreation(reason) if reason.starts_with("Failed to create thread") => {
            SourceError::Unreachable(what)
        }
        _ => SourceError::Fatal(what),
    }
}

/// A librdkafka client. Dropping the last reference ends its threads.
pub(crate) struct Client {
    consumer: Arc<Consumer>,
    config: KafkaConfig,
    /// Held while lines are served: several readers share a client.
    serving: Mutex<()>,
}

impl Client {
    /// Starts a client; connects to nothing yet.
    pub(crate) fn start(config: &KafkaConfig, purpose: Purpose) -> Result<Self, SourceError> {
        let consumer = settings::client_config(config, purpose)
            .map_err(|error| SourceError::Fatal(error.to_string()))?
            .create_with_context(Events::default())
            .map_err(|error| not_started(&error))?;
        Ok(Self {
            consumer: Arc::new(consumer),
            config: config.clone(),
            serving: Mutex::new(()),
        })
    }

    /// A client of the same cluster that knows nothing yet but the bootstrap brokers.
    pub(crate) fn fresh(&self) -> Result<Self, SourceError> {
        Self::start(&self.config, Purpose::Questions)
    }

    /// One that looks for its brokers elsewhere than a fresh one would: it has lost the cluster.
    #[cfg(test)]
    pub(crate) fn lost(config: &KafkaConfig, purpose: Purpose) -> Self {
        let nowhere = KafkaConfig::new("127.0.0.1:1").with_deadline(config.deadline());
        let client = Self::start(&nowhere, purpose).expect("no connection is needed to start");
        Self {
            config: config.clone(),
            ..client
        }
    }

    pub(crate) fn consumer(&self) -> &Arc<Consumer> {
        &self.consumer
    }

    /// The bootstrap brokers, for messages.
    pub(crate) fn brokers(&self) -> &str {
        self.config.brokers()
    }

    /// How long one question may take.
    pub(crate) fn deadline(&self) -> Duration {
        self.config.deadline()
    }

    /// Serves all waiting log lines and errors, and returns when every one that
    /// was there at the call is noted. They queue up in the client until
    /// somebody does, so every read does.
    pub(crate) fn serve(&self) {
        // One at a time: a line that another reader has taken from the queue and not noted yet
        // would be missed, and what was fetched behind it taken for the log that was opened. For
        // the same reason there is no most: a topic of a thousand partitions is a thousand lines
        // in each answer, and the one that counts may be the last.
        let _alone = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        let events = self.consumer.context();
        loop {
            let before = events.count.load(Ordering::Relaxed);
            // Errors reach `Events` before they are returned here.
            let _ = self.consumer.poll(Duration::ZERO);
            if events.count.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }

    /// The sentence of the last error of the client as a whole, if any.
    pub(crate) fn last_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.consumer
            .context()
            .with(|heard| heard.last_error.clone())
    }

    /// The topic's id as the brokers last reported it.
    pub(crate) fn topic_id(&self) -> Option<String> {
        self.consumer.context().with(|heard| heard.topic_id.clone())
    }

    /// An error when another log answers under the same address and name, be
    /// it of another cluster or a topic that was created again: offsets of one
    /// log mean nothing in another. Serve first; what librdkafka fetches from
    /// the other log, it fetches after it has said so.
    pub(crate) fn check_log(&self) -> Result<(), SourceError> {
        let seen = self
            .consumer
            .context()
            .with(|heard| heard.another_log.clone());
        match seen {
            None => Ok(()),
            Some(line) => Err(SourceError::Fatal(format!(
                "this is not the log that was read before: {line}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::created_topic;

    fn client() -> Client {
        Client::start(&KafkaConfig::new("127.0.0.1:1"), Purpose::Questions)
            .expect("no connection is needed to start")
    }

    fn log(client: &Client, level: RDKafkaLogLevel, facility: &str, line: &str) {
        client.consumer().context().log(level, facility, line);
    }

    #[test]
    fn a_client_without_a_thread_may_get_one_and_a_wrong_setting_stays_wrong() {
        let of = |reason: &str| not_started(&KafkaError::ClientCreation(reason.to_owned()));
        let starved = of("Failed to create thread: Resource temporarily unavailable (11)");
        assert!(starved.is_transient(), "{starved}");
        let config = KafkaConfig::new("127.0.0.1:1")
            .with_property("security.protocol", "ssl")
            .and_then(|config| config.with_property("ssl.ca.location", "/nowhere"))
            .expect("both may be set");
        match Client::start(&config, Purpose::Questions) {
            Err(wrong) => assert!(!wrong.is_transient(), "{wrong}"),
            Ok(_) => panic!("a client without the certificates that it must trust"),
        }
    }

    /// The line that tells of another log may stand behind any number of others.
    #[tokio::test]
    async fn all_lines_that_wait_are_served_at_once() {
        const MANY: usize = 12_000;
        let (brokers, topic) = created_topic("talkative").await;
        let client = Client::start(&KafkaConfig::new(brokers), Purpose::Questions).expect("starts");
        let heard = || client.consumer().context().count.load(Ordering::Relaxed);
        let ask = || {
            let answer = client
                .consumer()
                .fetch_metadata(Some(&topic), Duration::from_secs(30));
            answer.expect("an answer");
        };
        // The first question connects as well, which is worth lines of its own.
        ask();
        client.serve();
        let connected = heard();
        ask();
        client.serve();
        let lines = (heard() - connected).max(1);
        let before = heard();
        // Twice as many questions as that takes: a client that has just connected says more to each
        // than it does later (by what was counted, 8 lines and then 7).
        for _ in 0..2 * MANY.div_ceil(lines) {
            ask();
        }
        client.serve();
        let served = heard() - before;
        assert!(served >= MANY, "{served} of at least {MANY} lines at once");
    }

    #[test]
    fn a_broker_of_another_cluster_makes_the_client_unusable() {
        let client = client();
        assert_eq!(client.check_log(), Ok(()));
        let line = "Broker reports different ClusterId";
        log(
            &client,
            RDKafkaLogLevel::Debug,
            OTHER_CLUSTER_FACILITY,
            line,
        );
        assert_eq!(client.check_log(), Ok(()), "the first id is only debugged");
        log(
            &client,
            RDKafkaLogLevel::Warning,
            OTHER_CLUSTER_FACILITY,
            line,
        );
        assert!(matches!(client.check_log(), Err(SourceError::Fatal(_))));
    }

    #[test]
    fn the_first_id_of_a_topic_is_learned_and_the_second_is_another_log() {
        let client = client();
        let learn = |line| log(&client, RDKafkaLogLevel::Debug, METADATA_FACILITY, line);
        learn("Topic t [0] Leader 1 Epoch 0");
        assert_eq!(client.topic_id(), None);
        learn("Topic t changed id from AAAAAAAAAAAAAAAAAAAAAA to 3fTFSBVpSkqpYUDtMFbE2g");
        assert_eq!(client.topic_id().as_deref(), Some("3fTFSBVpSkqpYUDtMFbE2g"));
        assert_eq!(client.check_log(), Ok(()));
        learn("Topic t changed id from 3fTFSBVpSkqpYUDtMFbE2g to Xo4vXxSkTAqGmcuOhHHCcw");
        assert!(matches!(client.check_log(), Err(SourceError::Fatal(_))));
    }
}
