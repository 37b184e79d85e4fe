//! A private Prometheus that scrapes local processes every second.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::kafka_node::write;
use crate::port::{self, Purpose};
use crate::process::{Launch, ServerProcess, Signal};
use crate::watchdog::Watchdog;
use crate::{Error, Result, http, locate};

const START_PATIENCE: Duration = Duration::from_secs(60);
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// One address to scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrapeTarget {
    /// The `job` label of its series.
    pub job: String,
    /// `host:port`; the path is `/metrics`.
    pub address: String,
}

/// What a private Prometheus does besides listening.
#[derive(Clone, Debug)]
pub struct PrometheusOptions {
    /// Addresses to scrape from the start; see also [`PrometheusServer::set_targets`].
    pub targets: Vec<ScrapeTarget>,
    /// Time between two scrapes of a target.
    pub scrape_interval: Duration,
    /// Alert and recording rule files.
    pub rule_files: Vec<PathBuf>,
}

impl Default for PrometheusOptions {
    fn default() -> Self {
        Self {
            targets: Vec::new(),
            scrape_interval: Duration::from_secs(1),
            rule_files: Vec::new(),
        }
    }
}

/// A server as it is written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PrometheusState {
    pub(crate) home: PathBuf,
    pub(crate) port: u16,
    pub(crate) process: Option<ServerProcess>,
}

impl PrometheusState {
    pub(crate) fn plan(dir: &Path) -> Result<Self> {
        Ok(Self {
            home: dir.join("prometheus"),
            port: port::free(Purpose::Prometheus, 1)?[0],
            process: None,
        })
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process.as_ref().is_some_and(ServerProcess::is_running)
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts the server unless it runs, and waits until it answers.
    pub(crate) fn ensure(
        &mut self,
        options: &PrometheusOptions,
        record: &mut dyn FnMut(&Self) -> Result<()>,
    ) -> Result<()> {
        if self.is_running() {
            return self.await_ready();
        }
        let program = locate::prometheus()?;
        fs::create_dir_all(&self.home)
            .map_err(|e| Error::io(format_args!("could not create {}", self.home.display()), &e))?;
        write(&self.home.join("prometheus.yml"), &configuration(options)?)?;
        self.write_targets(&options.targets)?;
        if !port::is_free(self.port) {
            self.port = port::free(Purpose::Prometheus, 1)?[0];
        }
        let process = ServerProcess::start(Launch {
            name: "Prometheus".into(),
            program,
            args: vec![
                "--config.file=prometheus.yml".into(),
                format!("--storage.tsdb.path={}", self.data().display()).into(),
                format!("--web.listen-address={}", self.address()).into(),
            ],
            env: Vec::new(),
            working_dir: self.home.clone(),
            log: self.home.join("server.log"),
            identity: None,
        })?;
        self.process = Some(process);
        record(self)?;
        self.await_ready()
    }

    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// Ready when the server behind the port stores its data in *our* directory.
    fn await_ready(&self) -> Result<()> {
        let process = self
            .process
            .as_ref()
            .ok_or_else(|| Error::new("Prometheus was not started"))?;
        let data = self.data().display().to_string();
        process.await_ready(START_PATIENCE, || {
            let ready = http::get(&self.address(), "/-/ready").is_ok_and(|(code, _)| code == 200);
            ready
                && self
                    .api("/api/v1/status/flags")
                    .is_ok_and(|flags| flags["storage.tsdb.path"] == data.as_str())
        })
    }

    /// Replaces the list that the server watches; it follows within a second.
    pub(crate) fn write_targets(&self, targets: &[ScrapeTarget]) -> Result<()> {
        let groups: Vec<Value> = targets
            .iter()
            .map(|t| serde_json::json!({"targets": [t.address], "labels": {"job": t.job}}))
            .collect();
        let partial = self.home.join("targets.json.partial");
        let path = self.home.join("targets.json");
        write(&partial, &Value::Array(groups).to_string())?;
        fs::rename(&partial, &path)
            .map_err(|e| Error::io(format_args!("could not write {}", path.display()), &e))
    }

    /// The `data` member of an API answer.
    fn api(&self, path: &str) -> Result<Value> {
        let (status, body) = http::get(&self.address(), path)?;
        let mut answer: Value = serde_json::from_str(&body)
            .map_err(|e| Error::new(format!("Prometheus answered no JSON: {e}")))?;
        if status == 200 && answer["status"] == "success" {
            return Ok(answer["data"].take());
        }
        Err(Error::new(format!(
            "Prometheus refused {path}: {}",
            answer["error"].as_str().unwrap_or("no message")
        )))
    }

    pub(crate) fn stop(&self, first: Signal) -> Result<()> {
        self.process
            .as_ref()
            .map_or(Ok(()), |process| process.stop(first, STOP_PATIENCE))
    }
}

/// JSON is YAML, so the configuration needs no quoting rules of its own.
fn configuration(options: &PrometheusOptions) -> Result<String> {
    let interval = format!("{}ms", options.scrape_interval.as_millis());
    let rule_files = options
        .rule_files
        .iter()
        .map(|path| {
            std::path::absolute(path)
                .map(|path| path.display().to_string())
                .map_err(|e| Error::io(format_args!("no such rule file {}", path.display()), &e))
        })
        .collect::<Result<Vec<String>>>()?;
    Ok(serde_json::json!({
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": rule_files,
        "scrape_configs": [{
            "job_name": "local",
            "file_sd_configs": [{"files": ["targets.json"], "refresh_interval": "1s"}],
        }],
    })
    .to_string())
}

/// A Prometheus that lives as long as this value.
#[derive(Debug)]
pub struct PrometheusServer {
    state: PrometheusState,
    _watchdog: Option<Watchdog>,
}

impl PrometheusServer {
    /// Starts a server with its files under `dir` and waits until it answers.
    ///
    /// # Errors
    /// When Prometheus cannot be found or fetched, or does not come up (with its log's end).
    pub fn start(dir: &Path, options: &PrometheusOptions) -> Result<Self> {
        let mut watchdog = None;
        let mut state = PrometheusState::plan(dir)?;
        let started = state.ensure(options, &mut |state| {
            let processes = state.process.iter().map(|p| (p, Signal::Kill));
            watchdog = Some(Watchdog::over(processes)?);
            Ok(())
        });
        let server = Self {
            state,
            _watchdog: watchdog,
        };
        started.map(|()| server)
    }

    /// `host:port` of its API.
    pub fn address(&self) -> String {
        self.state.address()
    }

    /// Replaces what is scraped; the server follows within a second.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn set_targets(&self, targets: &[ScrapeTarget]) -> Result<()> {
        self.state.write_targets(targets)
    }

    /// Evaluates an expression now and returns the result list of the answer
    /// (`[{"metric": {..}, "value": [time, "text"]}, ..]`).
    ///
    /// # Errors
    /// When the expression is refused or the server does not answer.
    pub fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let path = format!("/api/v1/query?query={}", http::encode(expression));
        match self.state.api(&path)?["result"].take() {
            Value::Array(series) => Ok(series),
            other => Ok(vec![other]),
        }
    }
}

impl Drop for PrometheusServer {
    fn drop(&mut self) {
        if let Err(e) = self.state.stop(Signal::Kill) {
            eprintln!("{e}");
        }
    }
}

/// Path of Prometheus' rule checker, fetched if need be.
///
/// # Errors
/// When it can neither be found nor fetched.
pub fn promtool() -> Result<PathBuf> {
    locate::promtool()
}
