//! `seed`: the deterministic log, its profile, its known final state, its tail.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use refold_seed::Cause;
use refold_seed::Compression;
use refold_seed::ExpectedOptions;
use refold_seed::InvalidParams;
use refold_seed::SeedError;
use refold_seed::SeedOptions;
use refold_seed::SeedParams;
use refold_seed::TailOptions;
use refold_seed::Target;

use crate::cli::Count;
use crate::cli::Failure;
use crate::cli::Format;
use crate::cli::Kind;
use crate::cli::SeedAction;
use crate::cli::SeedArgs;
use crate::cli::SeedWriteArgs;
use crate::cli::StreamArgs;
use crate::connect;

impl From<SeedError> for Failure {
    fn from(error: SeedError) -> Self {
        let kind = match error.cause() {
            Cause::Usage => Kind::Usage,
            Cause::Refused => Kind::Refused,
            Cause::Unreachable => Kind::Unreachable,
            Cause::Failed => Kind::Error,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<InvalidParams> for Failure {
    fn from(error: InvalidParams) -> Self {
        Self::usage(error.to_string())
    }
}

pub(crate) async fn run(args: SeedArgs) -> Result<ExitCode, Failure> {
    match (args.action, args.write) {
        (None, write) => seed(write).await,
        (Some(SeedAction::Describe { stream, json }), _) => describe(&stream, json),
        (
            Some(SeedAction::Expected {
                stream,
                output,
                id,
                at,
            }),
            _,
        ) => expected(&stream, &output, id, at),
        (Some(SeedAction::Tail(args)), _) => tail(args).await,
    }
}

/// The seed's parameters as its flags say them.
pub(crate) fn params(stream: &StreamArgs, format: Format) -> Result<SeedParams, Failure> {
    let params = SeedParams {
        seed: stream.seed,
        events: stream.events.0,
        aggregates: stream.aggregates.0,
        partitions: u32::try_from(stream.partitions)
            .map_err(|_| Failure::usage("-partitions must be above 0"))?,
        zipf: stream.zipf,
        format: connect::wire(format),
    };
    params.validate()?;
    Ok(params)
}

fn codec(text: &str) -> Result<Compression, Failure> {
    text.parse()
        .map_err(|error: refold_seed::UnknownCodec| Failure::usage(error.to_string()))
}

/// Sets `stop` at the first SIGINT or SIGTERM.
fn stop_at_signal(stop: &Arc<AtomicBool>) {
    let stop = Arc::clone(stop);
    tokio::spawn(async move {
        connect::shutdown().await;
        stop.store(true, Ordering::Relaxed);
    });
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SeedError> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| Failure::error("write the log", error))??)
}

async fn seed(args: SeedWriteArgs) -> Result<ExitCode, Failure> {
    let brokers = args.brokers.as_deref().ok_or_else(|| {
        Failure::usage("seed needs -brokers to write to, or one of describe, expected, tail")
    })?;
    let target = Target::new(brokers, &args.topic);
    let options = SeedOptions {
        replication: args.replication,
        codec: codec(&args.codec)?,
        batch_bytes: usize::try_from(args.batch.0)
            .map_err(|_| Failure::usage("-batch is larger than any batch can be"))?,
        rate: args.rate.0,
        ..SeedOptions::new(target, params(&args.stream, args.format)?)
    };
    stop_at_signal(&options.stop);
    let report = blocking(move || refold_seed::seed(&options)).await?;
    let rate = report.written as f64 / report.elapsed.as_secs_f64().max(1e-9);
    eprintln!(
        "{}: {} events written, {} events/s, {} in the log",
        args.topic,
        Count(report.written),
        Count(rate as u64),
        Count(report.ended_at.iter().sum()),
    );
    if !report.complete {
        eprintln!("stopped before the end; the same command goes on from here");
        return Ok(ExitCode::from(crate::cli::Kind::Interrupted.code()));
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(stream: &StreamArgs, json: bool) -> Result<ExitCode, Failure> {
    let profile = refold_seed::describe(&params(stream, Format::Proto)?)?;
    if json {
        let text = serde_json::to_string(&profile);
        println!(
            "{}",
            text.map_err(|error| Failure::error("print the profile", error))?
        );
    } else {
        println!("{profile}");
    }
    Ok(ExitCode::SUCCESS)
}

fn expected(
    stream: &StreamArgs,
    output: &str,
    id: Option<i64>,
    at: Option<u64>,
) -> Result<ExitCode, Failure> {
    let format = output
        .parse()
        .map_err(|error: refold_seed::UnknownExpectedFormat| Failure::usage(error.to_string()))?;
    let options = ExpectedOptions {
        params: params(stream, Format::Proto)?,
        next_offsets: None,
        id,
        version: at,
        format,
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let rows = refold_seed::expected(&options, &mut out)?;
    out.flush()
        .map_err(|error| Failure::error("write the expected rows", error))?;
    if let (Some(id), 0) = (id, rows) {
        return Err(Failure::new(
            crate::cli::Kind::Error,
            format!("aggregate {id} has no such state in this log"),
        ));
    }
    Ok(ExitCode::SUCCESS)
}

async fn tail(args: crate::cli::SeedTailArgs) -> Result<ExitCode, Failure> {
    let mut options = TailOptions {
        duration: args.duration,
        codec: codec(&args.codec)?,
        linger: args.linger,
        ..TailOptions::new(
            Target::new(args.log.brokers("seed tail")?, &args.log.topic),
            args.rate.0,
        )
    };
    if args.print_ids {
        let printer = IdPrinter::new();
        options.on_acked = Some(Arc::new(move |acked| printer.print(acked.id)));
    }
    stop_at_signal(&options.stop);
    if args.controlled {
        obey_stdin(&options);
    }
    let report = blocking(move || refold_seed::tail(&options)).await?;
    eprintln!(
        "{}: {} events appended",
        args.log.topic,
        Count(report.written)
    );
    Ok(ExitCode::SUCCESS)
}

/// Holds a tail and lets it go as the lines on stdin say.
fn obey_stdin(options: &TailOptions) {
    let (hold, held) = (Arc::clone(&options.hold), Arc::clone(&options.held));
    // A thread of its own: one that waits for a line would keep the runtime from ending.
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let (holds, answer) = match line.trim() {
                "hold" => (true, "held"),
                "go" => (false, "going"),
                _ => continue,
            };
            hold.store(holds, Ordering::Relaxed);
            while held.load(Ordering::Relaxed) != holds {
                std::thread::sleep(Duration::from_millis(2));
            }
            // Whoever asked may be gone.
            let _ = writeln!(std::io::stdout(), "{answer}");
        }
    });
}

/// Prints at most a hundred ids a second.
struct IdPrinter(Mutex<Option<Instant>>);

impl IdPrinter {
    const EVERY: Duration = Duration::from_millis(10);

    fn new() -> Self {
        Self(Mutex::new(None))
    }

    fn print(&self, id: i64) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|at| at.elapsed() >= Self::EVERY) {
            *last = Some(Instant::now());
            // A reader that went away does not stop the tail.
            let _ = writeln!(std::io::stdout(), "{id}");
        }
    }
}
