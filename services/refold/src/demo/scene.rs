//! The stage of a demo: its stack, its processes and its reads.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use refold_domain::fold::AnyProjection;
use refold_domain::version::VersionState;
use refold_local::Stack;
use refold_local::StackGuard;
use refold_local::StackOptions;
use refold_ports::Registry;
use refold_ports::registry::MarkRow;
use refold_store_postgres::PgRegistry;
use refold_store_postgres::SessionOptions;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::figures::Comparison;
use super::figures::Cutover;
use super::figures::Rebuild;
use super::processes::Role;
use super::processes::free_address;
use crate::cli::Count;
use crate::cli::DemoArgs;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::cli::word;
use crate::command::cutover;
use crate::command::verify;
use crate::connect;
use crate::load;
use crate::load::FreshIds;
use crate::load::LoadPlan;
use crate::load::LoadProgress;
use crate::load::LoadReport;
use crate::load::Span;
use crate::load::SpanMark;
use crate::run::Projections;
use crate::run::find;

/// Between two looks at something that another process does.
const LOOK: Duration = Duration::from_millis(20);

struct Load {
    task: JoinHandle<LoadReport>,
    stop: watch::Sender<bool>,
}

/// Everything that a demo started.
pub(super) struct Scene {
    args: DemoArgs,
    projections: Projections,
    began: Instant,
    stack: Option<StackGuard>,
    logs: PathBuf,
    brokers: String,
    postgres: String,
    topic: String,
    api: String,
    registry: Option<Arc<PgRegistry>>,
    roles: Vec<Role>,
    load: Option<Load>,
    fresh: FreshIds,
    mark: SpanMark,
    progress: LoadProgress,
}

impl Scene {
    /// Brings the stack up, or uses the one that the flags name.
    pub(super) async fn open(args: DemoArgs, projections: Projections) -> Result<Self, Failure> {
        let began = Instant::now();
        let dir = args.stack_dir.clone().unwrap_or_else(|| {
            std::env::temp_dir().join(format!("refold-demo-{}", std::process::id()))
        });
        let logs = dir.join("logs");
        std::fs::create_dir_all(&logs)
            .map_err(|error| Failure::usage(format!("-stack-dir {}: {error}", dir.display())))?;
        let (stack, brokers, postgres) = match (&args.brokers, &args.postgres) {
            (Some(brokers), Some(postgres)) => (None, brokers.clone(), postgres.clone()),
            _ => {
                say(began, "start Kafka and Postgres");
                let up = tokio::task::spawn_blocking(move || {
                    Stack::up(&StackOptions::new(dir)).and_then(Stack::guard)
                });
                let guard = up
                    .await
                    .map_err(|error| Failure::error("start the stack", error))?
                    .map_err(|error| Failure::new(Kind::Unreachable, error.to_string()))?;
                let addresses = guard.stack().addresses();
                (
                    Some(guard),
                    served(addresses.kafka)?,
                    served(addresses.postgres)?,
                )
            }
        };
        Ok(Self {
            topic: format!("demo-{:08x}", began_id()),
            args,
            projections,
            began,
            stack,
            logs,
            brokers,
            postgres,
            api: String::new(),
            registry: None,
            roles: Vec::new(),
            load: None,
            fresh: FreshIds::default(),
            mark: SpanMark::default(),
            progress: LoadProgress::default(),
        })
    }

    pub(super) fn args(&self) -> &DemoArgs {
        &self.args
    }

    /// Tells what comes next.
    pub(super) fn step(&self, what: &str) {
        say(self.began, what);
    }

    /// Tells what came of it.
    pub(super) fn note(&self, what: &str) {
        say(self.began, &format!("  {what}"));
    }

    /// Writes the log.
    pub(super) async fn seed(&mut self) -> Result<(), Failure> {
        let mut args = vec!["seed".to_owned()];
        args.extend(self.stream_flags());
        args.extend(self.log_flags());
        args.extend(flags(&[("codec", &self.args.codec)]));
        let mut seed = Role::start("seed", &self.logs, &args, false)?;
        // A log of any size may take its time; the seed says itself how far it is.
        seed.finish(Duration::from_secs(24 * 3600)).await
    }

    /// Starts the live projector of a version.
    pub(super) async fn start_live(&mut self, version: &str) -> Result<(), Failure> {
        let role = self.projector(version, &["--mode=live".to_owned()], "live")?;
        self.roles.push(role);
        Ok(())
    }

    /// Starts the api.
    pub(super) async fn start_api(&mut self) -> Result<(), Failure> {
        let address = free_address()?;
        let mut args = vec!["api".to_owned()];
        args.extend(flags(&[("listen", &address), ("postgres", &self.postgres)]));
        self.roles
            .push(Role::start("api", &self.logs, &args, false)?);
        self.api = format!("http://{address}");
        Ok(())
    }

    fn projector(&self, version: &str, mode: &[String], log: &str) -> Result<Role, Failure> {
        let mut args = vec!["projector".to_owned()];
        args.extend_from_slice(mode);
        args.extend(flags(&[("version", version), ("postgres", &self.postgres)]));
        args.extend(self.log_flags());
        Role::start(
            &format!("projector-{version}-{log}"),
            &self.logs,
            &args,
            false,
        )
    }

    fn log_flags(&self) -> Vec<String> {
        flags(&[
            ("brokers", &self.brokers),
            ("topic", &self.topic),
            ("format", word(self.args.format)),
        ])
    }

    fn stream_flags(&self) -> Vec<String> {
        let stream = &self.args.stream;
        flags(&[
            ("events", &stream.events.0.to_string()),
            ("aggregates", &stream.aggregates.0.to_string()),
            ("partitions", &stream.partitions.to_string()),
            ("zipf", &stream.zipf.to_string()),
            ("seed", &stream.seed.to_string()),
        ])
    }

    /// Starts reading.
    pub(super) fn start_load(&mut self) {
        let plan = LoadPlan {
            api: self.api.clone(),
            rate: self.args.read_rate.0,
            aggregates: self.args.stream.aggregates.0,
            seed: self.args.stream.seed,
        };
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(load::run(
            plan,
            self.fresh.clone(),
            self.mark.clone(),
            self.progress.clone(),
            stopped,
        ));
        self.load = Some(Load { task, stop });
    }

    /// Reads so far.
    pub(super) fn reads(&self) -> u64 {
        self.progress.reads()
    }

    /// Accounts reads from now on to `span`.
    pub(super) fn mark(&self, span: Span) {
        self.mark.set(span);
    }

    /// Waits until so many reads were made.
    pub(super) async fn wait_reads(&mut self, reads: u64) -> Result<(), Failure> {
        let due = reads.saturating_sub(self.reads()) / self.args.read_rate.0.max(1);
        let bound = Duration::from_secs(60 + 2 * due);
        let deadline = Instant::now() + bound;
        while self.reads() < reads {
            self.check_roles()?;
            past(deadline, || {
                format!("{reads} reads were not made in {} s", bound.as_secs())
            })?;
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Stops reading and returns what was seen.
    pub(super) async fn stop_load(&mut self) -> Result<LoadReport, Failure> {
        let Some(load) = self.load.take() else {
            return Err(Failure::new(Kind::Error, "no reads were started"));
        };
        load.stop.send_replace(true);
        let report = load.task.await;
        report.map_err(|error| Failure::error("read the api", error))
    }

    /// Starts appending to the log; the ids that it writes are read back.
    pub(super) fn start_tail(&mut self) -> Result<(), Failure> {
        if self.args.tail_rate.0 == 0 {
            return Ok(());
        }
        let mut args = vec![
            "seed".to_owned(),
            "tail".to_owned(),
            "--print-ids".to_owned(),
        ];
        args.extend(self.log_flags());
        args.extend(flags(&[
            ("codec", &self.args.codec),
            ("rate", &self.args.tail_rate.0.to_string()),
        ]));
        let mut tail = Role::start("tail", &self.logs, &args, true)?;
        if let Some(stdout) = tail.stdout() {
            let fresh = self.fresh.clone();
            tokio::spawn(async move {
                let mut lines = BufReader::new(stdout).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    if let Ok(id) = line.trim().parse() {
                        fresh.note(id);
                    }
                }
            });
        }
        self.roles.push(tail);
        Ok(())
    }

    /// Waits until the log moves: nothing is proven about a log that stands still.
    pub(super) async fn wait_tail(&mut self, bound: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + bound;
        while self.args.tail_rate.0 > 0 && self.fresh.is_empty() {
            self.check_roles()?;
            past(deadline, || {
                format!("nothing was appended in {} s", bound.as_secs())
            })?;
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    async fn registry(&mut self) -> Result<Arc<PgRegistry>, Failure> {
        if let Some(registry) = &self.registry {
            return Ok(registry.clone());
        }
        let registry = connect::registry(&self.session()?).await?;
        self.registry = Some(registry.clone());
        Ok(registry)
    }

    fn session(&self) -> Result<SessionOptions, Failure> {
        let parsed = SessionOptions::parse(&self.postgres);
        parsed.map_err(|error| Failure::usage(format!("-postgres: {error}")))
    }

    /// Waits until a version is in a state.
    pub(super) async fn wait_state(
        &mut self,
        version: &str,
        state: VersionState,
        bound: Duration,
    ) -> Result<(), Failure> {
        let registry = self.registry().await?;
        let deadline = Instant::now() + bound;
        loop {
            self.check_roles()?;
            if let Ok(row) = registry.version(version).await
                && row.state == state
            {
                return Ok(());
            }
            past(deadline, || {
                format!("{version} was not {state} in {} s", bound.as_secs())
            })?;
            tokio::time::sleep(LOOK).await;
        }
    }

    fn check_roles(&mut self) -> Result<(), Failure> {
        self.roles.iter_mut().try_for_each(Role::check)
    }

    /// Rebuilds a version; the projector is SIGKILLed `kills` times in the middle and started again.
    pub(super) async fn rebuild(&mut self, version: &str, kills: u32) -> Result<Rebuild, Failure> {
        let registry = self.registry().await?;
        let mode = [
            "--mode=replay".to_owned(),
            "--from-offset=0".to_owned(),
            "--catch-up".to_owned(),
            format!("--rate-limit={}", self.args.rate_limit.0),
        ];
        let partitions = self.args.stream.partitions as usize;
        let history = self.args.stream.events.0;
        let began = Instant::now();
        let mut replay = self.projector(version, &mode, "replay")?;
        let mut killed = 0;
        let deadline = began + Duration::from_secs(60 + history / 100_000);
        loop {
            self.check_roles()?;
            replay.check()?;
            let marks = match registry.version(version).await {
                Ok(row) => registry.marks(row.id).await?,
                Err(_) => Vec::new(),
            };
            let loaded = marks.iter().filter(|mark| mark.has_leaf).count();
            // A kill counts while some partitions are in and others are not:
            // the workers hold folded events that no transaction has seen.
            let due = partitions * (killed as usize + 1) / (kills as usize + 1);
            if killed < kills && loaded >= due.max(1) && loaded < partitions {
                replay.kill().await?;
                killed += 1;
                self.note(&format!(
                    "SIGKILL with {loaded} of {partitions} partitions loaded"
                ));
                replay = self.projector(version, &mode, "replay")?;
            }
            if loaded == partitions && reached(&marks) {
                break;
            }
            past(deadline, || format!("{version} was not rebuilt in time"))?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let seconds = began.elapsed().as_secs_f64();
        self.roles.push(replay);
        Ok(Rebuild {
            events: history,
            seconds,
            kills: killed,
        })
    }

    /// Compares two versions at one offset per partition, the tail moving.
    pub(super) async fn verify_against(
        &mut self,
        version: &str,
        against: &str,
    ) -> Result<Comparison, Failure> {
        let (left, right) = (self.projection(version)?, self.projection(against)?);
        let (session, args) = (self.session()?, &self.args);
        let compared = verify::with_version(&session, &left, &right, &args.stream, args.format);
        let comparison = compared.await?;
        self.tell(&format!("{version} against {against}"), &comparison);
        Ok(comparison)
    }

    /// Compares a version with the oracle at one offset per partition, the tail moving.
    pub(super) async fn verify_expected(&mut self, version: &str) -> Result<Comparison, Failure> {
        let (projection, session) = (self.projection(version)?, self.session()?);
        let (stream, format) = (&self.args.stream, self.args.format);
        let compared = verify::with_oracle(&session, &projection, stream, format);
        let comparison = compared.await?;
        self.tell(
            &format!("{version} against the known final state"),
            &comparison,
        );
        Ok(comparison)
    }

    fn projection(&self, label: &str) -> Result<Arc<dyn AnyProjection>, Failure> {
        find(&self.projections, label)
    }

    fn tell(&self, what: &str, found: &Comparison) {
        self.note(&format!(
            "{what}: {} rows, {} differences",
            Count(found.rows),
            found.differences
        ));
    }

    /// Promotes a version through the api.
    pub(super) async fn cutover(&mut self, version: &str) -> Result<Cutover, Failure> {
        let answer = cutover::ask(&self.api, version, false, None).await?;
        if answer.status != 200 {
            return Err(Failure::new(
                Kind::Refused,
                format!("the promotion was refused: {}", answer.problem()),
            ));
        }
        let offsets = answer.body["offsets"].as_object();
        let offsets = offsets
            .into_iter()
            .flatten()
            .filter_map(|(partition, offset)| Some((partition.parse().ok()?, offset.as_i64()?)));
        Ok(Cutover {
            generation: answer.body["generation"].as_i64().unwrap_or_default(),
            flip_ms: answer.body["flip_ms"].as_f64().unwrap_or(f64::NAN),
            offsets: offsets.collect(),
        })
    }

    /// Stops every process, newest first, and takes the stack down.
    pub(super) async fn close(&mut self) -> Result<(), Failure> {
        self.step("stop what was started");
        if self.load.is_some() {
            self.stop_load().await?;
        }
        let mut first_failure = Ok(());
        while let Some(mut role) = self.roles.pop() {
            if let Err(failure) = role.stop().await {
                first_failure = first_failure.and(Err(failure));
            }
        }
        if let Some(stack) = self.stack.take() {
            let down = tokio::task::spawn_blocking(move || stack.stack().purge());
            down.await
                .map_err(|error| Failure::error("stop the stack", error))?
                .map_err(|error| Failure::error("stop the stack", error))?;
        }
        first_failure
    }
}

fn reached(marks: &[MarkRow]) -> bool {
    marks.iter().all(|mark| mark.reached_log_end)
}

fn flags(pairs: &[(&str, &str)]) -> Vec<String> {
    let flag = |(name, value): &(&str, &str)| format!("--{name}={value}");
    pairs.iter().map(flag).collect()
}

fn past(deadline: Instant, sentence: impl FnOnce() -> String) -> Result<(), Failure> {
    if Instant::now() < deadline {
        return Ok(());
    }
    Err(Failure::new(Kind::TimedOut, sentence()))
}

fn say(began: Instant, what: &str) {
    eprintln!("[{:7.2} s] {what}", began.elapsed().as_secs_f64());
}

/// Tells the topics of demos apart that share a broker.
fn began_id() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_millis() as u32) ^ std::process::id()
}

fn served(address: Option<String>) -> Result<String, Failure> {
    let missing = || Failure::new(Kind::Unreachable, "the private stack came up incomplete");
    address.ok_or_else(missing)
}
