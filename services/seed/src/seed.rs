//! Writing the seeded part of a log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::broker::Target;
use crate::bulk::BulkWriter;
use crate::codec::{BATCH_BYTES, Compression};
use crate::error::SeedError;
use crate::layout::Layout;
use crate::pace::Pacer;
use crate::parallel;
use crate::params::SeedParams;
use crate::progress::{self, Progress};
use crate::resume::{self, Found};
use crate::stored::store_params;
use crate::write::{Append, Batching, Ledger, Writer};

/// What to seed, and how.
#[derive(Debug, Clone)]
pub struct SeedOptions {
    /// Where the log is written.
    pub target: Target,
    /// What the log holds.
    pub params: SeedParams,
    /// Copies of every partition, when the topic is created.
    pub replication: i32,
    /// How batches are compressed.
    pub codec: Compression,
    /// Record bytes of a batch before it is compressed, at least
    /// [`MIN_BATCH_BYTES`]. Larger ones make a smaller log; a reader holds a
    /// whole batch, and a broker refuses one that stays above its
    /// `message.max.bytes` (1 MiB by default) when compressed.
    pub batch_bytes: usize,
    /// Most events per second; 0 for as many as possible.
    pub rate: u64,
    /// Threads that generate and produce; 0 for one a core.
    pub threads: usize,
    /// Whether progress is shown.
    pub progress: Progress,
    /// Set to true to stop early: what was queued is still delivered, and the
    /// next start goes on from there.
    pub stop: Arc<AtomicBool>,
}

impl SeedOptions {
    /// Seeds `params` into `target`: one copy, lz4, as fast as possible.
    pub fn new(target: Target, params: SeedParams) -> Self {
        Self {
            target,
            params,
            replication: 1,
            codec: Compression::default(),
            batch_bytes: BATCH_BYTES,
            rate: 0,
            threads: 0,
            progress: Progress::default(),
            stop: Arc::default(),
        }
    }
}

/// What a seed did.
#[derive(Debug, Clone, PartialEq)]
pub struct SeedReport {
    /// Whether the topic was created by this run.
    pub created: bool,
    /// Next offset of every partition when it started.
    pub started_at: Vec<u64>,
    /// Next offset of every partition when it ended, as acknowledged.
    pub ended_at: Vec<u64>,
    /// Events written by this run.
    pub written: u64,
    /// Whether the seeded part of the log is complete.
    pub complete: bool,
    /// Time spent writing.
    pub elapsed: Duration,
}

/// Writes the log of `options.params`, or what is missing of it.
///
/// The topic is created if it does not exist. If it does, it must hold a
/// beginning of this very log: the records already there are generated again,
/// not read (only the first and the last of every partition are compared), and
/// writing goes on at the next offset. A run that was killed at any moment is
/// therefore continued by a run with the same options.
///
/// # Errors
/// [`SeedError`]. Nothing is written unless the topic was found fit.
pub fn seed(options: &SeedOptions) -> Result<SeedReport, SeedError> {
    let layout = Layout::new(&options.params)?;
    let target = &options.target;
    let created = prepare(options)?;
    let found = if created {
        resume::empty(target, &layout)?
    } else {
        resume::settled(target, &layout)?
    };
    let ledger = Ledger::new(&found.ends, None);
    let started = Instant::now();
    let missing = layout
        .end_offsets()
        .iter()
        .zip(&found.ends)
        .map(|(end, start)| end.saturating_sub(*start))
        .sum();
    let run = Run {
        options,
        layout: &layout,
        found: &found,
        order: layout.largest_first(),
        next: AtomicUsize::new(0),
        pacer: Pacer::new(options.rate),
        ledger: &ledger,
    };
    ledger.verdict(run.all(missing))?;
    let ended_at = ledger.ends();
    let complete = layout
        .end_offsets()
        .iter()
        .zip(&ended_at)
        .all(|(end, reached)| reached >= end);
    Ok(SeedReport {
        created,
        started_at: found.ends,
        ended_at,
        written: ledger.acked(),
        complete,
        elapsed: started.elapsed(),
    })
}

/// Creates the topic and its companion; `true` if the topic is new. The
/// parameters are stored first, so that a log is never without them.
fn prepare(options: &SeedOptions) -> Result<bool, SeedError> {
    let target = &options.target;
    if target.partitions()?.is_some() {
        return Ok(false);
    }
    store_params(target, &options.params, options.replication)?;
    target.create(options.params.partitions, options.replication)
}

struct Run<'a> {
    options: &'a SeedOptions,
    layout: &'a Layout,
    found: &'a Found<'a>,
    /// Partitions, largest first; `next` is the first that nobody has taken.
    order: Vec<u32>,
    next: AtomicUsize,
    pacer: Pacer,
    ledger: &'a Arc<Ledger>,
}

impl Run<'_> {
    fn all(&self, missing: u64) -> Result<(), SeedError> {
        let threads = match self.options.threads {
            0 => parallel::cores(),
            threads => threads,
        }
        .min(self.order.len());
        let (finish, finished) = mpsc::channel::<()>();
        let results: Vec<Result<(), SeedError>> = thread::scope(|scope| {
            let (progress, ledger) = (self.options.progress, self.ledger);
            scope.spawn(move || progress::show(progress, missing, || ledger.acked(), &finished));
            let workers: Vec<_> = (0..threads)
                .map(|_| scope.spawn(|| self.worker()))
                .collect();
            let results = workers
                .into_iter()
                .map(|worker| match worker.join() {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
                .collect();
            drop(finish);
            results
        });
        results.into_iter().collect()
    }

    /// Takes partition after partition. State is held for one at a time, so
    /// that the memory needed does not grow with the number of partitions.
    fn worker(&self) -> Result<(), SeedError> {
        let mut writer = self.writer()?;
        while let Some(&partition) = self.order.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if self.is_stopped() {
                break;
            }
            self.partition(partition, &mut *writer)?;
        }
        writer.flush()
    }

    fn writer(&self) -> Result<Box<dyn Append>, SeedError> {
        let SeedOptions {
            target,
            params,
            codec,
            batch_bytes,
            ..
        } = self.options;
        Ok(match BulkWriter::new(self.options, self.ledger) {
            Some(writer) => Box::new(writer?),
            None => {
                let batching = Batching::Bulk((*batch_bytes).max(MIN_BATCH_BYTES));
                Box::new(Writer::new(target, params, *codec, batching, self.ledger)?)
            }
        })
    }

    fn partition(&self, partition: u32, writer: &mut dyn Append) -> Result<(), SeedError> {
        let end = self.layout.events(partition);
        let Some(mut stream) = self.found.stream(partition)? else {
            return Ok(());
        };
        while stream.next_offset() < end {
            let step = (end - stream.next_offset()).min(STEP);
            let pause = self.pacer.admit(step);
            if !pause.is_zero() {
                writer.wait(pause)?;
            }
            if self.is_stopped() {
                break;
            }
            for _ in 0..step {
                writer.send(partition, &stream.next_event())?;
            }
        }
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.options.stop.load(Ordering::Relaxed) || self.ledger.has_failed()
    }
}

/// Smallest batch that is written; smaller ones compress to nothing much.
pub const MIN_BATCH_BYTES: usize = 4 << 10;

/// Events between two looks at the pace and at the stop flag.
const STEP: u64 = 128;
