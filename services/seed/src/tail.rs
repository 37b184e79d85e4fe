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
    /// How long a record waits for others of its batch at most: a partition's events are handed
    /// over once in this time, each partition at a moment of its own.
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

/// Due events are handed to the producer no more often than that.
const TICK: Duration = Duration::from_millis(5);

/// How long the producer waits for the rest of what a partition is handed in one go.
const GATHER: Duration = Duration::from_millis(2);

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
    let mut lanes = lanes(&found, &layout, options.linger)?;
    let ledger = Ledger::new(&found.ends, options.on_acked.clone());
    let mut writer = Writer::new(
        target,
        &params,
        options.codec,
        Batching::Prompt(options.linger.min(GATHER)),
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

/// Writes what is due, each partition at its turns, until it is time to stop.
///
/// The turns are spread over `linger`: producers of many partitions do not send to all of them at
/// one moment, and whoever follows would have nothing to do in between.
fn append(
    options: &TailOptions,
    lanes: &mut [Lane<'_>],
    writer: &mut Writer,
    started: Instant,
) -> Result<(), SeedError> {
    while !options.stop.load(Ordering::Relaxed) {
        if options.hold.load(Ordering::Relaxed) {
            hold(options, writer)?;
        }
        let elapsed = started.elapsed();
        if options.duration.is_some_and(|duration| elapsed >= duration) {
            break;
        }
        let due = (elapsed.as_secs_f64() * options.rate as f64) as u64;
        let mut next = elapsed + options.linger.max(TICK);
        for lane in &mut *lanes {
            if lane.has_turn(elapsed, options.linger) {
                lane.credit(due, options.rate);
                lane.write(writer)?;
            }
            next = next.min(lane.turn);
        }
        writer.wait(next.saturating_sub(elapsed).max(TICK))?;
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
    /// Events that it is owed.
    credit: f64,
    /// Events of all partitions of which it has got its share.
    credited: u64,
    /// When it is next, from the start.
    turn: Duration,
}

impl Lane<'_> {
    /// Whether its turn has come; the next one is `every` later, and those that were missed are
    /// left out.
    fn has_turn(&mut self, elapsed: Duration, every: Duration) -> bool {
        let missed = elapsed.checked_sub(self.turn);
        if let Some(missed) = missed {
            self.turn += every.saturating_mul(turns(missed, every));
        }
        missed.is_some()
    }

    /// Adds its share of the first `due` events of all partitions. What was not written while the
    /// broker stood still is not made up for in one burst: at most one second's worth.
    fn credit(&mut self, due: u64, rate: u64) {
        let credited = self.credited.max(due.saturating_sub(rate));
        self.credit += self.share * due.saturating_sub(credited) as f64;
        self.credited = due;
    }

    fn write(&mut self, writer: &mut Writer) -> Result<(), SeedError> {
        while self.credit >= 1.0 {
            self.credit -= 1.0;
            writer.send(self.partition, &self.stream.next_event())?;
        }
        Ok(())
    }
}

/// Turns until one is later than now when the last was `missed` ago.
fn turns(missed: Duration, every: Duration) -> u32 {
    let whole = missed.as_micros().checked_div(every.as_micros());
    let whole = whole.and_then(|turns| u32::try_from(turns).ok());
    whole.unwrap_or(0).saturating_add(1)
}

fn lanes<'a>(
    found: &'a Found<'a>,
    layout: &Layout,
    linger: Duration,
) -> Result<Vec<Lane<'a>>, SeedError> {
    let order = layout.largest_first();
    let streams = parallel::over_partitions(&order, |partition| found.stream(partition));
    let count = u32::try_from(streams.len()).unwrap_or(u32::MAX).max(1);
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
                credited: 0,
                turn: linger * partition / count,
            });
        }
    }
    Ok(lanes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_that_were_missed_are_left_out() {
        let every = Duration::from_millis(10);
        let turns = |missed| turns(Duration::from_micros(missed), every);
        assert_eq!([0, 9_999, 10_000, 35_000].map(turns), [1, 1, 2, 4]);
        assert_eq!(super::turns(every, Duration::ZERO), 1);
    }
}
