//! What a seed decides before anything runs: sizes, speeds, and which faults come how often.
//! Every seed leaves some faults out, so that rare meetings of two are not drowned by a third.

use std::time::Duration;

use refold_domain::decode::WireFormat;
use refold_domain::fold::FoldOptions;
use refold_domain::restart::RestartPolicy;
use refold_ports::source::ReadLimit;
use refold_system::Mode;
use refold_system::ProjectorOptions;
use refold_system::options::RetryDelays;

use crate::chance::Chance;

/// A fault that one call, one point or one pause may meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The log does not answer.
    LogAway,
    /// A read of the log fails.
    ReadFails,
    /// A call of the store is lost on its way.
    CallLost,
    /// The answer of a call of the store is lost.
    AnswerLost,
    /// A call arrives long after its sender has given up.
    CallLate,
    /// A commit is lost on its way.
    CommitLost,
    /// The answer of a commit is lost.
    CommitAnswerLost,
    /// A commit arrives long after its sender has given up.
    CommitLate,
    /// A commit arrives twice.
    CommitTwice,
    /// A commit is rolled back.
    CommitRetry,
    /// The disk is full.
    DiskFull,
    /// A stage of a projector fails.
    StageFails,
    /// A stage of a projector panics.
    StagePanics,
    /// A stage of a projector takes long.
    StageStalls,
}

impl Fault {
    pub(crate) const ALL: [Self; 14] = [
        Self::LogAway,
        Self::ReadFails,
        Self::CallLost,
        Self::AnswerLost,
        Self::CallLate,
        Self::CommitLost,
        Self::CommitAnswerLost,
        Self::CommitLate,
        Self::CommitTwice,
        Self::CommitRetry,
        Self::DiskFull,
        Self::StageFails,
        Self::StagePanics,
        Self::StageStalls,
    ];

    /// How often it comes where it may come, in the seeds that have it.
    const fn odds(self) -> f64 {
        match self {
            Self::LogAway | Self::ReadFails | Self::CallLost | Self::AnswerLost => 0.03,
            Self::CallLate | Self::StageFails | Self::StagePanics | Self::StageStalls => 0.01,
            Self::CommitLost | Self::CommitAnswerLost | Self::CommitLate => 0.06,
            Self::CommitTwice | Self::CommitRetry | Self::DiskFull => 0.04,
        }
    }
}

/// Special events of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blemish {
    /// None.
    None,
    /// A record that nobody can decode.
    Poison,
    /// An event that is missing.
    Gap,
    /// A log whose start passes the marks.
    Truncation,
}

/// A seed's decisions.
#[derive(Debug)]
pub(crate) struct Plan {
    odds: [f64; Fault::ALL.len()],
    /// Partitions of the topic.
    pub(crate) partitions: i32,
    /// Aggregates.
    pub(crate) keys: u64,
    /// Events before the first projector starts.
    pub(crate) history: u64,
    /// Events of a burst, at most.
    pub(crate) burst: u64,
    /// Time between two bursts.
    pub(crate) burst_every: Duration,
    /// Time of a call to the store or the log, each way.
    pub(crate) way: Duration,
    /// Time between two deeds of an operator.
    pub(crate) operator_every: Duration,
    /// How long a process goes on undisturbed.
    pub(crate) life: Duration,
    /// Operators who do not know of each other.
    pub(crate) operators: u64,
    /// How long faults come.
    pub(crate) trouble: Duration,
    /// What is wrong with the log.
    pub(crate) blemish: Blemish,
    /// Whether the third version, whose fold is wrong, is built.
    pub(crate) builds_wrong: bool,
    /// Whether a barrier may have to wait for the rows of the marks.
    pub(crate) waits_for_marks: bool,
    /// Whether every process cuts its batches by a size of its own, as two releases may.
    own_batches: bool,
    options: ProjectorOptions,
}

impl Plan {
    /// The plan of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        let chance = Chance::new(seed, 1);
        let severity = chance.pick(&[0.3, 1.0, 1.0, 3.0]);
        let odds = Fault::ALL.map(|fault| match chance.odds(0.5) {
            true => fault.odds() * severity,
            false => 0.0,
        });
        let seconds = |range| Duration::from_secs(chance.between(range));
        Self {
            odds,
            partitions: chance.pick(&[1, 2, 2, 3]),
            keys: chance.pick(&[2, 5, 12, 40]),
            history: chance.pick(&[0, 10, 60, 200]),
            burst: chance.pick(&[1, 6, 20]),
            burst_every: seconds(20..=240),
            way: Duration::from_millis(chance.pick(&[0, 1, 3, 40, 400])),
            operator_every: seconds(20..=200),
            life: seconds(30..=600),
            operators: chance.pick(&[1, 1, 2, 3]),
            trouble: seconds(1_800..=5_400),
            blemish: chance.pick(&[
                Blemish::None,
                Blemish::None,
                Blemish::None,
                Blemish::None,
                Blemish::None,
                Blemish::Poison,
                Blemish::Gap,
                Blemish::Truncation,
            ]),
            builds_wrong: chance.odds(0.4),
            options: options(&chance),
            waits_for_marks: chance.odds(0.5),
            own_batches: chance.odds(0.5),
        }
    }

    /// How often a fault comes where it may come.
    pub(crate) fn odds(&self, fault: Fault) -> f64 {
        self.odds[fault as usize]
    }

    /// What a process is told to do.
    pub(crate) fn options(&self, mode: Mode, chance: &Chance) -> ProjectorOptions {
        let batch = match self.own_batches {
            true => chance.pick(&BATCHES),
            false => self.options.batch,
        };
        ProjectorOptions {
            mode,
            catch_up: true,
            batch,
            ..self.options.clone()
        }
    }
}

/// Events of a batch, at most.
const BATCHES: [usize; 3] = [1, 4, 20];

fn options(chance: &Chance) -> ProjectorOptions {
    let seconds = |range| Duration::from_secs(chance.between(range));
    ProjectorOptions {
        batch: chance.pick(&BATCHES),
        batch_age: Duration::from_millis(chance.pick(&[1, 50])),
        rate_limit: chance.pick(&[None, None, Some(50)]),
        // Never tight: which keys a pass over a history takes depends on a hash that is
        // seeded by chance on purpose, and would be nobody's to repeat.
        memory_bytes: 1 << 30,
        workers: chance.pick(&[1, 2, 3]),
        transactions: chance.pick(&[1, 2, 8]),
        checkpoint_every: chance.pick(&[None, Some(Duration::ZERO), Some(Duration::ZERO)]),
        fold: FoldOptions {
            wire: WireFormat::Json,
            complete_log: true,
        },
        bulk_read: ReadLimit {
            records: chance.pick(&[1, 5, 16]),
            bytes: 1 << 20,
        },
        read_wait: seconds(5..=60),
        copy_frame_bytes: chance.pick(&[32, 128, 1_024]),
        restart: RestartPolicy {
            first_delay: Duration::from_millis(50),
            max_delay: Duration::from_secs(10),
            intensity: chance.pick(&[2, 20, 20]),
            window: Duration::from_secs(120),
        },
        retry: RetryDelays {
            first: Duration::from_millis(20),
            longest: Duration::from_secs(2),
        },
        drain_bound: Duration::from_secs(10),
        lookout_every: seconds(10..=60),
        start_patience: Duration::from_secs(5),
        actor: "projector".to_owned(),
        ..ProjectorOptions::default()
    }
}
