//! The moving end of a log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::broker::Target;
use crate::codec::Compression;
use crate::error::SeedError;
use crate::layout::Layout;
use crate::parallel;
use crate::params::SeedParams;
use crate::resume::{self, Found};
use crate::stored::stored_params;
use crate::stream::PartitionStream;
use crate::write::{Append, Batching, Ledger, OnAcked, Writer};

/// How to continue a log.
pub struct TailOptions {
    /// The log.
    pub target: Target,
    /// Its parameters; `None` to take those stored beside it.
    pub params: Option<SeedParams>,
    /// Events per second over all partitions.
    pub rate: u64,
    /// How long; `None` until stopped.
    pub duration: Option<Duration>,
    /// How batches are compressed.
    pub codec: Compression,
    /// How long a record waits for others of its batch; a whole number of milliseconds counts.
    pub linger: Duration,
    /// Told every record as soon as the broker has it.
    pub on_acked: Option<OnAcked>,
    /// Set to true to stop: what was queued is still delivered.
    pub stop: Arc<AtomicBool>,
    /// Becomes true when the log was checked and the first record is next.
    pub running: Arc<AtomicBool>,
    /// While it is true nothing is written.
    pub hold: Arc<AtomicBool>,
    /// True while nothing is written and everything that was is acknowledged.
    pub held: Arc<AtomicBool>,
}

impl std::fmt::Debug for TailOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TailOptions")
            .field("target", &self.target)
            .field("rate", &self.rate)
            .field("duration", &self.duration)
            .finish_non_exhaustive()
    }
}

impl TailOptions {
    /// Continues `target` at `rate` events per second until stopped, with the
    /// parameters stored beside it.
    pub fn new(target: Target, rate: u64) -> Self {
        Self {
            target,
            params: None,
            rate,
            duration: None,
            codec: Compression::default(),
            linger: Duration::from_millis(20),
            on_acked: None,
            stop: Arc::default(),
            running: Arc::default(),
            hold: Arc::default(),
            held: Arc::default(),
        }
    }
}

/// What a tail did.
#[derive(Debug, Clone, PartialEq)]
pub struct TailReport {
    /// Next offset of every partition when it started.
    pub started_at: Vec<u64>,
    /// Next offset of every partition when it ended, as acknowledged.
    pub ended_at: Vec<u64>,
    /// Events written.
    pub written: u64,
    /// Time spent writing.
    pub elapsed: Duration,
}

/// How often due events are handed to the producer.
const TICK: Duration = Duration::from_millis(5);

/// Appends to the log at a steady rate, partition by partition in the shares
/// that their aggregates' popularity gives them, until `options.duration` is
/// over or `options.stop` is set; then delivers what was queued.
///
/// The stream is the one that [`seed`](crate::seed()) began: the oracle answers
/// for every offset of the tail as well.
///
/// # Errors
/// [`SeedError`]. Nothing is written unless the topic was found to hold the
/// log.
pub fn tail(options: &TailOptions) -> Result<TailReport, SeedError> {
    let target = &options.target;
    let params = match &options.params {
        Some(params) => params.clone(),
        None => stored_params(target)?.ok_or_else(|| SeedError::NoParams(target.topic.clone()))?,
    };
    let layout = Layout::new(&params)?;
    let found = resume::settled(target, &layout)?;
    let mut lanes = lanes(&found, &layout)?;
    let ledger = Ledger::new(&found.ends, options.on_acked.clone());
    let mut writer = Writer::new(
        target,
        &params,
        options.codec,
        Batching::Prompt(options.linger),
        &ledger,
    )?;
    let started = Instant::now();
    options.running.store(true, Ordering::Relaxed);
    let result = append(options, &mut lanes, &mut writer, started);
    ledger.verdict(result)?;
    Ok(TailReport {
        started_at: found.ends,
        ended_at: ledger.ends(),
        written: ledger.acked(),
        elapsed: started.elapsed(),
    })
}

/// Writes what is due, tick by tick, until it is time to stop.
fn append(
    options: &TailOptions,
    lanes: &mut [Lane<'_>],
    writer: &mut Writer,
    started: Instant,
) -> Result<(), SeedError> {
    let mut sent = 0;
    while !options.stop.load(Ordering::Relaxed) {
        if options.hold.load(Ordering::Relaxed) {
            hold(options, writer)?;
        }
        let elapsed = started.elapsed();
        if options.duration.is_some_and(|duration| elapsed >= duration) {
            break;
        }
        let due = (elapsed.as_secs_f64() * options.rate as f64) as u64;
        // What was not written while the broker stood still is not made up
        // for in one burst: at most one second's worth.
        sent = sent.max(due.saturating_sub(options.rate));
        let due = due - sent;
        for lane in &mut *lanes {
            lane.credit += lane.share * due as f64;
            while lane.credit >= 1.0 {
                lane.credit -= 1.0;
                writer.send(lane.partition, &lane.stream.next_event())?;
            }
        }
        sent += due;
        writer.wait(TICK)?;
    }
    writer.flush()
}

/// Delivers what is queued, and writes nothing as long as it is asked to.
fn hold(options: &TailOptions, writer: &mut Writer) -> Result<(), SeedError> {
    writer.flush()?;
    options.held.store(true, Ordering::Relaxed);
    while options.hold.load(Ordering::Relaxed) && !options.stop.load(Ordering::Relaxed) {
        writer.wait(TICK)?;
    }
    options.held.store(false, Ordering::Relaxed);
    Ok(())
}

/// A partition's stream and how many events it is owed.
struct Lane<'a> {
    partition: u32,
    stream: PartitionStream<'a>,
    share: f64,
    credit: f64,
}

fn lanes<'a>(found: &Found<'a>, layout: &Layout) -> Result<Vec<Lane<'a>>, SeedError> {
    let order = layout.largest_first();
    let streams = parallel::over_partitions(&order, |partition| found.stream(partition));
    let mut lanes = Vec::new();
    for (partition, stream) in (0..).zip(streams) {
        if let Some(stream) = stream? {
            lanes.push(Lane {
                partition,
                stream,
                share: layout.share(partition),
                // A start in the middle, so that not all partitions get their
                // first event in the same tick.
                credit: f64::from(partition % 8) / 8.0,
            });
        }
    }
    Ok(lanes)
}
