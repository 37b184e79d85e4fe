//! A database, a topic and the log in it: everything that one test works on.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use refold_local::testing;
use serde_json::Value;

use crate::process::Exit;
use crate::process::Launch;
use crate::process::Process;
use crate::psql::Psql;
use crate::psql::SqlError;
use crate::watch::MarkWatch;

/// Bound of a command that works through a whole log.
const WHOLE_LOG: Duration = Duration::from_secs(120);

/// How long a version may take to get into a state.
const IN_STATE: Duration = Duration::from_secs(60);

/// What a log is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stream {
    /// Events.
    pub events: u64,
    /// Aggregates; their ids are `1..=aggregates`.
    pub aggregates: u64,
    /// Partitions.
    pub partitions: u32,
    /// The number that decides every event.
    pub seed: u64,
    /// `proto` or `json`.
    pub format: &'static str,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            events: 200_000,
            aggregates: 20_000,
            partitions: 8,
            seed: 42,
            format: "proto",
        }
    }
}

/// What a projector is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// At the tail.
    Live,
    /// A rebuild.
    Replay,
}

/// A row of `refold.offsets`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The partition.
    pub partition: i32,
    /// Whose turn it is.
    pub epoch: i64,
    /// The mark, exclusive.
    pub next: i64,
    /// Whether the partition's table is there.
    pub has_leaf: bool,
}

/// What a command that ran to its end left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// How it ended.
    pub exit: Exit,
    /// Its answer.
    pub stdout: String,
    /// Everything else that it said.
    pub stderr: String,
}

impl Answer {
    /// Its last line on stdout as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        let line = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// One test's world. Marks are watched from its beginning to its end.
#[derive(Debug)]
pub struct World {
    stream: Stream,
    brokers: String,
    dsn: String,
    topic: String,
    /// Where the log is a table, the database that it is in.
    event_store: Option<String>,
    session: Mutex<Psql>,
    watch: MarkWatch,
}

impl World {
    /// A fresh database and a topic that holds the whole stream.
    ///
    /// # Panics
    /// When there is no stack, or `refold seed` fails.
    pub fn seeded(name: &str, stream: Stream) -> Self {
        let world = Self::unseeded(name, stream);
        world.seed();
        world
    }

    /// A fresh database and the name of a topic that does not exist.
    ///
    /// # Panics
    /// When there is no stack.
    pub fn unseeded(name: &str, stream: Stream) -> Self {
        let dsn = testing::fresh_database(&format!("e2e_{name}")).expect("a fresh database");
        Self::at(&testing::stack().kafka, &dsn, name, stream)
    }

    /// A world on other servers than the shared ones. When the database goes away, the
    /// session and the watch are gone for good; go on with [`World::reopened`].
    pub fn at(brokers: &str, dsn: &str, name: &str, stream: Stream) -> Self {
        let topic = testing::unique_topic(&format!("e2e-{name}"));
        Self::open(brokers, dsn, topic, stream)
    }

    /// The same world with a new session and a new watch.
    pub fn reopened(&self) -> Self {
        self.moved_to(&self.dsn)
    }

    /// The same log in another database, with a session and a watch of its own.
    pub fn moved_to(&self, dsn: &str) -> Self {
        let moved = Self::open(&self.brokers, dsn, self.topic.clone(), self.stream);
        Self {
            event_store: self.event_store.clone(),
            ..moved
        }
    }

    pub(crate) fn open(brokers: &str, dsn: &str, topic: String, stream: Stream) -> Self {
        Self {
            stream,
            brokers: brokers.to_owned(),
            session: Mutex::new(Psql::connect(dsn)),
            watch: MarkWatch::over(dsn),
            topic,
            event_store: None,
            dsn: dsn.to_owned(),
        }
    }

    /// A fresh database for the read model, and an empty event table for the log in another one.
    ///
    /// # Panics
    /// When there is no stack, or `refold event-table create` fails.
    pub fn on_event_table(name: &str, stream: Stream) -> Self {
        let store = testing::fresh_database(&format!("e2e_{name}_events"));
        let world = Self {
            event_store: Some(store.expect("a fresh database")),
            ..Self::unseeded(name, stream)
        };
        let create = Launch::new(["event-table", "create", world.topic()])
            .flag("event-store", world.event_store())
            .flag("partitions", stream.partitions);
        create.start().succeed(IN_STATE);
        world
    }

    /// The database that the event table is in.
    ///
    /// # Panics
    /// When the log is a topic.
    pub fn event_store(&self) -> &str {
        let store = self.event_store.as_deref();
        store.expect("the log is an event table")
    }

    /// What the log is made of.
    pub fn stream(&self) -> Stream {
        self.stream
    }

    /// The brokers.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// The database.
    pub fn dsn(&self) -> &str {
        &self.dsn
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Flags that name the log.
    pub fn log_flags(&self) -> Vec<String> {
        let place = match &self.event_store {
            Some(store) => format!("--event-store={store}"),
            None => format!("--brokers={}", self.brokers),
        };
        vec![
            place,
            format!("--topic={}", self.topic),
            format!("--format={}", self.stream.format),
        ]
    }

    /// Flags that name the database.
    pub fn store_flags(&self) -> Vec<String> {
        vec![format!("--postgres={}", self.dsn)]
    }

    /// Flags that describe the stream.
    pub fn stream_flags(&self) -> Vec<String> {
        let stream = &self.stream;
        vec![
            format!("--events={}", stream.events),
            format!("--aggregates={}", stream.aggregates),
            format!("--partitions={}", stream.partitions),
            format!("--seed={}", stream.seed),
        ]
    }

    /// Writes the log. Does nothing when it is there already.
    pub fn seed(&self) {
        let launch = Launch::new(["seed"]);
        let launch = with(with(launch, self.stream_flags()), self.log_flags());
        launch.start().succeed(WHOLE_LOG);
    }

    /// The command line that goes on with the stream at `rate` events a second for `duration`.
    pub fn tail(&self, rate: u64, duration: Duration) -> Launch {
        with(Launch::new(["seed", "tail"]), self.log_flags())
            .flag("rate", rate)
            .flag("duration", format!("{}ms", duration.as_millis()))
    }

    /// The command line of a projector in this world.
    pub fn projector(&self, mode: Mode, version: &str) -> Launch {
        let mode = match mode {
            Mode::Live => "live",
            Mode::Replay => "replay",
        };
        let launch = Launch::new(["projector"])
            .flag("mode", mode)
            .flag("version", version)
            .flag("metrics-listen", "127.0.0.1:0");
        with(with(launch, self.log_flags()), self.store_flags())
    }

    /// The command line of an api in this world.
    pub fn api_launch(&self) -> Launch {
        let launch = Launch::new(["api"]).flag("listen", "127.0.0.1:0");
        with(launch, self.store_flags())
    }

    /// Runs `refold ARGS` to its end, for which it has two minutes.
    pub fn refold<S: Into<String>>(&self, args: impl IntoIterator<Item = S>) -> Answer {
        run(&Launch::new(args))
    }

    /// Runs a replay of the whole log to its end.
    pub fn replay(&self, version: &str) -> Process {
        let mut replay = self.projector(Mode::Replay, version).start();
        replay.succeed(WHOLE_LOG);
        replay
    }

    /// Starts a projector that stays at the tail, and waits until its version is in `state`.
    ///
    /// # Panics
    /// When it is not within a minute.
    pub fn start(&self, mode: Mode, version: &str, state: &str) -> Process {
        let launch = self.projector(mode, version);
        let projector = match mode {
            Mode::Live => launch.start(),
            Mode::Replay => launch.arg("--catch-up").start(),
        };
        let is = || self.state(version).as_deref() == Some(state);
        self.wait(&format!("{version} is {state}"), IN_STATE, is);
        projector
    }

    /// A session of its own, for what has to stay open.
    pub fn session(&self) -> Psql {
        Psql::connect(&self.dsn)
    }

    /// The rows of an answer.
    ///
    /// # Errors
    /// What the server said.
    pub fn try_sql(&self, sql: &str) -> Result<Vec<Vec<String>>, SqlError> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session.ask(sql)
    }

    /// The rows of an answer.
    ///
    /// # Panics
    /// When the statement fails.
    pub fn sql(&self, sql: &str) -> Vec<Vec<String>> {
        self.try_sql(sql)
            .unwrap_or_else(|error| panic!("{error}: {sql}"))
    }

    /// The one cell of an answer.
    ///
    /// # Panics
    /// When the statement fails or answers something else.
    pub fn cell(&self, sql: &str) -> String {
        let rows = self.sql(sql);
        match rows.as_slice() {
            [row] if row.len() == 1 => row[0].clone(),
            other => panic!("{sql} answered {other:?}"),
        }
    }

    /// The marks of a version by partition; empty while it does not exist.
    pub fn marks(&self, version: &str) -> Vec<Mark> {
        let rows = self.try_sql(&format!(
            "select o.partition, o.epoch, o.next_offset, o.has_leaf
             from refold.offsets o join refold.versions v on v.id = o.version
             where v.label = '{version}' order by o.partition"
        ));
        let number = |text: &String| text.parse().expect("a number");
        let marks = rows.unwrap_or_default().into_iter().map(|row| Mark {
            partition: row[0].parse().expect("a partition"),
            epoch: number(&row[1]),
            next: number(&row[2]),
            has_leaf: row[3] == "t",
        });
        marks.collect()
    }

    /// Events below the marks of a version, over all partitions.
    pub fn applied(&self, version: &str) -> i64 {
        self.marks(version).iter().map(|mark| mark.next).sum()
    }

    /// The state of a version, if it is registered.
    pub fn state(&self, version: &str) -> Option<String> {
        let sql = format!("select v.state from refold.versions v where v.label = '{version}'");
        let rows = self.try_sql(&sql).ok()?;
        rows.into_iter().next().map(|row| row[0].clone())
    }

    /// The names of a version's leaves that are there, by partition.
    pub fn leaves(&self, version: &str) -> Vec<String> {
        let id = self.version_id(version);
        let marks = self.marks(version).into_iter().filter(|mark| mark.has_leaf);
        marks
            .map(|mark| format!("rm.v{id}_p{}", mark.partition))
            .collect()
    }

    /// The id of a version.
    pub fn version_id(&self, version: &str) -> i64 {
        let sql = format!("select v.id from refold.versions v where v.label = '{version}'");
        self.cell(&sql).parse().expect("an id")
    }

    /// Looks at `condition` until it holds.
    ///
    /// # Panics
    /// When it does not hold within `bound`.
    pub fn wait(&self, what: &str, bound: Duration, condition: impl FnMut() -> bool) {
        assert!(
            testing::wait_until(bound, condition),
            "not within {bound:?}: {what}"
        );
    }

    /// The watch over all marks.
    pub fn watch(&self) -> &MarkWatch {
        &self.watch
    }
}

pub(crate) fn with(launch: Launch, args: Vec<String>) -> Launch {
    args.into_iter().fold(launch, Launch::arg)
}

pub(crate) fn run(launch: &Launch) -> Answer {
    let mut process = launch.start();
    let exit = process.exit(WHOLE_LOG);
    Answer {
        exit,
        stdout: process.stdout().text(),
        stderr: process.stderr().text(),
    }
}
