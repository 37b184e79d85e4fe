//! Where experiments run: a private stack, seeded logs in it, and measured replays of them.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use refold_bench::accounts::Account;
use refold_domain::fold::AnyProjection;
use refold_local::StackGuard;
use refold_local::StackOptions;
use refold_local::testing;
use refold_seed::oracle::Oracle;
use refold_store_postgres::SessionOptions;
use serde_json::Value;
use serde_json::json;

use super::child;
use super::child::Measuring;
use crate::cli::Count;
use crate::cli::ExperimentArgs;
use crate::cli::Failure;
use crate::cli::Format;
use crate::cli::StreamArgs;
use crate::cli::word;
use crate::command::seed::params;
use crate::command::verify;
use crate::demo::Role;
use crate::demo::log_bytes;
use crate::demo::served;
use crate::demo::start_stack;
use crate::run::Projections;
use crate::run::find;

/// The version that benchmarks build.
pub(super) const VERSION: &str = "accounts_v4";

/// Days: a seed says itself how far it is, and a stuck broker ends it.
const SEED_BOUND: Duration = Duration::from_secs(48 * 3_600);

/// A log of the accounts stream.
#[derive(Debug, Clone)]
pub(super) struct SeededLog {
    pub(super) stream: StreamArgs,
    pub(super) codec: String,
    pub(super) format: Format,
}

impl SeededLog {
    /// `events` over a tenth as many aggregates, in the product's default shape.
    pub(super) fn of(events: u64, codec: &str) -> Self {
        Self {
            stream: StreamArgs {
                events: Count(events),
                aggregates: Count((events / 10).max(1)),
                partitions: 16,
                zipf: 1.1,
                seed: 42,
            },
            codec: codec.to_owned(),
            format: Format::Proto,
        }
    }

    /// The same over another number of partitions.
    pub(super) fn over(mut self, partitions: i32) -> Self {
        self.stream.partitions = partitions;
        self
    }

    /// The same in another wire form.
    pub(super) fn written_as(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Its topic: one for each kind of log, so that a resumed experiment finds it again.
    pub(super) fn topic(&self) -> String {
        let stream = &self.stream;
        let codec = self.codec.replace(':', "-");
        let form = word(self.format);
        format!(
            "log-{}-{}-{codec}-{form}",
            stream.events.0, stream.partitions
        )
    }

    /// The flags that `seed` and `bench part` share.
    fn flags(&self) -> Vec<String> {
        let stream = &self.stream;
        vec![
            format!("--events={}", stream.events.0),
            format!("--aggregates={}", stream.aggregates.0),
            format!("--partitions={}", stream.partitions),
            format!("--zipf={}", stream.zipf),
            format!("--seed={}", stream.seed),
            format!("--codec={}", self.codec),
            format!("--format={}", word(self.format)),
            format!("--topic={}", self.topic()),
        ]
    }

    /// Splits the partitions into `shares` of about as many events each, largest first.
    pub(super) fn split(&self, shares: usize) -> Result<Vec<String>, Failure> {
        let oracle = Oracle::new(&params(&self.stream, self.format)?)?;
        let mut loads = vec![(0_u64, Vec::new()); shares.max(1)];
        for partition in oracle.layout().largest_first() {
            if let Some(lightest) = loads.iter_mut().min_by_key(|(events, _)| *events) {
                lightest.0 += oracle.layout().events(partition);
                lightest.1.push(partition.to_string());
            }
        }
        let filled = loads.into_iter().filter(|(_, share)| !share.is_empty());
        Ok(filled.map(|(_, share)| share.join(",")).collect())
    }
}

/// How a log is replayed.
#[derive(Debug, Clone, Default)]
pub(super) struct Manner {
    /// Flags of each process beyond the log's; an entry a process.
    pub(super) processes: Vec<Vec<String>>,
    /// Whether process `n` is pinned to core `n` modulo their number.
    pub(super) pinned: bool,
}

impl Manner {
    /// One process with these flags.
    pub(super) fn one(flags: &[String]) -> Self {
        Self {
            processes: vec![flags.to_vec()],
            pinned: false,
        }
    }
}

/// A private stack with what experiments need of it.
pub(super) struct Site {
    guard: StackGuard,
    dir: PathBuf,
    brokers: String,
    postgres: String,
    keep: bool,
    engine: Vec<String>,
    projection: Arc<dyn AnyProjection>,
}

impl Site {
    /// Brings the stack of the experiment `name` up, or a kept one up again.
    pub(super) async fn open(
        common: &ExperimentArgs,
        name: &str,
        projections: &Projections,
    ) -> Result<Self, Failure> {
        let dir = common.dir(name);
        std::fs::create_dir_all(&dir)
            .map_err(|error| Failure::usage(format!("-stack-dir {}: {error}", dir.display())))?;
        let options = StackOptions {
            wal_level: common.wal_level(),
            ..StackOptions::new(&dir)
        };
        let guard = start_stack(options).await?;
        let addresses = guard.stack().addresses();
        Ok(Self {
            brokers: served(addresses.kafka)?,
            postgres: served(addresses.postgres)?,
            guard,
            dir,
            keep: common.keep,
            engine: common.engine_flags(),
            projection: find(projections, VERSION)?,
        })
    }

    /// Ends the stack; its data go with it when the experiment is done, unless they are kept.
    pub(super) async fn close(self, done: bool) -> Result<(), Failure> {
        if self.keep || !done {
            // Dropping the guard ends the servers.
            return Ok(());
        }
        let purged = tokio::task::spawn_blocking(move || self.guard.stack().purge()).await;
        purged
            .map_err(|error| Failure::error("stop the stack", error))?
            .map(drop)
            .map_err(|error| Failure::error("stop the stack", error))
    }

    /// Writes a log, or what is missing of it.
    pub(super) async fn seed(&self, log: &SeededLog) -> Result<(), Failure> {
        eprintln!("seed {}", log.topic());
        let mut flags = vec!["seed".to_owned(), format!("--brokers={}", self.brokers)];
        flags.extend(log.flags());
        Role::start("seed", &self.dir, &flags, false)?
            .finish(SEED_BOUND)
            .await
    }

    /// Bytes of a log on the disk.
    pub(super) fn log_bytes(&self, log: &SeededLog) -> u64 {
        log_bytes(&self.dir, &log.topic())
    }

    /// An empty database.
    pub(super) fn create_database(&self) -> Result<String, Failure> {
        testing::create_database(&self.postgres, "bench")
            .map_err(|error| Failure::error("create a database", error))
    }

    /// A copy of a database in which nobody has a session.
    pub(super) fn copy_database(&self, template: &str) -> Result<String, Failure> {
        testing::copy_database(&self.postgres, template, "bench")
            .map_err(|error| Failure::error("copy a database", error))
    }

    /// Removes a database.
    pub(super) fn drop_database(&self, database: &str) -> Result<(), Failure> {
        testing::drop_database(&self.postgres, database)
            .map_err(|error| Failure::error("drop a database", error))
    }

    /// The server's answer to a statement in a database.
    pub(super) fn query(&self, database: &str, sql: &str) -> Result<String, Failure> {
        testing::query(database, sql).map_err(|error| Failure::error("ask the database", error))
    }

    /// The flags that name a log to a projector.
    pub(super) fn log_flags(&self, log: &SeededLog) -> Vec<String> {
        vec![
            format!("--brokers={}", self.brokers),
            format!("--topic={}", log.topic()),
            format!("--format={}", word(log.format)),
        ]
    }

    /// Replays a log into a database of its own and compares the state.
    pub(super) async fn replay(&self, log: &SeededLog, manner: &Manner) -> Result<Value, Failure> {
        let database = self.create_database()?;
        let mut figures = self.replay_into(log, manner, &database).await?;
        self.compare(log, &database, &mut figures).await?;
        self.drop_database(&database)?;
        Ok(figures)
    }

    /// Replays a log into a database; nothing is compared yet.
    pub(super) async fn replay_into(
        &self,
        log: &SeededLog,
        manner: &Manner,
        database: &str,
    ) -> Result<Value, Failure> {
        let account = self.account();
        let mut running = Vec::new();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for (at, flags) in manner.processes.iter().enumerate() {
            let pin = manner.pinned.then_some(at % cores);
            running.push(self.start("part", log, (database, flags, pin))?);
        }
        let mut parts = Vec::new();
        for part in running {
            parts.push(part.figures(&self.dir).await?);
        }
        Ok(merged(&parts, account))
    }

    /// Starts one measured process: `bench WHAT` over a log.
    pub(super) fn start(
        &self,
        what: &str,
        log: &SeededLog,
        (database, flags, pin): (&str, &[String], Option<usize>),
    ) -> Result<Measuring, Failure> {
        let mut args = vec![
            "bench".to_owned(),
            what.to_owned(),
            format!("--version={VERSION}"),
            format!("--brokers={}", self.brokers),
            format!("--postgres={database}"),
        ];
        args.extend(log.flags());
        args.extend(self.engine.iter().cloned());
        args.extend(flags.iter().cloned());
        child::start(&args, pin, &self.dir)
    }

    /// Reads a log and throws it away.
    pub(super) async fn read(&self, log: &SeededLog, flags: &[String]) -> Result<Value, Failure> {
        let account = self.account();
        let reader = self.start("read", log, (&self.postgres, flags, None))?;
        let mut figures = reader.figures(&self.dir).await?;
        let client = figures["client_cpu_seconds"].as_f64().unwrap_or_default();
        let spent = account.close(&[("client", client)]);
        figures["bound"] = json!(spent.bound());
        figures["core_seconds"] = json!(spent);
        Ok(figures)
    }

    /// Lets the example program `read_rate` read a log with one of its clients.
    pub(super) async fn run_client(
        &self,
        log: &SeededLog,
        program: &Path,
        client: &str,
    ) -> Result<Value, Failure> {
        let args = [
            self.brokers.clone(),
            format!("--topic={}", log.topic()),
            format!("--clients={client}"),
            "--json".to_owned(),
        ];
        let account = self.account();
        let ran = child::start_program(program, &args, None, &self.dir)?;
        let answer = ran.figures(&self.dir).await?;
        let mut figures = answer["logs"][0]["clients"][client].clone();
        let client = figures["client_cpu_seconds"].as_f64();
        let Some(client) = client else {
            let sentence = format!("{} answered {answer}", program.display());
            return Err(Failure::error("read the client's figures", sentence));
        };
        let spent = account.close(&[("client", client)]);
        figures["bound"] = json!(spent.bound());
        figures["core_seconds"] = json!(spent);
        Ok(figures)
    }

    /// Lets another program measure something in a database, and reads its figures.
    pub(super) async fn run_program(
        &self,
        program: &Path,
        args: &[String],
    ) -> Result<Value, Failure> {
        let ran = child::start_program(program, args, None, &self.dir)?;
        ran.figures(&self.dir).await
    }

    /// Has the server carry out statements that change it as a whole, each for itself.
    pub(super) fn tell_server(&self, statements: &[&str]) -> Result<(), Failure> {
        let told = |sql: &&str| self.query(&self.postgres, sql).map(drop);
        statements.iter().try_for_each(told)
    }

    /// Compares a database with the known final state.
    pub(super) async fn compare(
        &self,
        log: &SeededLog,
        database: &str,
        figures: &mut Value,
    ) -> Result<(), Failure> {
        let session = SessionOptions::parse(database)
            .map_err(|error| Failure::error("read the database's address", error))?;
        let found =
            verify::with_oracle(&session, &self.projection, &log.stream, log.format).await?;
        figures["rows_compared"] = json!(found.rows);
        figures["differences_oracle"] = json!(found.differences);
        Ok(())
    }

    /// Opens the account of the servers.
    pub(super) fn account(&self) -> Account {
        let servers = self.guard.stack().status().servers;
        let named = |part: &str| {
            let named = servers.iter().filter(|server| server.name.contains(part));
            named.map(|server| server.pid).collect::<Vec<_>>()
        };
        Account::open(&[("broker", named("Kafka")), ("postgres", named("Postgres"))])
    }

    /// The process ids of the servers.
    pub(super) fn server_pids(&self) -> Vec<u32> {
        let servers = self.guard.stack().status().servers;
        servers.into_iter().map(|server| server.pid).collect()
    }

    /// The stack's directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}

/// The figures of a replay by several processes, as if it had been one.
fn merged(parts: &[Value], account: Account) -> Value {
    let all = |name: &str| {
        parts
            .iter()
            .filter_map(|part| part[name].as_f64())
            .collect::<Vec<_>>()
    };
    let sum = |name: &str| all(name).iter().sum::<f64>();
    let began = all("began").into_iter().fold(f64::INFINITY, f64::min);
    let ended = all("ended").into_iter().fold(f64::NEG_INFINITY, f64::max);
    let (events, seconds) = (sum("events"), (ended - began).max(1e-9));
    let client = sum("client_cpu_seconds");
    let spent = account.close(&[("client", client)]);
    let stages = parts.first().and_then(|part| part["stages"].as_object());
    let stages = stages.into_iter().flatten().map(|(stage, _)| {
        let of = |what: &str| {
            let each = parts
                .iter()
                .filter_map(|p| p["stages"][stage][what].as_f64());
            each.sum::<f64>()
        };
        let figures =
            json!({ "wall_seconds": of("wall_seconds"), "cpu_seconds": of("cpu_seconds") });
        (stage.clone(), figures)
    });
    json!({
        "events": events as u64,
        "rows": sum("rows") as u64,
        "commits": sum("commits") as u64,
        "seconds": seconds,
        "events_per_second": events / seconds,
        "client_cpu_seconds": client,
        "client_cpu_ns_per_event": client * 1e9 / events.max(1.0),
        "broker_cpu_seconds": spent.groups.get("broker"),
        "postgres_cpu_seconds": spent.groups.get("postgres"),
        "peak_memory_bytes": sum("peak_memory_bytes") as u64,
        "stages": stages.collect::<serde_json::Map<_, _>>(),
        "bound": spent.bound(),
        "core_seconds": spent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_hold_every_partition_once_and_weigh_about_the_same() {
        let log = SeededLog::of(100_000, "lz4");
        let shares = log.split(3).expect("a log");
        assert_eq!(shares.len(), 3);
        let mut partitions: Vec<i32> = shares
            .iter()
            .flat_map(|share| share.split(','))
            .map(|number| number.parse().expect("a number"))
            .collect();
        partitions.sort_unstable();
        assert_eq!(partitions, (0..16).collect::<Vec<_>>());
        assert_eq!(log.over(2).split(3).expect("a log").len(), 2);
    }

    #[test]
    fn processes_are_merged_from_the_first_start_to_the_last_end() {
        let part = |began: f64, ended: f64| {
            json!({
                "began": began, "ended": ended, "events": 100, "rows": 10,
                "client_cpu_seconds": 1.0, "peak_memory_bytes": 5,
                "stages": { "fold": { "wall_seconds": 1.0, "cpu_seconds": 0.5 } },
            })
        };
        let account = Account::open(&[("broker", vec![]), ("postgres", vec![])]);
        let merged = merged(&[part(10.0, 12.0), part(10.5, 14.0)], account);
        assert_eq!(merged["seconds"], 4.0);
        assert_eq!(merged["events"], 200);
        assert_eq!(merged["events_per_second"], 50.0);
        assert_eq!(merged["peak_memory_bytes"], 10);
        assert_eq!(merged["stages"]["fold"]["wall_seconds"], 2.0);
    }
}
