//! A Kafka cluster of one or three combined KRaft nodes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::kafka_node::{KafkaExtras, KafkaInstallation, KafkaNode};
use crate::port::{self, Purpose};
use crate::process::{ServerProcess, Signal, wait_until};
use crate::watchdog::Watchdog;
use crate::{Error, Result, kafka_probe, machine};

/// Two busy cores need long for three Java machines; a healthy start takes 3 to 9 seconds.
const START_PATIENCE: Duration = Duration::from_secs(120);
const STOP_PATIENCE: Duration = Duration::from_secs(20);
const PROBE_PATIENCE: Duration = Duration::from_secs(2);
/// How often other ports are tried when somebody took ours between choosing and binding.
const PORT_ATTEMPTS: usize = 4;

/// A cluster as it is written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KafkaState {
    pub(crate) cluster_id: String,
    pub(crate) nodes: Vec<KafkaNode>,
}

impl KafkaState {
    /// A cluster that was never started: a new id, free ports.
    pub(crate) fn plan(nodes: usize) -> Result<Self> {
        if nodes != 1 && nodes != 3 {
            return Err(Error::new(format!(
                "a local cluster has 1 or 3 nodes, not {nodes}"
            )));
        }
        let mut state = Self {
            cluster_id: new_cluster_id()?,
            nodes: (1..=nodes)
                .map(|id| KafkaNode {
                    id: id as u32,
                    broker_port: 0,
                    controller_port: 0,
                    process: None,
                    extras: KafkaExtras::default(),
                    extra_ports: Vec::new(),
                })
                .collect(),
        };
        state.choose_ports()?;
        Ok(state)
    }

    /// Adds to all nodes, before the first start, what they have beyond the usual.
    pub(crate) fn add(&mut self, extras: &KafkaExtras) -> Result<()> {
        for node in &mut self.nodes {
            node.extras = extras.clone();
        }
        self.choose_ports()
    }

    fn choose_ports(&mut self) -> Result<()> {
        let extra = self.nodes.iter().map(|node| node.extras.listeners.len());
        let extra: usize = extra.sum();
        let mut brokers = port::free(Purpose::Broker, self.nodes.len() + extra)?;
        let mut more = brokers.split_off(self.nodes.len()).into_iter();
        for node in &mut self.nodes {
            let count = node.extras.listeners.len();
            node.extra_ports = more.by_ref().take(count).collect();
        }
        let controllers = port::free(Purpose::Controller, self.nodes.len())?;
        for (node, ports) in self
            .nodes
            .iter_mut()
            .zip(brokers.into_iter().zip(controllers))
        {
            (node.broker_port, node.controller_port) = ports;
        }
        Ok(())
    }

    /// Starts the nodes that do not run and waits until all of them see each other.
    ///
    /// `record` is called after every start, before anything is waited for, so that a process
    /// is written down even if this one is killed right after.
    pub(crate) fn ensure(
        &mut self,
        dir: &Path,
        record: &mut dyn FnMut(&Self) -> Result<()>,
    ) -> Result<()> {
        if self.is_ready() {
            return Ok(());
        }
        let installation = KafkaInstallation::find_or_install()?;
        let mut attempts_left = PORT_ATTEMPTS;
        loop {
            self.choose_ports_again_if_taken()?;
            let missing: Vec<usize> = (0..self.nodes.len())
                .filter(|&i| !self.nodes[i].is_running())
                .collect();
            let Err(e) = self.start_nodes(&missing, &installation, dir, record) else {
                return Ok(());
            };
            // Only what this call started; nodes that ran before stay up.
            for &i in &missing {
                if let Some(process) = &self.nodes[i].process {
                    process.stop(Signal::Kill, Duration::from_secs(10))?;
                }
            }
            attempts_left -= 1;
            let clash = e.to_string().contains("Address already in use");
            if !clash || missing.len() < self.nodes.len() || attempts_left == 0 {
                return Err(e);
            }
            self.clear_logs();
            self.choose_ports()?;
        }
    }

    fn clear_logs(&self) {
        for log in self.nodes.iter().filter_map(|n| n.process.as_ref()) {
            // Only so that an old message is not read as a new one; the file may be gone.
            drop(fs::remove_file(&log.log));
        }
    }

    /// Ports may have been taken while a cluster was down. They can change only while no node
    /// runs, because the running ones know each other by them.
    fn choose_ports_again_if_taken(&mut self) -> Result<()> {
        let all_free = |node: &KafkaNode| {
            port::is_free(node.broker_port) && port::is_free(node.controller_port)
        };
        let taken = |node: &KafkaNode| !(node.is_running() || all_free(node));
        let Some(blocked) = self.nodes.iter().find(|node| taken(node)) else {
            return Ok(());
        };
        if self.nodes.iter().any(KafkaNode::is_running) {
            return Err(Error::new(format!(
                "port {} or {} of Kafka node {} is taken by another process",
                blocked.broker_port, blocked.controller_port, blocked.id
            )));
        }
        self.choose_ports()
    }

    fn start_nodes(
        &mut self,
        missing: &[usize],
        installation: &KafkaInstallation,
        dir: &Path,
        record: &mut dyn FnMut(&Self) -> Result<()>,
    ) -> Result<()> {
        let peers = self.nodes.clone();
        let cluster_id = &self.cluster_id;
        // Formatting is a Java start of its own: three at once take as long as one and a half.
        std::thread::scope(|scope| {
            let formats: Vec<_> = missing
                .iter()
                .map(|&i| {
                    let peers = &peers;
                    scope.spawn(move || peers[i].prepare(installation, dir, cluster_id, peers))
                })
                .collect();
            formats.into_iter().try_for_each(|format| {
                format
                    .join()
                    .unwrap_or_else(|_| Err(Error::new("formatting Kafka's storage panicked")))
            })
        })?;
        for &i in missing {
            self.nodes[i].start(installation, dir)?;
            record(self)?;
        }
        self.await_ready()
    }

    fn await_ready(&self) -> Result<()> {
        self.nodes.iter().try_for_each(|node| {
            let process = node
                .process
                .as_ref()
                .ok_or_else(|| Error::new(format!("Kafka node {} was not started", node.id)))?;
            process.await_ready(START_PATIENCE, || self.node_sees_all(node))
        })
    }

    /// Whether every node runs and answers for this cluster with all nodes alive.
    pub(crate) fn is_ready(&self) -> bool {
        self.nodes
            .iter()
            .all(|node| node.is_running() && self.node_sees_all(node))
    }

    fn node_sees_all(&self, node: &KafkaNode) -> bool {
        kafka_probe::ask(node.broker_port, PROBE_PATIENCE).is_ok_and(|view| {
            view.cluster_id == self.cluster_id
                && view.has_controller
                && self
                    .nodes
                    .iter()
                    .all(|peer| view.broker_ports.contains(&peer.broker_port))
        })
    }

    /// The port of an extra listener on the first node.
    pub(crate) fn listener_port(&self, name: &str) -> Option<u16> {
        let node = self.nodes.first()?;
        let mut listeners = node.extras.listeners.iter().zip(&node.extra_ports);
        listeners
            .find(|(listener, _)| listener.0 == name)
            .map(|(_, port)| *port)
    }

    /// Addresses for clients, `host:port,host:port`.
    pub(crate) fn bootstrap(&self) -> String {
        let nodes: Vec<String> = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.broker_port))
            .collect();
        nodes.join(",")
    }

    pub(crate) fn processes(&self) -> impl Iterator<Item = &ServerProcess> {
        self.nodes.iter().filter_map(|node| node.process.as_ref())
    }

    /// Ends all nodes: signals them together, because a controller that goes last has no
    /// quorum left to say goodbye to.
    pub(crate) fn stop(&self, first: Signal) -> Result<()> {
        for process in self.processes() {
            process.signal(first);
        }
        wait_until(STOP_PATIENCE, || {
            !self.nodes.iter().any(KafkaNode::is_running)
        });
        self.processes()
            .try_for_each(|process| process.stop(Signal::Kill, Duration::from_secs(10)))
    }
}

/// 16 random bytes in the URL-safe base64 that Kafka uses for ids.
fn new_cluster_id() -> Result<String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // The cleared bit keeps the first character from being a dash, which a command line would
    // take for an option.
    let bits = u128::from_ne_bytes(machine::random_bytes()?) & (u128::MAX >> 1);
    let sextet = |i: u32| match i {
        21 => (bits & 0x03) << 4,
        _ => (bits >> (122 - 6 * i)) & 0x3f,
    };
    Ok((0..22)
        .map(|i| char::from(ALPHABET[sextet(i) as usize]))
        .collect())
}

/// A Kafka cluster that lives as long as this value.
#[derive(Debug)]
pub struct KafkaCluster {
    dir: PathBuf,
    state: KafkaState,
    watchdog: Option<Watchdog>,
}

impl KafkaCluster {
    /// Starts 1 or 3 nodes with their files under `dir` and waits until they answer.
    ///
    /// # Errors
    /// When Java or the jars cannot be had, or a node does not come up (with its log's end).
    pub fn start(dir: &Path, nodes: usize) -> Result<Self> {
        Self::start_with(dir, nodes, &KafkaExtras::default())
    }

    /// Starts a cluster that has more listeners, settings or users than the usual one.
    ///
    /// # Errors
    /// As [`KafkaCluster::start`].
    pub fn start_with(dir: &Path, nodes: usize, extras: &KafkaExtras) -> Result<Self> {
        let mut state = KafkaState::plan(nodes)?;
        state.add(extras)?;
        let mut cluster = Self {
            dir: dir.to_path_buf(),
            state,
            watchdog: None,
        };
        cluster.ensure()?;
        Ok(cluster)
    }

    /// The port of an extra listener on the first node.
    pub fn listener_port(&self, name: &str) -> Option<u16> {
        self.state.listener_port(name)
    }

    /// Starts the nodes that were killed and waits until all see each other again.
    ///
    /// # Errors
    /// When a node does not come up.
    pub fn ensure(&mut self) -> Result<()> {
        let watchdog = &mut self.watchdog;
        self.state.ensure(&self.dir, &mut |state| {
            // The new one first: no moment without a watchdog over the nodes that run.
            let next = Watchdog::over(state.processes().map(|p| (p, Signal::Kill)))?;
            if let Some(old) = watchdog.replace(next) {
                old.dismiss();
            }
            Ok(())
        })
    }

    /// SIGKILL for one node (0-based); returns when the process is gone.
    ///
    /// # Errors
    /// When there is no such node, or it survives SIGKILL.
    pub fn kill_node(&self, index: usize) -> Result<()> {
        self.node(index)?
            .stop(Signal::Kill, Duration::from_secs(10))
    }

    /// SIGSTOP for one node (0-based): it answers nothing, and its connections stay open.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn pause_node(&self, index: usize) -> Result<()> {
        self.node(index).map(ServerProcess::pause)
    }

    /// SIGCONT for a node that [`KafkaCluster::pause_node`] stopped.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn resume_node(&self, index: usize) -> Result<()> {
        self.node(index).map(ServerProcess::resume)
    }

    fn node(&self, index: usize) -> Result<&ServerProcess> {
        let node = self.state.nodes.get(index);
        node.and_then(|node| node.process.as_ref())
            .ok_or_else(|| Error::new(format!("there is no Kafka node {index}")))
    }

    /// Addresses for clients, `host:port,host:port`.
    pub fn bootstrap(&self) -> String {
        self.state.bootstrap()
    }

    /// The id that the cluster's metadata answers carry.
    pub fn cluster_id(&self) -> &str {
        &self.state.cluster_id
    }
}

impl Drop for KafkaCluster {
    /// Kills: what a guarded cluster stores is not needed after it.
    fn drop(&mut self) {
        if let Err(e) = self.state.stop(Signal::Kill) {
            eprintln!("{e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_ids_have_kafkas_form_and_differ() {
        let one = new_cluster_id().expect("an id");
        let two = new_cluster_id().expect("an id");
        assert_eq!(one.len(), 22);
        assert_ne!(one, two);
        assert!(one.ends_with(['A', 'Q', 'g', 'w']));
        assert!(one.starts_with(|c: char| ('A'..='f').contains(&c)));
    }

    #[test]
    fn two_nodes_are_refused_because_they_have_no_majority() {
        let error = KafkaState::plan(2).expect_err("two nodes");
        assert_eq!(error.to_string(), "a local cluster has 1 or 3 nodes, not 2");
    }
}
