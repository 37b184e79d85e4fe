//! `bench replay`: a replay from offset 0, measured stage by stage in this
//! process, so that its CPU time and memory are the projector's alone.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use refold_domain::fold::AnyProjection;
use refold_domain::observe::Board;
use refold_domain::observe::Stage;
use refold_local::Stack;
use refold_local::StackGuard;
use refold_local::StackOptions;
use refold_ports::LogSource;
use refold_store_postgres::PostgresSink;
use refold_store_postgres::SessionOptions;
use refold_system::Plugs;
use refold_system::ProjectorOptions;
use serde_json::Value;
use serde_json::json;
use tokio::sync::watch;

use super::projector::fold_options;
use super::verify;
use crate::bench;
use crate::cli::Bench;
use crate::cli::BenchArgs;
use crate::cli::BenchReplayArgs;
use crate::cli::Count;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::connect;
use crate::connect::Place;
use crate::demo;
use crate::demo::Role;
use crate::machine;
use crate::run::Projections;
use crate::run::find;

pub(crate) async fn run(args: BenchArgs, projections: &Projections) -> Result<ExitCode, Failure> {
    match args.what {
        Bench::Replay(args) => {
            let projection = find(projections, &args.version)?;
            replay(args, projection).await
        }
        Bench::Part(args) => {
            let projection = find(projections, &args.replay.version)?;
            bench::part::run(&args, projection).await
        }
        Bench::Read(args) => bench::read::run(&args).await,
        experiment => tokio::select! {
            outcome = run_experiment(experiment, projections) => outcome,
            // What was being waited for is dropped here, and with it the processes and the
            // stack: nothing of a stopped experiment goes on.
            () = connect::shutdown() => Err(Failure::new(
                Kind::Interrupted,
                "stopped on the way; the same command goes on behind what is finished",
            )),
        },
    }
}

/// The benchmarks that keep what is finished.
async fn run_experiment(what: Bench, projections: &Projections) -> Result<ExitCode, Failure> {
    match what {
        Bench::Billion(args) => demo::billion(args, projections.clone()).await,
        Bench::Linearity(args) => bench::linearity::run(args, projections).await,
        Bench::SpeedUp(args) => bench::speed_up::run(args, projections).await,
        Bench::Codec(args) => bench::codec::run(args, projections).await,
        Bench::ClientCost(args) => bench::client_cost::run(args, projections).await,
        Bench::Batching(args) => bench::batching::run(args, projections).await,
        Bench::Upsert(args) => bench::upsert::run(args, projections).await,
        Bench::ScaleModel(args) => bench::scale_model::run(args, projections).await,
        Bench::Zombies(args) => bench::zombies::run(args, projections).await,
        Bench::Overlap(args) => bench::overlap::run(args, projections).await,
        Bench::CutoverProof(args) => demo::cutover_proof(args, projections.clone()).await,
        Bench::WayBack(args) => demo::way_back(args, projections.clone()).await,
        Bench::ThousandSwitches(args) => demo::thousand_switches(args, projections.clone()).await,
        Bench::SeededCorruptions(args) => demo::seeded_corruptions(args, projections.clone()).await,
        Bench::ProofCost(args) => demo::proof_cost(args, projections.clone()).await,
        Bench::Replay(_) | Bench::Part(_) | Bench::Read(_) => {
            Err(Failure::usage("that is one measurement, not an experiment"))
        }
    }
}

/// The servers of a benchmark: a private stack that ends with it, or the given ones.
struct Ground {
    stack: Option<StackGuard>,
    dir: PathBuf,
    brokers: String,
    topic: String,
    postgres: String,
}

impl Ground {
    async fn open(args: &BenchReplayArgs) -> Result<Self, Failure> {
        let dir = args.stack_dir.clone().unwrap_or_else(|| {
            std::env::temp_dir().join(format!("refold-bench-{}", std::process::id()))
        });
        std::fs::create_dir_all(&dir)
            .map_err(|error| Failure::usage(format!("-stack-dir {}: {error}", dir.display())))?;
        let (stack, brokers, postgres) = match (&args.brokers, &args.postgres) {
            (Some(brokers), Some(postgres)) => (None, brokers.clone(), postgres.clone()),
            _ => {
                let options = StackOptions::new(&dir);
                let up =
                    tokio::task::spawn_blocking(move || Stack::up(&options).and_then(Stack::guard));
                let guard = up
                    .await
                    .map_err(|error| Failure::error("start the stack", error))?
                    .map_err(|error| Failure::new(Kind::Unreachable, error.to_string()))?;
                let addresses = guard.stack().addresses();
                let brokers = addresses.kafka.unwrap_or_default();
                (Some(guard), brokers, addresses.postgres.unwrap_or_default())
            }
        };
        let topic = args.topic.clone().unwrap_or_else(|| {
            let stream = &args.stream;
            format!("bench-{}-{}-{}", stream.seed, stream.events.0, args.codec)
        });
        Ok(Self {
            stack,
            dir,
            brokers,
            topic,
            postgres,
        })
    }

    async fn seed(&self, args: &BenchReplayArgs) -> Result<(), Failure> {
        let stream = &args.stream;
        let flags = [
            "seed".to_owned(),
            format!("--events={}", stream.events.0),
            format!("--aggregates={}", stream.aggregates.0),
            format!("--partitions={}", stream.partitions),
            format!("--zipf={}", stream.zipf),
            format!("--seed={}", stream.seed),
            format!("--codec={}", args.codec),
            format!("--brokers={}", self.brokers),
            format!("--topic={}", self.topic),
            format!("--format={}", crate::cli::word(args.format)),
        ];
        let mut seed = Role::start("seed", &self.dir, &flags, false)?;
        seed.finish(std::time::Duration::from_secs(24 * 3600)).await
    }

    async fn close(self) -> Result<(), Failure> {
        let Some(stack) = self.stack else {
            return Ok(());
        };
        let down = tokio::task::spawn_blocking(move || stack.stack().purge());
        let purged = down
            .await
            .map_err(|error| Failure::error("stop the stack", error))?;
        purged
            .map(|_| ())
            .map_err(|error| Failure::error("stop the stack", error))
    }
}

/// Opens a topic as the flags of a replay say it.
pub(crate) fn source(
    args: &BenchReplayArgs,
    brokers: &str,
    topic: &str,
) -> Result<Arc<dyn LogSource>, Failure> {
    Place::Kafka(connect::kafka_config(brokers, &args.kafka)?).log(topic)
}

/// The projector's settings as the flags of a replay say them.
pub(crate) fn projector_options(args: &BenchReplayArgs) -> ProjectorOptions {
    let defaults = ProjectorOptions::default();
    ProjectorOptions {
        mode: refold_system::Mode::Replay,
        memory_bytes: args.memory.0 as usize,
        workers: args.workers.unwrap_or(defaults.workers),
        fold: fold_options(args.format),
        ..defaults
    }
}

async fn replay(
    args: BenchReplayArgs,
    projection: Arc<dyn AnyProjection>,
) -> Result<ExitCode, Failure> {
    let ground = Ground::open(&args).await?;
    let outcome = measure(&args, projection, &ground).await;
    let closed = ground.close().await;
    let (figures, rates) = outcome?;
    closed?;
    print(&figures, &rates);
    if args.json {
        println!("{figures}");
    }
    if figures["differences_oracle"] != json!(0) {
        return Ok(ExitCode::from(Kind::Differences.code()));
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure(
    args: &BenchReplayArgs,
    projection: Arc<dyn AnyProjection>,
    ground: &Ground,
) -> Result<(Value, Vec<u64>), Failure> {
    eprintln!("seed {} events into {}", args.stream.events, ground.topic);
    ground.seed(args).await?;
    let mut rates = Vec::new();
    let mut figures = Value::Null;
    for run in 0..args.runs.max(1) {
        let database = refold_local::testing::create_database(&ground.postgres, "bench")
            .map_err(|error| Failure::error("create a database", error))?;
        let session = SessionOptions::parse(&database)
            .map_err(|error| Failure::usage(format!("-postgres: {error}")))?;
        eprintln!("run {} of {}", run + 1, args.runs.max(1));
        figures = once(args, Arc::clone(&projection), ground, &session).await?;
        rates.push(figures["events_per_second"].as_u64().unwrap_or_default());
    }
    Ok((figures, rates))
}

async fn once(
    args: &BenchReplayArgs,
    projection: Arc<dyn AnyProjection>,
    ground: &Ground,
    session: &SessionOptions,
) -> Result<Value, Failure> {
    let checked = Arc::clone(&projection);
    let source = source(args, &ground.brokers, &ground.topic)?;
    let measured = measured(projection, source, session, projector_options(args)).await?;
    let checked = verify::with_oracle(session, &checked, &args.stream, args.format).await?;
    let mut figures = figures(args, &measured);
    figures["rows_compared"] = json!(checked.rows);
    figures["differences_oracle"] = json!(checked.differences);
    Ok(figures)
}

/// Runs a projector to its end and accounts what this process spent on it.
pub(crate) async fn measured(
    projection: Arc<dyn AnyProjection>,
    source: Arc<dyn LogSource>,
    session: &SessionOptions,
    options: ProjectorOptions,
) -> Result<Measured, Failure> {
    let registry = connect::registry(session).await?;
    let board = Board::new();
    let plugs = Plugs::new(
        projection,
        source,
        Arc::new(PostgresSink::new(session.clone())),
        connect::as_registry(&registry),
    );
    let (_stop, stopped) = watch::channel(false);
    let cpu = machine::cpu_seconds();
    let began = Instant::now();
    refold_system::run_projector(plugs, board.clone(), options, stopped).await?;
    Ok(Measured {
        seconds: began.elapsed().as_secs_f64(),
        cpu: machine::cpu_seconds() - cpu,
        peak: machine::peak_memory_bytes(),
        board,
    })
}

/// What a replay took.
pub(crate) struct Measured {
    seconds: f64,
    cpu: f64,
    peak: u64,
    board: Board,
}

/// The figures of a replay that nobody has compared with the known final state yet.
pub(crate) fn figures(args: &BenchReplayArgs, measured: &Measured) -> Value {
    let all = measured.board.all();
    let sum = |count: fn(&refold_domain::observe::EventCounts) -> u64| {
        all.iter().map(|(_, o)| count(&o.counts)).sum::<u64>()
    };
    let (events, bytes, rows) = (sum(|c| c.applied), sum(|c| c.bytes), sum(|c| c.rows));
    let stages: serde_json::Map<_, _> = Stage::ALL
        .into_iter()
        .map(|stage| {
            let wall: f64 = all
                .iter()
                .map(|(_, o)| o.busy.get(stage).as_secs_f64())
                .sum();
            let cpu: f64 = all
                .iter()
                .map(|(_, o)| o.cpu.get(stage).as_secs_f64())
                .sum();
            let figures = json!({ "wall_seconds": wall, "cpu_seconds": cpu });
            (stage.word().to_owned(), figures)
        })
        .collect();
    let per_second = |n: u64| (n as f64 / measured.seconds) as u64;
    json!({
        "schema": "refold.bench-replay/1",
        "events": events,
        "rows": rows,
        "commits": sum(|c| c.commits),
        "seconds": measured.seconds,
        "events_per_second": per_second(events),
        "bytes_per_second": per_second(bytes),
        "rows_per_second": per_second(rows),
        "client_cpu_seconds": measured.cpu,
        "client_cpu_ns_per_event": measured.cpu * 1e9 / events.max(1) as f64,
        "peak_memory_bytes": measured.peak,
        "memory_limit_bytes": args.memory.0,
        "stages": stages,
        "rows_compared": 0,
        "differences_oracle": null,
        "partitions": args.stream.partitions,
        "aggregates": args.stream.aggregates.0,
        "codec": args.codec,
        "format": crate::cli::word(args.format),
        "seed": args.stream.seed,
        "version": args.version,
        "machine": machine::describe(),
        "revision": machine::revision(),
    })
}

fn print(figures: &Value, rates: &[u64]) {
    let number = |name: &str| Count(figures[name].as_u64().unwrap_or_default());
    println!(
        "{} events -> {} rows in {:.2} s: {} events/s, {} MB/s, {} rows/s",
        number("events"),
        number("rows"),
        figures["seconds"].as_f64().unwrap_or_default(),
        number("events_per_second"),
        number("bytes_per_second").0 / 1_000_000,
        number("rows_per_second"),
    );
    println!(
        "client CPU {:.0} ns an event, peak memory {} MiB of {} MiB allowed",
        figures["client_cpu_ns_per_event"]
            .as_f64()
            .unwrap_or_default(),
        number("peak_memory_bytes").0 >> 20,
        number("memory_limit_bytes").0 >> 20,
    );
    println!("{:<10} {:>10} {:>10}", "stage", "wall s", "cpu s");
    for (stage, spent) in figures["stages"].as_object().into_iter().flatten() {
        let seconds = |name: &str| spent[name].as_f64().unwrap_or_default();
        let (wall, cpu) = (seconds("wall_seconds"), seconds("cpu_seconds"));
        println!("{stage:<10} {wall:>10.2} {cpu:>10.2}");
    }
    println!(
        "compared with the known final state: {} rows, {} differences",
        number("rows_compared"),
        number("differences_oracle")
    );
    let mut sorted = rates.to_vec();
    sorted.sort_unstable();
    if let (Some(min), Some(max)) = (sorted.first(), sorted.last()) {
        let median = sorted[sorted.len() / 2];
        let [min, median, max] = [*min, median, *max].map(Count);
        println!(
            "events/s over {} runs: {min} min, {median} median, {max} max",
            rates.len()
        );
    }
    println!("{}, revision {}", figures["machine"], figures["revision"]);
}
