//! The long-lived stack: what runs is written down in its directory.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::kafka::KafkaState;
use crate::kafka_node::{KafkaExtras, write};
use crate::lock::DirectoryLock;
use crate::postgres::{PostgresOptions, PostgresState};
use crate::process::{ServerProcess, Signal};
use crate::prometheus::{PrometheusOptions, PrometheusState};
use crate::settings::WalLevel;
use crate::watchdog::Watchdog;
use crate::{Error, Result};

/// What a stack consists of.
#[derive(Clone, Debug)]
pub struct StackOptions {
    /// Everything the stack writes is below it.
    pub dir: PathBuf,
    /// 1 or 3 brokers; 0 for none.
    pub kafka_nodes: usize,
    /// What the brokers have beyond the usual.
    pub kafka_extras: KafkaExtras,
    /// Whether there is a Postgres.
    pub postgres: bool,
    /// How much Postgres' write-ahead log carries.
    pub wal_level: WalLevel,
    /// A Prometheus, if any.
    pub prometheus: Option<PrometheusOptions>,
}

impl StackOptions {
    /// One broker and one Postgres.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            kafka_nodes: 1,
            kafka_extras: KafkaExtras::default(),
            postgres: true,
            wal_level: WalLevel::Replica,
            prometheus: None,
        }
    }
}

/// Where the servers of a stack answer. A server that the stack does not have is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Addresses {
    /// `host:port,host:port` of the brokers.
    pub kafka: Option<String>,
    /// The id that the cluster's metadata answers carry.
    pub kafka_cluster_id: Option<String>,
    /// Connection URL of the superuser for the database `refold`.
    pub postgres: Option<String>,
    /// `host:port` of Prometheus.
    pub prometheus: Option<String>,
}

/// Whether the servers of a stack run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StackStatus {
    /// Where they answer, or answered.
    #[serde(flatten)]
    pub addresses: Addresses,
    /// Every server with its pid and whether that very process is alive.
    pub servers: Vec<ServerStatus>,
}

/// One server of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerStatus {
    /// For people, e.g. `"Kafka node 1"`.
    pub name: String,
    /// Process id it had when it was started.
    pub pid: u32,
    /// Whether it is alive.
    pub running: bool,
    /// Its output.
    pub log: PathBuf,
}

/// The state file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) kafka: Option<KafkaState>,
    pub(crate) postgres: Option<PostgresState>,
    prometheus: Option<PrometheusState>,
}

impl State {
    /// Servers with the signal that ends each of them gently.
    pub(crate) fn processes(&self) -> Vec<(&ServerProcess, Signal)> {
        let kafka = self.kafka.iter().flat_map(KafkaState::processes);
        let postgres = self.postgres.iter().filter_map(|p| p.process.as_ref());
        let prometheus = self.prometheus.iter().filter_map(|p| p.process.as_ref());
        kafka
            .map(|process| (process, Signal::Terminate))
            .chain(postgres.map(|process| (process, Signal::Interrupt)))
            .chain(prometheus.map(|process| (process, Signal::Terminate)))
            .collect()
    }

    fn addresses(&self) -> Addresses {
        Addresses {
            kafka: self.kafka.as_ref().map(KafkaState::bootstrap),
            kafka_cluster_id: self.kafka.as_ref().map(|k| k.cluster_id.clone()),
            postgres: self.postgres.as_ref().map(|p| p.dsn("refold")),
            prometheus: self.prometheus.as_ref().map(PrometheusState::address),
        }
    }
}

/// A stack in a directory. Dropping the value leaves the servers running.
#[derive(Debug)]
pub struct Stack {
    dir: PathBuf,
    pub(crate) state: State,
}

impl Stack {
    /// Starts what the options ask for and does not run yet; waits until all of it answers.
    /// Servers that run already are left as they are, so a second call changes nothing.
    ///
    /// # Errors
    /// When something is missing and cannot be installed, a server does not come up, or the
    /// stack in the directory was made with other options. What the failed call had started is
    /// stopped again.
    pub fn up(options: &StackOptions) -> Result<Self> {
        let dir = std::path::absolute(&options.dir)
            .map_err(|e| Error::io("could not resolve the stack's directory", &e))?;
        let _lock = DirectoryLock::acquire(&dir)?;
        let mut stack = Self {
            state: read_state(&dir)?.unwrap_or_default(),
            dir,
        };
        stack.refuse_other_shape(options)?;
        let ran_before: Vec<u32> = stack.running().map(|process| process.pid).collect();
        if let Err(e) = stack.ensure(options) {
            for (process, _) in stack.state.processes() {
                if !ran_before.contains(&process.pid) {
                    process.stop(Signal::Kill, std::time::Duration::from_secs(10))?;
                }
            }
            return Err(e);
        }
        Ok(stack)
    }

    /// The stack in a directory, if one was ever started there.
    ///
    /// # Errors
    /// When its state cannot be read.
    pub fn find(dir: &Path) -> Result<Option<Self>> {
        let dir = std::path::absolute(dir)
            .map_err(|e| Error::io("could not resolve the stack's directory", &e))?;
        Ok(read_state(&dir)?.map(|state| Self { dir, state }))
    }

    /// Where the servers answer.
    pub fn addresses(&self) -> Addresses {
        self.state.addresses()
    }

    /// The port of an extra listener of the first broker.
    pub fn kafka_listener_port(&self, name: &str) -> Option<u16> {
        self.state.kafka.as_ref()?.listener_port(name)
    }

    /// Which servers run.
    pub fn status(&self) -> StackStatus {
        let servers = self
            .state
            .processes()
            .into_iter()
            .map(|(process, _)| ServerStatus {
                name: process.name.clone(),
                pid: process.pid,
                running: process.is_running(),
                log: process.log.clone(),
            })
            .collect();
        StackStatus {
            addresses: self.addresses(),
            servers,
        }
    }

    /// Ends the servers that this directory's stack started, and nothing else; their data
    /// stays. Returns the names of those that were running.
    ///
    /// # Errors
    /// When a server survives SIGKILL.
    pub fn down(&self) -> Result<Vec<String>> {
        let _lock = DirectoryLock::acquire(&self.dir)?;
        self.stop_all()
    }

    /// Ends the servers and removes their data.
    ///
    /// # Errors
    /// When a server survives SIGKILL, or files cannot be removed.
    pub fn purge(&self) -> Result<Vec<String>> {
        let _lock = DirectoryLock::acquire(&self.dir)?;
        let stopped = self.stop_all()?;
        let homes = self.state.postgres.iter().map(|p| p.home.clone());
        let below = ["kafka", "prometheus", "postgres"].map(|name| self.dir.join(name));
        for path in homes.chain(below).chain([self.state_file()]) {
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else if path.exists() {
                fs::remove_file(&path)
            } else {
                Ok(())
            };
            removed
                .map_err(|e| Error::io(format_args!("could not remove {}", path.display()), &e))?;
        }
        Ok(stopped)
    }

    /// Hands the servers to the returned guard: they end when it is dropped, and also when this
    /// process is killed.
    ///
    /// # Errors
    /// When the watchdog cannot be started.
    pub fn guard(self) -> Result<StackGuard> {
        let watchdog = Watchdog::over(self.state.processes())?;
        Ok(StackGuard {
            stack: self,
            watchdog,
        })
    }

    fn running(&self) -> impl Iterator<Item = &ServerProcess> {
        self.state
            .processes()
            .into_iter()
            .map(|(process, _)| process)
            .filter(|process| process.is_running())
    }

    fn stop_all(&self) -> Result<Vec<String>> {
        let names: Vec<String> = self.running().map(|process| process.name.clone()).collect();
        if let Some(prometheus) = &self.state.prometheus {
            prometheus.stop(Signal::Terminate)?;
        }
        if let Some(kafka) = &self.state.kafka {
            kafka.stop(Signal::Terminate)?;
        }
        if let Some(postgres) = &self.state.postgres {
            postgres.stop(Signal::Interrupt)?;
        }
        Ok(names)
    }

    /// A cluster cannot change its number of nodes, and a running database not its WAL level.
    fn refuse_other_shape(&self, options: &StackOptions) -> Result<()> {
        let dir = self.dir.display();
        if let Some(kafka) = &self.state.kafka
            && options.kafka_nodes != 0
            && kafka.nodes.len() != options.kafka_nodes
        {
            return Err(Error::new(format!(
                "the stack in {dir} has {} Kafka nodes, not {}; remove it first with: \
                 cargo x stack down --purge --dir {dir}",
                kafka.nodes.len(),
                options.kafka_nodes
            )));
        }
        if let Some(kafka) = &self.state.kafka
            && options.kafka_nodes != 0
            && kafka
                .nodes
                .iter()
                .any(|node| node.extras != options.kafka_extras)
        {
            return Err(Error::new(format!(
                "the brokers of the stack in {dir} were made with other listeners or settings; \
                 remove it first with: cargo x stack down --purge --dir {dir}"
            )));
        }
        if let Some(postgres) = &self.state.postgres
            && options.postgres
            && postgres.is_running()
            && postgres.wal_level != options.wal_level.name()
        {
            return Err(Error::new(format!(
                "Postgres in {dir} runs with wal_level={}, not {}; stop it first with: \
                 cargo x stack down --dir {dir}",
                postgres.wal_level,
                options.wal_level.name()
            )));
        }
        Ok(())
    }

    fn ensure(&mut self, options: &StackOptions) -> Result<()> {
        if options.postgres {
            self.ensure_postgres(options)?;
        }
        if options.kafka_nodes > 0 {
            self.ensure_kafka(options.kafka_nodes, &options.kafka_extras)?;
        }
        if let Some(prometheus) = &options.prometheus {
            self.ensure_prometheus(prometheus)?;
        }
        self.write_state()
    }

    fn ensure_postgres(&mut self, options: &StackOptions) -> Result<()> {
        let options = PostgresOptions {
            wal_level: options.wal_level,
            ..PostgresOptions::default()
        };
        let mut server = match self.state.postgres.take() {
            Some(known) => known,
            None => PostgresState::plan(&self.dir, &options)?,
        };
        let started = server.ensure(&options, &mut |server| {
            self.state.postgres = Some(server.clone());
            self.write_state()
        });
        self.state.postgres = Some(server);
        started
    }

    fn ensure_kafka(&mut self, nodes: usize, extras: &KafkaExtras) -> Result<()> {
        let mut cluster = match self.state.kafka.take() {
            Some(known) => known,
            None => {
                let mut planned = KafkaState::plan(nodes)?;
                planned.add(extras)?;
                planned
            }
        };
        let dir = self.dir.join("kafka");
        let started = cluster.ensure(&dir, &mut |cluster| {
            self.state.kafka = Some(cluster.clone());
            self.write_state()
        });
        self.state.kafka = Some(cluster);
        started
    }

    fn ensure_prometheus(&mut self, options: &PrometheusOptions) -> Result<()> {
        let mut server = match self.state.prometheus.take() {
            Some(known) => known,
            None => PrometheusState::plan(&self.dir)?,
        };
        let started = server.ensure(options, &mut |server| {
            self.state.prometheus = Some(server.clone());
            self.write_state()
        });
        self.state.prometheus = Some(server);
        started
    }

    fn state_file(&self) -> PathBuf {
        state_file(&self.dir)
    }

    /// Replaces the state file as a whole: a reader never meets half of it.
    fn write_state(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.state)
            .map_err(|e| Error::new(format!("could not encode the stack's state: {e}")))?;
        let partial = self.dir.join("state.json.partial");
        write(&partial, &text)?;
        fs::rename(&partial, self.state_file())
            .map_err(|e| Error::io("could not write the stack's state", &e))
    }
}

fn state_file(dir: &Path) -> PathBuf {
    dir.join("state.json")
}

fn read_state(dir: &Path) -> Result<Option<State>> {
    let path = state_file(dir);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => {
            return Err(Error::io(
                format_args!("could not read {}", path.display()),
                &e,
            ));
        }
    };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|e| Error::new(format!("{} is not readable: {e}", path.display())))
}

/// A stack that ends with this value; see [`Stack::guard`].
#[derive(Debug)]
pub struct StackGuard {
    pub(crate) stack: Stack,
    pub(crate) watchdog: Watchdog,
}

impl StackGuard {
    /// The guarded stack.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }
}

impl Drop for StackGuard {
    fn drop(&mut self) {
        if let Err(e) = self.stack.down() {
            eprintln!("{e}");
        }
    }
}
