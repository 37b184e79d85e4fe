//! Encrypted and authenticated connections of the raw reader, on a real broker
//! with an authority made up for the test.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::IsCa;
use rcgen::KeyPair;
use refold_domain::position::Offset;
use refold_local::KafkaCluster;
use refold_local::KafkaExtras;
use refold_local::testing::ScratchDir;
use refold_ports::conformance::log::StagedTopic as _;
use refold_ports::source::LogSource as _;
use refold_ports::source::ReadMode;
use refold_ports::source::SourceError;
use refold_source_kafka::KafkaConfig;
use refold_source_kafka::KafkaSource;

use crate::broker::P0;
use crate::broker::read_through;
use crate::broker::records;
use crate::broker::with_reader;
use crate::stage::Broker;
use crate::stage::Topic;

const TOPIC: &str = "secure";
const RECORDS: usize = 200;
const DEADLINE: Duration = Duration::from_secs(5);

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("an authority")
}

/// Writes a key and a certificate for `names` into one file, in Kafka's order,
/// and each into a file of its own.
fn certificate(dir: &Path, file: &str, names: &[&str], authority: &Authority) -> PathBuf {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let params = CertificateParams::new(names).expect("legal names");
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, authority).expect("a certificate");
    let (key, certificate) = (key.serialize_pem(), certificate.pem());
    let both = write(dir, &format!("{file}.pem"), &format!("{key}{certificate}"));
    write(dir, &format!("{file}.key"), &key);
    write(dir, &format!("{file}.crt"), &certificate);
    both
}

fn write(dir: &Path, file: &str, text: &str) -> PathBuf {
    let path = dir.join(file);
    fs::write(&path, text).expect("the file can be written");
    path
}

fn shown(path: &Path) -> String {
    path.to_str().expect("a legal path").to_owned()
}

struct Stage {
    cluster: KafkaCluster,
    dir: ScratchDir,
}

impl Stage {
    async fn set() -> Self {
        let dir = ScratchDir::new("source-kafka-secure").expect("a directory");
        let (good, other) = (authority(), authority());
        let trusted = write(dir.path(), "good-ca.pem", &good.pem());
        write(dir.path(), "other-ca.pem", &other.pem());
        let right = certificate(dir.path(), "right", &["localhost", "127.0.0.1"], &good);
        let misnamed = certificate(dir.path(), "misnamed", &["elsewhere.test"], &good);
        certificate(dir.path(), "client", &["client"], &good);
        certificate(dir.path(), "stranger", &["client"], &other);
        let cluster = KafkaCluster::start_with(dir.path(), 1, &extras(&right, &misnamed, &trusted))
            .expect("a broker");
        let broker = Broker::new(&cluster.bootstrap());
        broker.create_topic(TOPIC, 1).await;
        let topic = Topic::new(&broker, TOPIC);
        topic.produce(P0, records(0, RECORDS, 1_000)).await;
        Self { cluster, dir }
    }

    fn file(&self, name: &str) -> String {
        shown(&self.dir.path().join(name))
    }

    /// Reads everything through a listener.
    async fn read(&self, listener: &str, properties: &[(&str, &str)]) -> Result<(), SourceError> {
        let port = self.cluster.listener_port(listener).expect("a listener");
        let config = KafkaConfig::new(format!("localhost:{port}")).with_deadline(DEADLINE);
        let config = properties
            .iter()
            .try_fold(config, |config, (name, value)| {
                config.with_property(*name, *value)
            })
            .expect("properties of a connection are free");
        let source = KafkaSource::new(config, TOPIC).expect("a legal configuration");
        let reader = source.open(P0, Offset(0), ReadMode::Bulk).await?;
        let end = Offset(RECORDS as i64);
        let (_, offsets) = with_reader(reader, move |reader| read_through(reader, end)).await;
        assert_eq!(offsets, (0..RECORDS as i64).collect::<Vec<_>>());
        Ok(())
    }

    /// A refusal that is final, at once, and says `what` to look at.
    async fn refused(&self, listener: &str, properties: &[(&str, &str)], what: &str) {
        let begun = Instant::now();
        let outcome = self.read(listener, properties).await;
        println!("{listener}: {outcome:?}");
        assert!(
            matches!(&outcome, Err(SourceError::Fatal(text)) if text.contains(what)),
            "{listener} {outcome:?}"
        );
        assert!(begun.elapsed() < DEADLINE, "it was not tried again");
    }
}

fn extras(right: &Path, misnamed: &Path, trusted: &Path) -> KafkaExtras {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let mut settings = Vec::new();
    for (listener, keys) in [
        ("tls", right),
        ("misnamed", misnamed),
        ("mutual", right),
        ("both", right),
    ] {
        let prefix = format!("listener.name.{listener}.ssl");
        settings.push((format!("{prefix}.keystore.type"), "PEM".to_owned()));
        settings.push((format!("{prefix}.keystore.location"), shown(keys)));
    }
    for (name, value) in [
        ("client.auth", "required"),
        ("truststore.type", "PEM"),
        ("truststore.location", &shown(trusted)),
    ] {
        settings.push((format!("listener.name.mutual.ssl.{name}"), value.to_owned()));
    }
    let plain = "org.apache.kafka.common.security.plain.PlainLoginModule required \
                 user_alice=\"wonder\";";
    let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    let mechanisms = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512";
    for listener in ["login", "both"] {
        let prefix = format!("listener.name.{listener}");
        for (name, value) in [
            ("sasl.enabled.mechanisms", mechanisms),
            ("plain.sasl.jaas.config", plain),
            ("scram-sha-256.sasl.jaas.config", scram),
            ("scram-sha-512.sasl.jaas.config", scram),
        ] {
            settings.push((format!("{prefix}.{name}"), value.to_owned()));
        }
    }
    KafkaExtras {
        listeners: [
            ("TLS", "SSL"),
            ("MISNAMED", "SSL"),
            ("MUTUAL", "SSL"),
            ("LOGIN", "SASL_PLAINTEXT"),
            ("BOTH", "SASL_SSL"),
        ]
        .map(owned)
        .to_vec(),
        settings,
        scram: vec![
            "SCRAM-SHA-256=[name=alice,password=wonder]".to_owned(),
            "SCRAM-SHA-512=[name=alice,password=wonder]".to_owned(),
        ],
        ..KafkaExtras::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_and_clients_that_prove_themselves_are_read_and_others_refused() {
    let stage = Stage::set().await;
    encryption(&stage).await;
    logging_in(&stage).await;
}

async fn encryption(stage: &Stage) {
    let (good, other) = (stage.file("good-ca.pem"), stage.file("other-ca.pem"));
    let ssl = ("security.protocol", "ssl");
    let trusting = [ssl, ("ssl.ca.location", &good)];
    let read = stage.read("TLS", &trusting).await;
    assert_eq!(read, Ok(()));
    let distrusting = [ssl, ("ssl.ca.location", &other)];
    stage.refused("TLS", &distrusting, "ssl.ca.location").await;
    stage
        .refused("MISNAMED", &trusting, "names this host")
        .await;

    // Both sides show a certificate.
    let (key, chain) = (stage.file("client.key"), stage.file("client.crt"));
    let mut known = trusting.to_vec();
    known.push(("ssl.key.location", &key));
    known.push(("ssl.certificate.location", &chain));
    assert_eq!(stage.read("MUTUAL", &known).await, Ok(()));
    let certificate = "ssl.certificate.location";
    stage.refused("MUTUAL", &trusting, certificate).await;
    let (key, chain) = (stage.file("stranger.key"), stage.file("stranger.crt"));
    let mut stranger = trusting.to_vec();
    stranger.push(("ssl.key.location", &key));
    stranger.push(("ssl.certificate.location", &chain));
    stage.refused("MUTUAL", &stranger, certificate).await;
}

async fn logging_in(stage: &Stage) {
    let good = stage.file("good-ca.pem");
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        for (listener, protocol) in [("LOGIN", "sasl_plaintext"), ("BOTH", "sasl_ssl")] {
            let mut properties = vec![
                ("security.protocol", protocol),
                ("ssl.ca.location", &good),
                ("sasl.mechanism", mechanism),
                ("sasl.username", "alice"),
                ("sasl.password", "wonder"),
            ];
            let read = stage.read(listener, &properties).await;
            assert_eq!(read, Ok(()), "{mechanism} {protocol}");
            properties.pop();
            properties.push(("sasl.password", "wrong"));
            stage.refused(listener, &properties, "sasl.password").await;
        }
    }
    // A broker that does not ask for a login is told from one that refuses it.
    let properties = [("security.protocol", "plaintext")];
    let unprotected = stage.read("LOGIN", &properties).await;
    assert!(unprotected.is_err(), "a login is needed");
}
