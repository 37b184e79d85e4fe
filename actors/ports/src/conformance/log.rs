//! The promises of [`LogSource`], as cases that every log runs.
//!
//! An adapter stages topics through a [`LogHarness`] and calls [`run`], which
//! prints how many cases it ran. There is one list: what one adapter passes
//! cannot be left out by another.

mod ends;
mod order;
mod reading;
mod topic;
mod transactions;

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use tokio::task::JoinSet;

use crate::conformance::log::reading::Reading;
use crate::source::LogSource;
use crate::source::ReadMode;

pub use crate::memory::log::NewRecord;

/// Cases that run at the same time: enough to hide the waiting, few enough for two cores.
const AT_ONCE: usize = 4;

/// Stages topics for the cases. Every method panics when the stage cannot be
/// set: no case means anything then.
#[async_trait]
pub trait LogHarness: Send + Sync {
    /// Creates a topic of its own with `partitions` empty partitions.
    async fn create(&self, partitions: i32) -> Arc<dyn StagedTopic>;

    /// A source of a topic that does not exist.
    fn missing(&self) -> Arc<dyn LogSource>;
}

/// A topic on the stage.
#[async_trait]
pub trait StagedTopic: Send + Sync {
    /// The adapter under test.
    fn source(&self) -> Arc<dyn LogSource>;

    /// The topic's name.
    fn name(&self) -> String;

    /// Appends records in this order, outside any transaction. Their times are above 0.
    async fn produce(&self, partition: Partition, records: Vec<NewRecord>);

    /// Appends records in this order inside a transaction that stays open.
    async fn begin(
        &self,
        partition: Partition,
        records: Vec<NewRecord>,
    ) -> Box<dyn StagedTransaction>;

    /// Offsets that the end of a transaction takes in its partition: one for the marker, where a
    /// log has markers.
    fn markers(&self) -> i64 {
        1
    }

    /// Whether all partitions share one sequence of offsets, so that a record of one takes an
    /// offset of the others too. Where they do not, each partition counts from 0.
    fn shares_offsets(&self) -> bool {
        false
    }

    /// Deletes the records below `low`.
    async fn delete_below(&self, partition: Partition, low: Offset);
}

/// An open transaction on the stage. Ending it takes [`StagedTopic::markers`] offsets.
#[async_trait]
pub trait StagedTransaction: Send {
    /// Commits; the records can be read when this returns.
    async fn commit(self: Box<Self>);

    /// Aborts; the end is behind it when this returns.
    async fn abort(self: Box<Self>);
}

/// What a case gets: the stage, and the mode to read in.
#[derive(Clone)]
struct Stage {
    harness: Arc<dyn LogHarness>,
    mode: ReadMode,
}

impl Stage {
    async fn topic(&self, partitions: i32) -> Arc<dyn StagedTopic> {
        self.harness.create(partitions).await
    }

    async fn open(&self, topic: &Arc<dyn StagedTopic>, from: i64) -> Reading {
        Reading::open(topic, P0, Offset(from), self.mode).await
    }
}

/// The partition of cases that need one only.
const P0: Partition = Partition(0);

type CaseFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A named case.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    run: fn(Stage) -> CaseFuture,
}

/// The cases of a module, named by their functions.
macro_rules! cases {
    ($($name:ident),+ $(,)?) => {
        pub(super) const CASES: &[crate::conformance::log::Case] = &[$(
            crate::conformance::log::Case {
                name: stringify!($name),
                run: |stage| Box::pin($name(stage)),
            }
        ),+];
    };
}
use cases;

fn all() -> impl Iterator<Item = Case> {
    [order::CASES, ends::CASES, transactions::CASES, topic::CASES]
        .into_iter()
        .flatten()
        .copied()
}

/// Number of cases that [`run`] runs: every case in both modes.
pub fn case_count() -> usize {
    all().count() * MODES.len()
}

const MODES: [ReadMode; 2] = [ReadMode::Bulk, ReadMode::Tail];

/// Runs every case in both modes, prints the number that passed, and answers it.
///
/// # Panics
/// When a case fails, after all have run, with the name of each.
pub async fn run(adapter: &str, harness: Arc<dyn LogHarness>) -> usize {
    let mut waiting: Vec<(Case, ReadMode)> = all()
        .flat_map(|case| MODES.map(|mode| (case, mode)))
        .collect();
    waiting.reverse();
    let mut running = JoinSet::new();
    let mut passed = 0;
    let mut failed = Vec::new();
    loop {
        while running.len() < AT_ONCE {
            let Some((case, mode)) = waiting.pop() else {
                break;
            };
            let stage = Stage {
                harness: Arc::clone(&harness),
                mode,
            };
            running.spawn(async move {
                let outcome = tokio::spawn((case.run)(stage)).await;
                (format!("{} ({mode:?})", case.name), outcome)
            });
        }
        match running.join_next().await {
            None => break,
            Some(Ok((_, Ok(())))) => passed += 1,
            Some(Ok((name, Err(error)))) => failed.push(format!("{name}: {}", reason(error))),
            Some(Err(error)) => failed.push(reason(error)),
        }
    }
    println!(
        "log conformance, {adapter}: {passed} of {} cases passed",
        case_count()
    );
    assert!(failed.is_empty(), "{adapter} failed {failed:#?}");
    passed
}

fn reason(error: tokio::task::JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else {
        return "cancelled".to_owned();
    };
    let panic: &(dyn Any + Send) = &*panic;
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .unwrap_or_else(|| "a panic without words".to_owned())
}
