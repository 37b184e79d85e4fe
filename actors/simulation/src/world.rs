//! The world of one seed: log, store, clock, chance, and what was noticed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use refold_domain::barrier::OffsetVector;
use refold_domain::position::Offset;
use refold_domain::position::OffsetRange;
use refold_domain::position::Partition;
use refold_domain::version::VersionId;
use refold_domain::version::VersionState;
use refold_ports::memory::log::MemoryLog;
use refold_ports::memory::store::MemoryStore;
use refold_ports::registry::BarrierRow;
use refold_ports::sink::BulkTarget;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::branch::Branch;
use crate::branch::Branches;
use crate::chance::Chance;
use crate::mutation::Mutation;
use crate::plan::Fault;
use crate::plan::Plan;
use crate::trace::Trace;
use crate::truth::Truth;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The check that found it.
    pub check: &'static str,
    /// What is wrong, in one sentence.
    pub detail: String,
    /// Simulated time at which it was noticed.
    pub at: Duration,
}

/// A partition of a version.
pub(crate) type Place = (VersionId, Partition);

/// What was committed to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Applied {
    /// The mark behind the last commit.
    pub(crate) to: Offset,
    /// The epoch of the last commit.
    pub(crate) epoch: i64,
}

/// Everything that changes beside log and store.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) branches: Branches,
    pub(crate) faults: u64,
    pub(crate) findings: Vec<Finding>,
    pub(crate) truth: Truth,
    /// What was committed to each place.
    pub(crate) applied: BTreeMap<Place, Applied>,
    /// The last epoch that was granted of each place, and the process that it went to.
    pub(crate) granted: BTreeMap<Place, (i64, u64)>,
    /// The version number of each version.
    pub(crate) numbers: BTreeMap<VersionId, u32>,
    /// The switch vector of each generation.
    pub(crate) switches: BTreeMap<i64, OffsetVector>,
    /// The barrier that was set last and is neither done nor withdrawn.
    pub(crate) barrier: Option<i64>,
    /// The barriers that were set, by id.
    pub(crate) barriers: BTreeMap<i64, BarrierRow>,
    /// The barrier whose sums were compared last.
    pub(crate) proven: Option<i64>,
    /// The state in which each version was last seen.
    pub(crate) states: BTreeMap<VersionId, VersionState>,
    /// Batches on their way, each the last one of its place.
    pub(crate) sent: BTreeMap<Place, OffsetRange>,
    /// Sessions that are in a bulk load: what they write, and under which epoch.
    pub(crate) loading: BTreeMap<Place, (BulkTarget, i64)>,
    /// Partitions whose events were deleted in front of a mark.
    pub(crate) truncated: bool,
}

impl Seen {
    /// Whether a batch of a place is on its way that begins at its mark, in front of an offset,
    /// and ends behind that offset. Its sender may have died.
    pub(crate) fn is_under_batch(&self, place: Place, at: Offset) -> bool {
        let mark = self.applied.get(&place).map(|applied| applied.to);
        let sent = self.sent.get(&place);
        sent.is_some_and(|range| Some(range.from) == mark && range.from < at && at < range.to)
    }
}

/// The world of a seed. Clones share it.
#[derive(Clone)]
pub(crate) struct World(Arc<Inner>);

/// The fields of [`World`].
pub(crate) struct Inner {
    pub(crate) plan: Plan,
    pub(crate) chance: Chance,
    pub(crate) log: MemoryLog,
    pub(crate) store: MemoryStore,
    pub(crate) mutation: Option<Mutation>,
    /// Told when the log has grown.
    pub(crate) grown: Notify,
    /// Told when a mark was put where a batch of another version, still on its way, passes it.
    pub(crate) straddled: Notify,
    /// Told when the sums at a barrier were compared.
    pub(crate) compared: Notify,
    began: Instant,
    trace: Mutex<Trace>,
    seen: Mutex<Seen>,
    troubled: AtomicBool,
    would_wait: AtomicBool,
    processes: AtomicU64,
}

impl std::ops::Deref for World {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl World {
    /// The world of a seed, from inside the runtime whose clock it goes by.
    pub(crate) fn new(seed: u64, mutation: Option<Mutation>, shown: bool) -> Self {
        let plan = Plan::new(seed);
        let store = MemoryStore::new();
        store.leave_out(mutation.and_then(Mutation::omission));
        Self(Arc::new(Inner {
            log: MemoryLog::new("events", plan.partitions),
            store,
            plan,
            chance: Chance::new(seed, 2),
            mutation,
            grown: Notify::new(),
            straddled: Notify::new(),
            compared: Notify::new(),
            began: Instant::now(),
            trace: Mutex::new(Trace::new(shown)),
            seen: Mutex::default(),
            troubled: AtomicBool::new(true),
            would_wait: AtomicBool::new(false),
            processes: AtomicU64::new(0),
        }))
    }
}

impl Inner {
    /// Simulated time since the beginning.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn trace(&self) -> MutexGuard<'_, Trace> {
        self.trace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        self.trace().note(self.now(), what);
    }

    /// Counts a rare branch.
    pub(crate) fn take(&self, branch: Branch) {
        self.seen().branches.take(branch);
        self.note(format_args!("  took: {branch:?}"));
    }

    /// Notes that something is not as it must be.
    pub(crate) fn find(&self, check: &'static str, detail: String) {
        self.note(format_args!("FOUND {check}: {detail}"));
        let at = self.now();
        self.seen().findings.push(Finding { check, detail, at });
    }

    /// Whether nothing more needs to be looked at.
    pub(crate) fn is_broken(&self) -> bool {
        !self.seen().findings.is_empty()
    }

    /// Whether faults still come.
    pub(crate) fn is_troubled(&self) -> bool {
        self.troubled.load(Ordering::Relaxed)
    }

    /// From now on no fault comes.
    pub(crate) fn heal(&self) {
        self.troubled.store(false, Ordering::Relaxed);
        self.note(format_args!("no more faults"));
    }

    /// Whether a fault comes here and now.
    pub(crate) fn meets(&self, fault: Fault) -> bool {
        let met = self.is_troubled() && self.chance.odds(self.plan.odds(fault));
        if met {
            self.seen().faults += 1;
            self.note(format_args!("  fault: {fault:?}"));
        }
        met
    }

    /// Counts a fault that somebody chose.
    pub(crate) fn count_fault(&self) {
        self.seen().faults += 1;
    }

    /// Time of one way to the store or the log.
    pub(crate) fn way(&self) -> Duration {
        match self.plan.way.is_zero() {
            true => Duration::ZERO,
            false => self.chance.time(self.plan.way),
        }
    }

    /// Whether the reader that was just asked would have waited.
    pub(crate) fn take_would_wait(&self) -> bool {
        self.would_wait.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn set_would_wait(&self) {
        self.would_wait.store(true, Ordering::Relaxed);
    }

    /// The number of a new process.
    pub(crate) fn next_process(&self) -> u64 {
        self.processes.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// All partitions.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = Partition> + use<> {
        (0..self.plan.partitions).map(Partition)
    }

    /// The number of a version.
    pub(crate) fn number(&self, version: VersionId) -> u32 {
        let seen = self.seen();
        seen.numbers.get(&version).copied().unwrap_or_default()
    }
}

/// Lets simulated time pass.
pub(crate) async fn pass(time: Duration) {
    if time.is_zero() {
        // Others may come first, and no time passes.
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep(time).await;
    }
}
