//! `projector`: the projectors of one version, until they finish or are told to stop.

use std::process::ExitCode;
use std::sync::Arc;

use refold_domain::fold::AnyProjection;
use refold_domain::fold::FoldOptions;
use refold_domain::observe::Board;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::probe::Probe;
use refold_source_kafka::GroupProtocol;
use refold_source_kafka::KafkaGroup;
use refold_store_postgres::PgPressure;
use refold_store_postgres::PostgresSink;
use refold_system::BatchObserver;
use refold_system::CommittedBatch;
use refold_system::Outcome;
use refold_system::PartitionSelection;
use refold_system::Plugs;
use refold_system::ProjectorOptions;
use refold_telemetry::BatchSize;
use refold_telemetry::Telemetry;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::cli::Failure;
use crate::cli::Format;
use crate::cli::GroupProtocolArg;
use crate::cli::Mode;
use crate::cli::ProjectorArgs;
use crate::connect;
use crate::failpoint::Failpoints;

pub(crate) async fn run(
    args: ProjectorArgs,
    projection: Arc<dyn AnyProjection>,
) -> Result<ExitCode, Failure> {
    let options = options(&args)?;
    let group = group(&args)?;
    let failpoints = Failpoints::of_environment()?;
    let mut session = connect::session(&args.store)?;
    session.synchronous_commit = !args.async_commit;
    let source = connect::log(&args.log, &args.kafka)?;
    let listener = TcpListener::bind(args.metrics_listen)
        .await
        .map_err(|error| {
            Failure::usage(format!("-metrics-listen {}: {error}", args.metrics_listen))
        })?;
    let telemetry = Telemetry::new(&connect::labels("projector"))
        .map_err(|error| Failure::error("set the metrics up", error))?;
    let telemetry = Arc::new(telemetry);
    let board = Board::new();
    telemetry.observe_board(&board);

    let (stop, stopped) = watch::channel(false);
    let health = serve_health(
        listener,
        Arc::clone(&telemetry),
        board.clone(),
        stopped.clone(),
    );
    let registry = connect::registry(&session).await?;
    let failpoints = failpoints.map(|failpoints| failpoints as Arc<dyn Probe>);
    let pressure = PgPressure::new(&session);
    let sink = PostgresSink::new(session);
    let sink = match &failpoints {
        Some(probe) => sink.with_probe(Arc::clone(probe)),
        None => sink,
    };
    let plugs = Plugs::new(
        projection,
        source,
        Arc::new(sink),
        connect::as_registry(&registry),
    )
    .with_observer(Arc::new(Batches(telemetry)))
    .with_pressure(Arc::new(pressure));
    let plugs = match failpoints {
        Some(probe) => plugs.with_probe(probe),
        None => plugs,
    };
    let plugs = match group {
        Some(group) => plugs.with_group(Arc::new(group)),
        None => plugs,
    };
    tokio::spawn(async move {
        connect::shutdown().await;
        stop.send_replace(true);
    });
    let outcome = refold_system::run_projector(plugs, board.clone(), options, stopped).await;
    health.abort();
    report(&args.version, &board);
    match outcome {
        Ok(Outcome::Finished | Outcome::Drained) => Ok(ExitCode::SUCCESS),
        Err(failure) => Err(failure.into()),
    }
}

/// Feeds the histograms of the write path.
struct Batches(Arc<Telemetry>);

impl BatchObserver for Batches {
    fn committed(&self, batch: &CommittedBatch<'_>) {
        let size = BatchSize {
            events: batch.events,
            rows: batch.rows,
        };
        let histograms = self.0.batches();
        histograms.record(batch.version, batch.mode.word(), size, batch.took);
    }
}

fn options(args: &ProjectorArgs) -> Result<ProjectorOptions, Failure> {
    let defaults = ProjectorOptions::default();
    let partitions = match &args.partitions {
        None if args.group.is_some() => PartitionSelection::ByGroup,
        None => PartitionSelection::All,
        Some(share) => PartitionSelection::Only(share.0.iter().copied().map(Partition).collect()),
    };
    let options = ProjectorOptions {
        mode: match args.mode {
            Mode::Live => refold_system::Mode::Live,
            Mode::Replay => refold_system::Mode::Replay,
        },
        catch_up: args.catch_up,
        from_offset: args.from_offset.map(Offset),
        partitions,
        batch: args.batch.0 as usize,
        batch_age: args.batch_age,
        transactions: args.transactions.unwrap_or(defaults.transactions),
        rate_limit: Some(args.rate_limit.0).filter(|rate| *rate > 0),
        limits: args.throttle.limits(),
        max_read_p99: args.throttle.max_read_p99(defaults.max_read_p99),
        memory_bytes: args.memory.0 as usize,
        workers: args.workers.unwrap_or(defaults.workers),
        checkpoint_every: Some(args.checkpoint).filter(|every| !every.is_zero()),
        fold: fold_options(args.log.format),
        park: args.park,
        ..defaults
    };
    options.validate().map_err(Failure::usage)?;
    if args.catch_up && args.mode == Mode::Live {
        return Err(Failure::usage(
            "-catch-up belongs to -mode=replay: a live projector follows the log anyway",
        ));
    }
    if let Some(flag) = args.throttle.first_flag()
        && args.mode == Mode::Live
    {
        return Err(Failure::usage(format!(
            "{flag} belongs to -mode=replay: a live projector is never held back"
        )));
    }
    Ok(options)
}

/// The group that shares the partitions out, if there is one.
fn group(args: &ProjectorArgs) -> Result<Option<KafkaGroup>, Failure> {
    let Some(name) = &args.group else {
        return Ok(None);
    };
    let protocol = match args.group_protocol {
        GroupProtocolArg::Classic => GroupProtocol::Classic,
        GroupProtocolArg::Consumer => GroupProtocol::Consumer,
    };
    let config = connect::kafka_config(args.log.brokers("-group")?, &args.kafka)?;
    Ok(Some(KafkaGroup::new(
        config,
        &args.log.topic,
        name,
        protocol,
    )))
}

/// How events of this wire form are folded.
pub(crate) fn fold_options(format: Format) -> FoldOptions {
    FoldOptions {
        wire: connect::wire(format),
        complete_log: true,
    }
}

fn serve_health(
    listener: TcpListener,
    telemetry: Arc<Telemetry>,
    board: Board,
    mut stopped: watch::Receiver<bool>,
) -> tokio::task::JoinHandle<()> {
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "metrics and health");
    }
    tokio::spawn(async move {
        let labels = connect::labels("projector");
        let shutdown = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        if let Err(error) =
            refold_api::serve_health(listener, telemetry, labels, board, shutdown).await
        {
            tracing::warn!(%error, "metrics and health are no longer served");
        }
    })
}

/// What this process did, for the log.
fn report(version: &str, board: &Board) {
    let all = board.all();
    let sum = |count: fn(&refold_domain::observe::EventCounts) -> u64| {
        all.iter().map(|(_, o)| count(&o.counts)).sum::<u64>()
    };
    tracing::info!(
        version,
        partitions = all.len(),
        applied = sum(|c| c.applied),
        duplicates = sum(|c| c.duplicates),
        unhandled = sum(|c| c.unhandled),
        gaps = sum(|c| c.gaps),
        parked = sum(|c| c.parked),
        rows = sum(|c| c.rows),
        commits = sum(|c| c.commits),
        "process ended"
    );
}
