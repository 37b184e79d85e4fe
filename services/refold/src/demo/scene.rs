//! The stage of a demo: its stack, its processes and its reads.

mod console;
mod experiment;
mod outage;
mod proof;
mod reads;
mod rebuild;
mod scans;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use refold_domain::version::VersionState;
use refold_local::KafkaExtras;
use refold_local::Stack;
use refold_local::StackGuard;
use refold_local::StackOptions;
use refold_local::settings::WalLevel;
use refold_ports::Registry;
use refold_ports::registry::RegistryError;
use refold_source_kafka::KafkaConfig;
use refold_store_postgres::PgRegistry;
use refold_store_postgres::SessionOptions;
use tokio::process::ChildStdin;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::console::Console;
pub(super) use self::experiment::Experiment;
use super::processes::Role;
use super::processes::free_address;
use crate::cli::Count;
use crate::cli::DemoArgs;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::cli::word;
use crate::connect;
use crate::connect::Place;
use crate::load::FreshIds;
use crate::load::LoadProgress;
use crate::load::LoadReport;
use crate::load::SpanMark;
use crate::machine;
use crate::run::Projections;
use crate::witness;

/// How old the scan of both tables may be on which a switch is based.
pub(super) const SCAN_AGE: Duration = Duration::from_secs(600);

/// The name of the process that answers reads.
const API: &str = "api";

/// Between two looks at something that another process does.
const LOOK: Duration = Duration::from_millis(20);

/// How a scene differs from the demo's.
#[derive(Debug, Clone)]
pub(super) struct Staging {
    /// The topic; a name of its own when there is none.
    pub(super) topic: Option<String>,
    /// How much the private Postgres' write-ahead log carries.
    pub(super) wal_level: WalLevel,
    /// What the private broker has beyond the usual.
    pub(super) kafka_extras: KafkaExtras,
    /// Whether the private stack's data stays when the scene is closed.
    pub(super) keep: bool,
    /// Given to every projector as they are.
    pub(super) projector_flags: Vec<String>,
    /// Given to the tail as they are.
    pub(super) tail_flags: Vec<String>,
    /// What is told on stderr is appended here too.
    pub(super) console: Option<PathBuf>,
    /// Between two looks at the marks while a version is built. Every look is a query.
    pub(super) look: Duration,
    /// The scene ends with an error when the disk has fewer bytes free than this.
    pub(super) keep_free: u64,
}

impl Default for Staging {
    fn default() -> Self {
        Self {
            topic: None,
            wal_level: WalLevel::Replica,
            kafka_extras: KafkaExtras::default(),
            keep: false,
            projector_flags: Vec::new(),
            tail_flags: Vec::new(),
            console: None,
            look: Duration::from_millis(5),
            keep_free: 0,
        }
    }
}

impl Staging {
    /// The private stack in a directory.
    fn stack_options(&self, dir: &std::path::Path) -> StackOptions {
        StackOptions {
            wal_level: self.wal_level,
            kafka_extras: self.kafka_extras.clone(),
            ..StackOptions::new(dir)
        }
    }
}

/// Whoever appends, and what it answered last: whether it holds.
struct Tail {
    stdin: ChildStdin,
    held: watch::Receiver<bool>,
}

struct Load {
    task: JoinHandle<LoadReport>,
    stop: watch::Sender<bool>,
}

/// Everything that a demo started.
pub(super) struct Scene {
    args: DemoArgs,
    staging: Staging,
    projections: Projections,
    console: Console,
    stack: Option<StackGuard>,
    dir: PathBuf,
    logs: PathBuf,
    brokers: String,
    postgres: String,
    /// Brokers and database as projectors reach them, where that is another way.
    detour: Option<(String, String)>,
    topic: String,
    api: String,
    registry: Option<Arc<PgRegistry>>,
    roles: Vec<Role>,
    load: Option<Load>,
    tail: Option<Tail>,
    fresh: FreshIds,
    mark: SpanMark,
    progress: LoadProgress,
}

impl Scene {
    /// Brings the stack up, or uses the one that the flags name.
    pub(super) async fn open(
        args: DemoArgs,
        staging: Staging,
        projections: Projections,
    ) -> Result<Self, Failure> {
        let console = Console::open(staging.console.as_deref())?;
        let dir = args.stack_dir.clone().unwrap_or_else(|| {
            std::env::temp_dir().join(format!("refold-demo-{}", std::process::id()))
        });
        let logs = dir.join("logs");
        std::fs::create_dir_all(&logs)
            .map_err(|error| Failure::usage(format!("-stack-dir {}: {error}", dir.display())))?;
        let (stack, brokers, postgres) = match (&args.brokers, &args.postgres) {
            (Some(brokers), Some(postgres)) => (None, brokers.clone(), postgres.clone()),
            _ => {
                console.say("start Kafka and Postgres");
                let guard = start_stack(staging.stack_options(&dir)).await?;
                let addresses = guard.stack().addresses();
                (
                    Some(guard),
                    served(addresses.kafka)?,
                    served(addresses.postgres)?,
                )
            }
        };
        Ok(Self {
            topic: staging
                .topic
                .clone()
                .unwrap_or_else(|| format!("demo-{:08x}", began_id())),
            args,
            staging,
            projections,
            console,
            stack,
            dir,
            logs,
            brokers,
            postgres,
            detour: None,
            api: String::new(),
            registry: None,
            roles: Vec::new(),
            load: None,
            tail: None,
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
        self.console.say(what);
    }

    /// Tells what came of it.
    pub(super) fn note(&self, what: &str) {
        self.console.say(&format!("  {what}"));
    }

    /// Writes the log.
    pub(super) async fn seed(&mut self) -> Result<(), Failure> {
        let mut args = vec!["seed".to_owned()];
        args.extend(self.stream_flags());
        args.extend(self.log_flags());
        args.extend(flags(&[("codec", &self.args.codec)]));
        let mut seed = Role::start("seed", &self.logs, &args, false)?;
        // A log of any size may take its time; the seed says itself how far it is.
        let bound = Duration::from_secs(24 * 3600);
        tokio::select! {
            finished = seed.finish(bound) => finished,
            full = self.disk_filled() => Err(full),
        }
    }

    /// Resolves when the disk has less room than has to stay free.
    async fn disk_filled(&self) -> Failure {
        loop {
            if let Err(failure) = self.check_disk() {
                return failure;
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }

    fn check_disk(&self) -> Result<(), Failure> {
        let keep = self.staging.keep_free;
        if keep == 0 {
            return Ok(());
        }
        let free = machine::free_disk_bytes(&self.dir)?;
        if free >= keep {
            return Ok(());
        }
        let sentence = format!(
            "{} has {} bytes free, {} have to stay free: make room and start again to go on, \
             or take a smaller log",
            self.dir.display(),
            Count(free),
            Count(keep)
        );
        Err(Failure::new(Kind::Refused, sentence))
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
        self.roles.push(Role::start(API, &self.logs, &args, false)?);
        self.api = format!("http://{address}");
        Ok(())
    }

    /// Starts the projector of a version that was rebuilt before, to go on at the tail.
    pub(super) fn start_catching_up(&mut self, version: &str) -> Result<(), Failure> {
        let mode = ["--mode=replay".to_owned(), "--catch-up".to_owned()];
        let role = self.projector(version, &mode, "replay")?;
        self.roles.push(role);
        Ok(())
    }

    fn projector(&self, version: &str, mode: &[String], log: &str) -> Result<Role, Failure> {
        let name = format!("projector-{version}-{log}");
        Role::start(
            &name,
            &self.logs,
            &self.projector_args(version, mode),
            false,
        )
    }

    /// The command line of a projector.
    fn projector_args(&self, version: &str, mode: &[String]) -> Vec<String> {
        let direct = (self.brokers.clone(), self.postgres.clone());
        let (brokers, postgres) = self.detour.clone().unwrap_or(direct);
        let mut args = vec!["projector".to_owned()];
        args.extend_from_slice(mode);
        args.extend(self.staging.projector_flags.iter().cloned());
        args.extend(flags(&[("version", version), ("postgres", &postgres)]));
        args.extend(flags(&[
            ("brokers", &brokers),
            ("topic", &self.topic),
            ("format", word(self.args.format)),
        ]));
        args
    }

    fn log_flags(&self) -> Vec<String> {
        flags(&[
            ("brokers", &self.brokers),
            ("topic", &self.topic),
            ("format", word(self.args.format)),
        ])
    }

    /// The log, for whoever folds it again.
    pub(super) fn log(&self) -> witness::Log {
        witness::Log {
            place: Place::Kafka(KafkaConfig::new(&self.brokers)),
            name: self.topic.clone(),
            form: connect::wire(self.args.format),
        }
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

    /// The registry.
    pub(super) async fn registry(&mut self) -> Result<Arc<PgRegistry>, Failure> {
        if let Some(registry) = &self.registry {
            return Ok(registry.clone());
        }
        let registry = connect::registry(&self.session()?).await?;
        self.registry = Some(registry.clone());
        Ok(registry)
    }

    /// How sessions with the database are opened.
    pub(super) fn session(&self) -> Result<SessionOptions, Failure> {
        let parsed = SessionOptions::parse(&self.postgres);
        parsed.map_err(|error| Failure::usage(format!("-postgres: {error}")))
    }

    /// The state of a version; `None` when it is not registered.
    pub(super) async fn state(&mut self, version: &str) -> Result<Option<VersionState>, Failure> {
        match self.registry().await?.version(version).await {
            Ok(row) => Ok(Some(row.state)),
            Err(RegistryError::UnknownVersion(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
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
            tokio::time::sleep(self.staging.look.max(LOOK)).await;
        }
    }

    /// Fails when a process has ended by itself, or the disk has too little room.
    pub(super) fn check_roles(&mut self) -> Result<(), Failure> {
        self.check_disk()?;
        self.roles.iter_mut().try_for_each(Role::check)
    }

    /// The private stack's data are removed with it when the scene is closed.
    pub(super) fn let_go(&mut self) {
        self.staging.keep = false;
    }

    /// The topic.
    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// Where the api answers; empty before it was started.
    pub(super) fn api(&self) -> &str {
        &self.api
    }

    /// Where the database answers.
    pub(super) fn postgres(&self) -> &str {
        &self.postgres
    }

    /// The private stack; `None` for servers that others run.
    pub(super) fn stack(&self) -> Option<&Stack> {
        self.stack.as_ref().map(StackGuard::stack)
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
            let keep = self.staging.keep;
            let down = tokio::task::spawn_blocking(move || match keep {
                true => stack.stack().down(),
                false => stack.stack().purge(),
            });
            down.await
                .map_err(|error| Failure::error("stop the stack", error))?
                .map_err(|error| Failure::error("stop the stack", error))?;
        }
        first_failure
    }
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

/// Brings a private stack up that ends with this process.
pub(crate) async fn start_stack(options: StackOptions) -> Result<StackGuard, Failure> {
    let up = tokio::task::spawn_blocking(move || Stack::up(&options).and_then(Stack::guard));
    up.await
        .map_err(|error| Failure::error("start the stack", error))?
        .map_err(|error| Failure::new(Kind::Unreachable, error.to_string()))
}

/// Tells the topics of demos apart that share a broker.
fn began_id() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_millis() as u32) ^ std::process::id()
}

/// The address of a server that a private stack must have.
pub(crate) fn served(address: Option<String>) -> Result<String, Failure> {
    let missing = || Failure::new(Kind::Unreachable, "the private stack came up incomplete");
    address.ok_or_else(missing)
}
