//! One Kafka node: its jars, its configuration file, its storage, its process.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::process::{Launch, ServerProcess};
use crate::settings::{self, KAFKA_VERSION};
use crate::{Error, Result, cache, locate};

/// The logging binding the broker's jars are run with.
const LOG4J_VERSION: &str = "2.25.3";

/// Java and the directory with the broker's jars.
#[derive(Debug)]
pub(crate) struct KafkaInstallation {
    java: PathBuf,
    jars: PathBuf,
}

impl KafkaInstallation {
    /// Finds both, or installs Java and fetches the jars with Maven.
    pub(crate) fn find_or_install() -> Result<Self> {
        let jars = cache::directory(&format!("kafka-{KAFKA_VERSION}"), fetch_jars)?;
        Ok(Self {
            java: locate::java()?,
            jars,
        })
    }

    fn class_path(&self) -> OsString {
        self.jars.join("*").into_os_string()
    }
}

fn fetch_jars(dir: &Path) -> Result<()> {
    let (_, maven) = locate::java_and_maven()?;
    eprintln!("fetching Kafka {KAFKA_VERSION} with Maven");
    // The project file lies beside the jars only while they are fetched.
    let project = dir.join("pom.xml");
    write(&project, &maven_project())?;
    let out = Command::new(maven)
        .args(["-q", "-B", "-f"])
        .arg(&project)
        .arg("dependency:copy-dependencies")
        .arg("-DincludeScope=runtime")
        .arg(format!("-DoutputDirectory={}", dir.display()))
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Error::io("could not run Maven", &e))?;
    if !out.status.success() {
        let text = String::from_utf8_lossy(&out.stdout);
        let lines: Vec<&str> = text.lines().filter(|l| l.contains("ERROR")).collect();
        return Err(Error::new(format!(
            "Maven could not fetch Kafka {KAFKA_VERSION}: {}",
            lines.first().unwrap_or(&"no message")
        )));
    }
    fs::remove_file(&project)
        .map_err(|e| Error::io(format_args!("could not remove {}", project.display()), &e))
}

fn maven_project() -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
             <version>{version}</version></dependency>"
        )
    };
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>refold</groupId><artifactId>broker</artifactId><version>1</version>\
         <packaging>pom</packaging><dependencies>{}{}</dependencies></project>\n",
        dependency("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
        dependency(
            "org.apache.logging.log4j",
            "log4j-slf4j-impl",
            LOG4J_VERSION
        ),
    )
}

/// A node of a cluster as it is written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KafkaNode {
    pub(crate) id: u32,
    pub(crate) broker_port: u16,
    pub(crate) controller_port: u16,
    pub(crate) process: Option<ServerProcess>,
    #[serde(default)]
    pub(crate) extras: KafkaExtras,
    /// Ports of the extra listeners, in their order.
    #[serde(default)]
    pub(crate) extra_ports: Vec<u16>,
}

/// What a cluster's nodes have beyond the usual.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaExtras {
    /// Listeners for clients, by name and security protocol; they are advertised as `localhost`.
    pub listeners: Vec<(String, String)>,
    /// Where listeners are advertised that clients reach by way of something else, such as a
    /// proxy: name and `host:port`.
    #[serde(default)]
    pub advertised: Vec<(String, String)>,
    /// Broker settings.
    pub settings: Vec<(String, String)>,
    /// SCRAM credentials that the storage is formatted with, such as
    /// `SCRAM-SHA-256=[name=alice,password=secret]`.
    pub scram: Vec<String>,
}

impl KafkaNode {
    pub(crate) fn is_running(&self) -> bool {
        self.process.as_ref().is_some_and(ServerProcess::is_running)
    }

    fn home(&self, cluster_dir: &Path) -> PathBuf {
        cluster_dir.join(format!("node-{}", self.id))
    }

    /// Writes the configuration and formats the storage unless it was formatted before.
    /// `peers` are all nodes of the cluster, this one included.
    pub(crate) fn prepare(
        &self,
        installation: &KafkaInstallation,
        cluster_dir: &Path,
        cluster_id: &str,
        peers: &[Self],
    ) -> Result<()> {
        let home = self.home(cluster_dir);
        let data = home.join("data");
        fs::create_dir_all(&data)
            .map_err(|e| Error::io(format_args!("could not create {}", data.display()), &e))?;
        let properties = home.join("server.properties");
        write(&properties, &self.properties(&data, peers))?;
        write(&home.join("log4j2.properties"), LOGGING)?;
        if data.join("meta.properties").exists() {
            return Ok(());
        }
        let out = Command::new(&installation.java)
            .args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(installation.class_path())
            .args(["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c"])
            .arg(&properties)
            .args(
                self.extras
                    .scram
                    .iter()
                    .flat_map(|user| ["--add-scram", user]),
            )
            .current_dir(&home)
            .stdin(Stdio::null())
            .output()
            .map_err(|e| Error::io("could not run Kafka's StorageTool", &e))?;
        if out.status.success() {
            return Ok(());
        }
        let log = home.join("format.log");
        let output = [out.stdout, out.stderr].concat();
        write(&log, &String::from_utf8_lossy(&output))?;
        let sentence = format!("Kafka node {} could not format its storage", self.id);
        Err(Error::new(sentence).with_log(&log))
    }

    /// Starts the prepared node.
    pub(crate) fn start(
        &mut self,
        installation: &KafkaInstallation,
        cluster_dir: &Path,
    ) -> Result<ServerProcess> {
        let home = self.home(cluster_dir);
        let mut args: Vec<OsString> = vec![
            format!("-Xmx{}m", settings::KAFKA_HEAP_MIB).into(),
            format!("-Xms{}m", settings::KAFKA_HEAP_MIB / 2).into(),
        ];
        args.extend(settings::KAFKA_JVM.iter().map(Into::into));
        let logging = home.join("log4j2.properties");
        args.push(format!("-Dlog4j2.configurationFile={}", logging.display()).into());
        args.push("-cp".into());
        args.push(installation.class_path());
        args.push("kafka.Kafka".into());
        args.push(home.join("server.properties").into());
        let process = ServerProcess::start(Launch {
            name: format!("Kafka node {}", self.id),
            program: installation.java.clone(),
            args,
            env: Vec::new(),
            working_dir: home.clone(),
            log: home.join("server.log"),
            identity: None,
        })?;
        self.process = Some(process.clone());
        Ok(process)
    }

    fn properties(&self, data: &Path, peers: &[Self]) -> String {
        let voters: Vec<String> = peers
            .iter()
            .map(|peer| format!("{}@127.0.0.1:{}", peer.id, peer.controller_port))
            .collect();
        let extra = self.extras.listeners.iter().zip(&self.extra_ports);
        let (mut bound, mut advertised, mut protocols) =
            (String::new(), String::new(), String::new());
        for ((name, protocol), port) in extra {
            // Writing to a string cannot fail.
            let _ = write!(bound, ",{name}://127.0.0.1:{port}");
            let elsewhere = self.extras.advertised.iter().find(|(l, _)| l == name);
            let address = elsewhere.map_or_else(|| format!("localhost:{port}"), |e| e.1.clone());
            let _ = write!(advertised, ",{name}://{address}");
            let _ = write!(protocols, ",{name}:{protocol}");
        }
        let mut text = format!(
            "process.roles=broker,controller\n\
             node.id={id}\n\
             controller.quorum.voters={voters}\n\
             controller.listener.names=CONTROLLER\n\
             inter.broker.listener.name=PLAINTEXT\n\
             listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}{bound}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{broker}{advertised}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}\n\
             log.dirs={data}\n",
            id = self.id,
            voters = voters.join(","),
            broker = self.broker_port,
            controller = self.controller_port,
            data = data.display(),
        );
        for (name, value) in settings::KAFKA
            .iter()
            .copied()
            .chain(settings::kafka_replication(peers.len()))
        {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}={value}");
        }
        for (name, value) in &self.extras.settings {
            let _ = writeln!(text, "{name}={value}");
        }
        text
    }
}

/// Warnings and errors only: a healthy broker's log stays small enough to be read.
const LOGGING: &str = "\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %-5p %m (%c{1})%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
";

pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)
        .map_err(|e| Error::io(format_args!("could not write {}", path.display()), &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u32) -> KafkaNode {
        KafkaNode {
            id,
            broker_port: 20_000 + id as u16,
            controller_port: 24_000 + id as u16,
            process: None,
            extras: KafkaExtras::default(),
            extra_ports: Vec::new(),
        }
    }

    #[test]
    fn extra_listeners_and_settings_are_added_on_loopback() {
        let mut one = node(1);
        one.extras = KafkaExtras {
            listeners: vec![("LOGIN".into(), "SASL_SSL".into())],
            settings: vec![("ssl.client.auth".into(), "required".into())],
            ..KafkaExtras::default()
        };
        one.extra_ports = vec![20_900];
        let text = one.properties(Path::new("/d"), std::slice::from_ref(&one));
        assert!(text.contains(",LOGIN://127.0.0.1:20900\n"));
        assert!(text.contains(",LOGIN://localhost:20900\n"));
        assert!(text.contains("CONTROLLER:PLAINTEXT,LOGIN:SASL_SSL\n"));
        assert!(text.contains("ssl.client.auth=required\n"));
    }

    #[test]
    fn a_listener_behind_a_proxy_is_advertised_where_the_proxy_listens() {
        let mut one = node(1);
        one.extras = KafkaExtras {
            listeners: vec![("PROXIED".into(), "PLAINTEXT".into())],
            advertised: vec![("PROXIED".into(), "127.0.0.1:41000".into())],
            ..KafkaExtras::default()
        };
        one.extra_ports = vec![20_900];
        let text = one.properties(Path::new("/d"), std::slice::from_ref(&one));
        assert!(text.contains(",PROXIED://127.0.0.1:20900\n"));
        assert!(text.contains(",PROXIED://127.0.0.1:41000\n"));
        assert!(!text.contains("PROXIED://localhost"));
    }

    #[test]
    fn three_nodes_name_each_other_as_voters_and_replicate_three_times() {
        let peers = [node(1), node(2), node(3)];
        let text = peers[1].properties(Path::new("/d"), &peers);
        assert!(text.contains(
            "controller.quorum.voters=1@127.0.0.1:24001,2@127.0.0.1:24002,3@127.0.0.1:24003\n"
        ));
        assert!(text.contains("default.replication.factor=3\n"));
        assert!(text.contains("min.insync.replicas=2\n"));
        assert!(text.contains("auto.create.topics.enable=false\n"));
    }

    #[test]
    fn every_listener_is_on_loopback() {
        let peers = [node(1)];
        let text = peers[0].properties(Path::new("/d"), &peers);
        let listeners: Vec<&str> = text.lines().filter(|l| l.contains("://")).collect();
        assert_eq!(listeners.len(), 2);
        for line in listeners {
            assert_eq!(
                line.matches("://").count(),
                line.matches("://127.0.0.1:").count()
            );
        }
    }
}
