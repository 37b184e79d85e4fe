//! What an actor shows of itself: one small struct that tests, `/metrics` and
//! HTTP read alike.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::SystemTime;

use crate::duty::Duty;
use crate::position::Offset;
use crate::position::Partition;
use crate::throttle::Held;

/// What a projector does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Taking over its partition.
    Starting,
    /// Folding history in memory for a bulk load.
    Replaying,
    /// Copying a folded partition into its leaf.
    Loading,
    /// Applying batches towards the end of the log.
    CatchingUp,
    /// At the end of the log.
    Live,
    /// Stopped at an event that it cannot apply.
    Halted,
    /// Failed too often; not restarted.
    Broken,
    /// Another process owns the partition.
    Fenced,
    /// Finished or drained.
    Stopped,
}

impl Phase {
    /// The word in answers and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Replaying => "replaying",
            Self::Loading => "loading",
            Self::CatchingUp => "catching-up",
            Self::Live => "live",
            Self::Halted => "halted",
            Self::Broken => "broken",
            Self::Fenced => "fenced",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The stages whose time is accounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Waiting for and receiving records.
    Fetch,
    /// Decoding and folding them (one pass).
    Fold,
    /// Sending rows and waiting for the database.
    Write,
    /// Building the key and statistics of a bulk load.
    Index,
    /// Waiting for the commit.
    Commit,
    /// Waiting as the rate limit says, for the reads, or for a throttle that holds the rebuild.
    Throttled,
    /// At the end of the log with nothing to do.
    Idle,
}

impl Stage {
    /// All stages.
    pub const ALL: [Self; 7] = [
        Self::Fetch,
        Self::Fold,
        Self::Write,
        Self::Index,
        Self::Commit,
        Self::Throttled,
        Self::Idle,
    ];

    /// The word in metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Fold => "fold",
            Self::Write => "write",
            Self::Index => "index",
            Self::Commit => "commit",
            Self::Throttled => "throttled",
            Self::Idle => "idle",
        }
    }
}

/// Time spent per stage since the actor's first start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Busy([Duration; Stage::ALL.len()]);

impl Busy {
    /// Adds time to a stage.
    pub fn add(&mut self, stage: Stage, time: Duration) {
        self.0[stage as usize] += time;
    }

    /// The time of a stage.
    pub fn get(&self, stage: Stage) -> Duration {
        self.0[stage as usize]
    }
}

/// Counters of events since the actor's first start in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventCounts {
    /// Folded into a row by the projection.
    pub applied: u64,
    /// At or below the row's position: skipped.
    pub duplicates: u64,
    /// Of a type that the projection does not handle.
    pub unhandled: u64,
    /// Gaps in per-aggregate versions.
    pub gaps: u64,
    /// Put aside, because the fold refused them or one of their aggregate before them.
    pub parked: u64,
    /// Bytes of keys and values read.
    pub bytes: u64,
    /// Rows written.
    pub rows: u64,
    /// Transactions committed.
    pub commits: u64,
}

/// Who an actor is: one projector per version and partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorId {
    /// The version's label.
    pub version: String,
    /// The partition.
    pub partition: Partition,
}

/// The observable state of one projector.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// The projection's name.
    pub projection: String,
    /// `replay` or `live`.
    pub mode: &'static str,
    /// What it does.
    pub phase: Phase,
    /// Why, when it is halted, broken or fenced.
    pub reason: Option<String>,
    /// The durable mark that it started from, inclusive.
    pub from: Offset,
    /// The durable mark, exclusive.
    pub next: Offset,
    /// How far folding got in memory (bulk), exclusive; at least `next`.
    pub folded: Offset,
    /// Up to here, exclusive, a reader has met nothing behind the mark but markers and holes. They
    /// move no mark, which is one past a record.
    pub clear_to: Offset,
    /// End of the log when last asked, exclusive.
    pub end: Offset,
    /// When `end` was learnt.
    pub end_measured: Option<SystemTime>,
    /// The end of the log that the last question was answered with, exclusive; `None` where it was
    /// not answered, and before the first. Unlike `end` it does not move with the mark.
    pub asked_end: Option<Offset>,
    /// When the last transaction was committed.
    pub last_commit: Option<SystemTime>,
    /// What the throttle holds it for, while it does.
    pub held: Held,
    /// The share of the time in which it works through history.
    pub duty: Duty,
    /// Restarts by the supervisor.
    pub restarts: u64,
    /// Bytes held by the fold's table.
    pub memory_bytes: u64,
    /// Counters.
    pub counts: EventCounts,
    /// Time per stage.
    pub busy: Busy,
    /// CPU time per stage of the threads that read, fold and encode. What the
    /// client library's own threads spend is in no stage.
    pub cpu: Busy,
}

impl Observed {
    /// The state of an actor that is about to start.
    pub fn starting(projection: &str, mode: &'static str) -> Self {
        Self {
            projection: projection.to_owned(),
            mode,
            phase: Phase::Starting,
            reason: None,
            from: Offset(0),
            next: Offset(0),
            folded: Offset(0),
            clear_to: Offset(0),
            end: Offset(0),
            end_measured: None,
            asked_end: None,
            last_commit: None,
            held: Held::default(),
            duty: Duty::WHOLE,
            restarts: 0,
            memory_bytes: 0,
            counts: EventCounts::default(),
            busy: Busy::default(),
            cpu: Busy::default(),
        }
    }

    /// Offsets between what is done and the end of the log. Markers and holes behind the last
    /// record count as long as no reader has passed them.
    pub fn lag(&self) -> u64 {
        self.next.max(self.clear_to).lag_to(self.end)
    }
}

/// The observable states of all projectors of a process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<BTreeMap<ActorId, Observed>>>);

impl Board {
    /// An empty board.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ActorId, Observed>> {
        // A panic while the lock was held can leave counters stale, not wrong.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an actor on the board, unless it is there from before a restart.
    pub fn enter(&self, id: &ActorId, observed: Observed) {
        self.lock().entry(id.clone()).or_insert(observed);
    }

    /// Takes an actor off the board: somebody else works on its partition.
    pub fn leave(&self, id: &ActorId) {
        self.lock().remove(id);
    }

    /// Changes an actor's state; does nothing for an unknown one.
    pub fn update(&self, id: &ActorId, change: impl FnOnce(&mut Observed)) {
        if let Some(observed) = self.lock().get_mut(id) {
            change(observed);
        }
    }

    /// Changes the state of every actor.
    pub fn update_all(&self, change: impl Fn(&mut Observed)) {
        self.lock().values_mut().for_each(change);
    }

    /// The state of one actor.
    pub fn get(&self, id: &ActorId) -> Option<Observed> {
        self.lock().get(id).cloned()
    }

    /// The states of all actors, ordered by version and partition.
    pub fn all(&self) -> Vec<(ActorId, Observed)> {
        let board = self.lock();
        board.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_phases_and_stages_are_those_of_answers_and_metrics() {
        for (phase, word) in [
            (Phase::Starting, "starting"),
            (Phase::Replaying, "replaying"),
            (Phase::Loading, "loading"),
            (Phase::CatchingUp, "catching-up"),
            (Phase::Live, "live"),
            (Phase::Halted, "halted"),
            (Phase::Broken, "broken"),
            (Phase::Fenced, "fenced"),
            (Phase::Stopped, "stopped"),
        ] {
            assert_eq!((phase.word(), phase.to_string().as_str()), (word, word));
        }
        assert_eq!(
            Stage::ALL.map(Stage::word),
            [
                "fetch",
                "fold",
                "write",
                "index",
                "commit",
                "throttled",
                "idle"
            ]
        );
    }

    #[test]
    fn time_is_added_up_stage_by_stage() {
        let mut busy = Busy::default();
        for (at, stage) in (1..).zip(Stage::ALL) {
            busy.add(stage, Duration::from_secs(at));
            busy.add(stage, Duration::from_secs(10 * at));
        }
        let times = Stage::ALL.map(|stage| busy.get(stage).as_secs());
        assert_eq!(times, [11, 22, 33, 44, 55, 66, 77]);
    }

    #[test]
    fn markers_and_holes_that_a_reader_has_passed_are_no_lag() {
        let mut observed = Observed::starting("p", "live");
        assert_eq!((observed.phase, observed.lag()), (Phase::Starting, 0));
        (observed.next, observed.end) = (Offset(10), Offset(17));
        assert_eq!(observed.lag(), 7);
        observed.clear_to = Offset(15);
        assert_eq!(observed.lag(), 2);
        observed.next = Offset(17);
        assert_eq!(observed.lag(), 0);
    }

    #[test]
    fn an_actor_keeps_its_state_on_the_board_over_a_restart_until_it_leaves() {
        let id = |version: &str, partition| ActorId {
            version: version.to_owned(),
            partition: Partition(partition),
        };
        let board = Board::new();
        let of = |id: &ActorId| board.get(id).map(|observed| observed.restarts);
        for id in [id("b_v1", 0), id("a_v1", 10), id("a_v1", 9)] {
            board.enter(&id, Observed::starting("p", "live"));
        }
        board.update(&id("a_v1", 9), |observed| observed.restarts += 1);
        board.update(&id("c_v1", 0), |observed| observed.restarts += 1);
        board.enter(&id("a_v1", 9), Observed::starting("p", "replay"));
        assert_eq!(of(&id("a_v1", 9)), Some(1), "what it was stays");
        assert_eq!(of(&id("a_v1", 10)), Some(0));
        assert_eq!(of(&id("c_v1", 0)), None, "nobody enters by a change");
        let all = board
            .all()
            .into_iter()
            .map(|(id, observed)| (id, observed.restarts));
        assert_eq!(
            all.collect::<Vec<_>>(),
            [(id("a_v1", 9), 1), (id("a_v1", 10), 0), (id("b_v1", 0), 0)]
        );
        board.update_all(|observed| observed.restarts += 10);
        assert_eq!(of(&id("a_v1", 9)), Some(11));
        assert_eq!(of(&id("b_v1", 0)), Some(10));
        board.leave(&id("a_v1", 9));
        assert_eq!(of(&id("a_v1", 9)), None);
        assert_eq!(board.all().len(), 2);
    }
}
