//! What the raw client makes of the properties that both clients share.
//!
//! A property that it neither honours nor may pass over makes it step back:
//! the partition is then read by librdkafka, which knows all of them. So no
//! connection is ever less protected than its configuration says.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::login::Credentials;
use super::login::Mechanism;
use super::tls;
use crate::config::ConfigError;
use crate::config::KafkaConfig;

/// Compressed bytes per answer. A megabyte is a few milliseconds of work, which
/// spreads a round trip; what another size costs has not been measured yet
/// (`examples/read_rate.rs` can).
const ANSWER_BYTES: i32 = 1 << 20;

/// How long a broker may wait for the first byte. Only at the end of the log
/// does it wait at all.
const BROKER_WAIT_MS: i32 = 50;

/// Largest frame that is read, unless the user says another size. One batch
/// may be larger than an answer: it then comes whole.
const FRAME_BYTES: usize = 100_000_000;

/// Kafka's port when an address names none.
const DEFAULT_PORT: u16 = 9092;

/// Names of properties that the raw client honours.
const HONOURED: &[&str] = &[
    "client.id",
    "fetch.message.max.bytes",
    "fetch.wait.max.ms",
    "max.partition.fetch.bytes",
    "receive.message.max.bytes",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
];

/// Properties without a meaning for the raw client and without one for
/// security or the records that are read: queues, timers, logging.
const WITHOUT_EFFECT: &[&str] = &[
    "api.version.request",
    "api.version.request.timeout.ms",
    "broker.address.ttl",
    "client.rack",
    "connections.max.idle.ms",
    "debug",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "log.connection.close",
    "log.thread.name",
    "log_level",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.copy.max.bytes",
    "message.max.bytes",
    "metadata.max.age.ms",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.max.fails",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "topic.metadata.propagation.max.ms",
    "topic.metadata.refresh.fast.interval.ms",
    "topic.metadata.refresh.interval.ms",
    "topic.metadata.refresh.sparse",
];

/// A broker's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Address {
    type Err = String;

    /// Reads `host`, `host:port` or `[v6]:port`, with or without a `scheme://`.
    fn from_str(text: &str) -> Result<Self, String> {
        let odd = || format!("{text:?} is not a broker's address such as host:9092");
        let bare = text.split_once("://").map_or(text, |(_, bare)| bare);
        let (host, port) = match bare.strip_prefix('[') {
            Some(v6) => {
                let (host, rest) = v6.split_once(']').ok_or_else(odd)?;
                (host, rest.strip_prefix(':'))
            }
            None => match bare.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (bare, None),
            },
        };
        if host.is_empty() {
            return Err(odd());
        }
        let port = port.map_or(Ok(DEFAULT_PORT), |port| port.parse().map_err(|_| odd()))?;
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

/// Everything that a raw reader has to know to reach a cluster.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) bootstrap: Vec<Address>,
    pub(crate) client_id: String,
    /// How long one question may take, and how long an outage is borne in silence.
    pub(crate) deadline: Duration,
    /// Encryption; `None` sends everything in the clear.
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
    /// How to log in; `None` does not.
    pub(crate) login: Option<Credentials>,
    pub(crate) answer_bytes: i32,
    pub(crate) broker_wait_ms: i32,
    pub(crate) frame_bytes: usize,
}

/// Which client a configuration leads to.
#[derive(Debug)]
pub(crate) enum Choice {
    Raw(Arc<Options>),
    /// Only librdkafka can honour this property with its value.
    Librdkafka {
        property: String,
    },
}

impl Options {
    /// Reads the properties, and the files that they name.
    ///
    /// # Errors
    /// [`ConfigError::Refused`] when a value or a file cannot be used by any client.
    pub(crate) fn choose(config: &KafkaConfig) -> Result<Choice, ConfigError> {
        let properties = config.properties();
        if let Some(property) = beyond(properties) {
            return Ok(Choice::Librdkafka { property });
        }
        let refused = |reason: String| ConfigError::Refused(reason);
        let bootstrap = config
            .brokers()
            .split(',')
            .map(str::trim)
            .filter(|address| !address.is_empty())
            .map(Address::from_str)
            .collect::<Result<Vec<_>, _>>()
            .map_err(refused)?;
        if bootstrap.is_empty() {
            return Err(ConfigError::NoBrokers);
        }
        let text = |name: &str| properties.get(name).map(String::as_str);
        let protocol = Protocol::of(properties);
        let tls = protocol.tls.then(|| {
            tls::client_config(tls::Files {
                authorities: text("ssl.ca.location"),
                certificate: text("ssl.certificate.location"),
                key: text("ssl.key.location"),
            })
        });
        let login = protocol.login.then(|| credentials(properties));
        let answer_bytes = [
            text("fetch.message.max.bytes"),
            text("max.partition.fetch.bytes"),
        ];
        Ok(Choice::Raw(Arc::new(Self {
            bootstrap,
            client_id: text("client.id").unwrap_or("refold").to_owned(),
            deadline: config.deadline(),
            tls: tls.transpose().map_err(refused)?,
            login: login.transpose().map_err(refused)?,
            answer_bytes: number(answer_bytes.into_iter().flatten().next(), ANSWER_BYTES)?,
            broker_wait_ms: number(text("fetch.wait.max.ms"), BROKER_WAIT_MS)?,
            frame_bytes: number(text("receive.message.max.bytes"), FRAME_BYTES)?,
        })))
    }
}

fn number<T: FromStr>(value: Option<&str>, default: T) -> Result<T, ConfigError> {
    value.map_or(Ok(default), |value| {
        value
            .parse()
            .map_err(|_| ConfigError::Refused(format!("{value:?} is not a number")))
    })
}

/// What `security.protocol` says.
struct Protocol {
    tls: bool,
    login: bool,
}

impl Protocol {
    fn of(properties: &BTreeMap<String, String>) -> Self {
        let name = properties
            .get("security.protocol")
            .map(|n| n.to_lowercase());
        let name = name.as_deref().unwrap_or("plaintext");
        Self {
            tls: name.ends_with("ssl"),
            login: name.starts_with("sasl_"),
        }
    }
}

fn mechanism(properties: &BTreeMap<String, String>) -> Option<&String> {
    properties
        .get("sasl.mechanism")
        .or_else(|| properties.get("sasl.mechanisms"))
}

fn credentials(properties: &BTreeMap<String, String>) -> Result<Credentials, String> {
    let needed = |name: &str| {
        let value = properties.get(name).cloned();
        value.ok_or_else(|| format!("{name} is needed to log in by SASL"))
    };
    let mechanism = mechanism(properties)
        .and_then(|name| Mechanism::parse(name))
        .ok_or("sasl.mechanism is needed to log in by SASL")?;
    Ok(Credentials {
        mechanism,
        username: needed("sasl.username")?,
        password: needed("sasl.password")?,
    })
}

/// The first property that only librdkafka can honour.
fn beyond(properties: &BTreeMap<String, String>) -> Option<String> {
    let protocol = Protocol::of(properties);
    if protocol.login
        && mechanism(properties)
            .and_then(|name| Mechanism::parse(name))
            .is_none()
    {
        return Some("sasl.mechanism".to_owned());
    }
    let known = |name: &str, value: &str| match name {
        // What the raw client does always.
        "ssl.endpoint.identification.algorithm" => value == "https",
        "enable.ssl.certificate.verification" => value == "true",
        name => HONOURED.contains(&name) || WITHOUT_EFFECT.contains(&name),
    };
    let mut all = properties.iter();
    all.find(|(name, value)| !known(name, value))
        .map(|(name, _)| name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(properties: &[(&str, &str)]) -> Result<Choice, ConfigError> {
        let config = KafkaConfig::new("a:1, [::1]:2,SSL://c");
        let config = properties.iter().try_fold(config, |config, (name, value)| {
            config.with_property(*name, *value)
        });
        Options::choose(&config.expect("the property is the user's to set"))
    }

    #[test]
    fn addresses_come_in_every_form_that_librdkafka_takes() {
        let Ok(Choice::Raw(options)) = choose(&[]) else {
            panic!("plain is raw")
        };
        let shown: Vec<String> = options.bootstrap.iter().map(Address::to_string).collect();
        assert_eq!(shown, ["a:1", "[::1]:2", "c:9092"]);
        for odd in ["", ":1", "a:b", "[::1", "a:70000"] {
            assert!(odd.parse::<Address>().is_err(), "{odd}");
        }
    }

    #[test]
    fn what_only_librdkafka_can_honour_is_left_to_it() {
        for (property, value) in [
            ("ssl.endpoint.identification.algorithm", "none"),
            ("enable.ssl.certificate.verification", "false"),
            ("ssl.key.password", "x"),
            ("ssl.crl.location", "x"),
            ("ssl.keystore.location", "x"),
            ("security.protocol", "sasl_ssl"),
            ("no.such.property", "x"),
        ] {
            let choice = choose(&[(property, value)]);
            assert!(
                matches!(choice, Ok(Choice::Librdkafka { .. })),
                "{property}: {choice:?}"
            );
        }
        let kerberos = choose(&[
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "GSSAPI"),
        ]);
        assert!(matches!(kerberos, Ok(Choice::Librdkafka { property })
            if property == "sasl.mechanism"));
    }

    #[test]
    fn a_protocol_sets_encryption_and_login_or_is_refused() {
        let login = [
            ("sasl.mechanisms", "SCRAM-SHA-512"),
            ("sasl.username", "u"),
            ("sasl.password", "p"),
            ("security.protocol", "SASL_PLAINTEXT"),
        ];
        let Ok(Choice::Raw(options)) = choose(&login) else {
            panic!("both clients can")
        };
        assert!(options.tls.is_none() && options.login.is_some());
        assert!(!format!("{:?}", options.login).contains("\"p\""));

        let refused = choose(&login[1..]);
        assert!(matches!(refused, Ok(Choice::Librdkafka { .. })));
        for missing in [1, 2] {
            let mut some = login.to_vec();
            some.remove(missing);
            assert!(matches!(choose(&some), Err(ConfigError::Refused(_))));
        }
        let no_file = [
            ("security.protocol", "ssl"),
            ("ssl.ca.location", "missing.pem"),
        ];
        assert!(matches!(choose(&no_file), Err(ConfigError::Refused(_))));
    }
}
