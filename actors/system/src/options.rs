//! What a projector process is told to do.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use refold_domain::decode::WireFormat;
use refold_domain::fold::FoldOptions;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::restart::RestartPolicy;
use refold_domain::throttle::Limits;
use refold_ports::source::ReadLimit;

/// Why a process projects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Follows the end of the log and serves reads as soon as it may.
    Live,
    /// Rebuilds a version from history beside the one that serves.
    Replay,
}

impl Mode {
    /// The word on the command line, on the board and in metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Replay => "replay",
        }
    }

    /// The mode of a word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Live, Self::Replay]
            .into_iter()
            .find(|m| m.word() == word)
    }
}

/// Which partitions a process works on. This says who tries; the fence says who may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionSelection {
    /// All partitions of the topic.
    All,
    /// These, pinned by hand.
    Only(BTreeSet<Partition>),
    /// Whatever a group gives to this process, now these and then those.
    ByGroup,
}

impl PartitionSelection {
    /// The selected partitions of a topic that has `count`.
    ///
    /// # Errors
    /// One sentence when a selected partition does not exist, or none is selected.
    pub fn of(&self, count: i32) -> Result<Vec<Partition>, String> {
        let chosen: Vec<_> = match self {
            // Nothing until the group has said something.
            Self::ByGroup => return Ok(Vec::new()),
            Self::All => (0..count).map(Partition).collect(),
            Self::Only(set) => set.iter().copied().collect(),
        };
        if let Some(stranger) = chosen.iter().find(|p| p.0 < 0 || p.0 >= count) {
            return Err(format!(
                "-partitions names {stranger}, but the topic has partitions p0 to p{}",
                count - 1
            ));
        }
        if chosen.is_empty() {
            return Err("-partitions selects no partition of the topic".to_owned());
        }
        Ok(chosen)
    }
}

/// A barrier waits for the batch that is being gathered, and its deadline is three times this.
const LONGEST_BATCH_AGE: Duration = Duration::from_secs(10);

/// No read is bounded to fewer bytes than this: it would cost more than it saves.
const SMALLEST_READ: usize = 64 << 10;

/// Settings of a projector process. [`ProjectorOptions::default`] serves a small
/// machine; [`ProjectorOptions::validate`] names what cannot work.
#[derive(Debug, Clone, PartialEq)]
pub struct ProjectorOptions {
    /// Why the process projects.
    pub mode: Mode,
    /// Whether a replay goes on with new events behind the historical end instead of finishing there.
    pub catch_up: bool,
    /// Where reading is asked to start; `None` means the durable mark. Never moves a mark back.
    pub from_offset: Option<Offset>,
    /// The partitions of this process.
    pub partitions: PartitionSelection,
    /// Most events in one apply transaction.
    pub batch: usize,
    /// No event waits longer for its apply transaction than this, as long as `transactions` allow
    /// it. Every partition has its turn once in this time, one after another, and sends then what
    /// it has.
    pub batch_age: Duration,
    /// Most apply transactions of the process at once. A partition whose turn has come while there
    /// are as many waits for one of them, and takes in meanwhile what arrives: with more partitions
    /// than the database keeps up with, batches become larger and not more.
    pub transactions: usize,
    /// Most events per second over all partitions of the process; `None` is no limit.
    pub rate_limit: Option<u64>,
    /// What a rebuild may bear on the database; over a limit it applies nothing. Live is not held.
    pub limits: Limits,
    /// How long 99 of 100 reads of the serving version may take while a rebuild works all the
    /// time; while they take longer it works less. `None` is as long as they like.
    pub max_read_p99: Option<Duration>,
    /// How often the database is looked at for that. What a rebuild writes in that time, and what
    /// it has begun, goes over the limit.
    pub look_every: Duration,
    /// Memory of the process in bytes. Three quarters of it are for the tables of
    /// bulk loads, an eighth for row caches, the rest for what is on the way.
    pub memory_bytes: usize,
    /// Bulk loads that run at the same time, each on a thread of its own.
    pub workers: usize,
    /// How often the rows of a history that is still being folded are made
    /// durable, so that a fold that is ended goes on from there; `None` is never.
    pub checkpoint_every: Option<Duration>,
    /// How records are folded.
    pub fold: FoldOptions,
    /// Whether an event that the fold refuses is put aside, with all that follow on it in its
    /// aggregate, instead of halting its partition.
    pub park: bool,
    /// Bounds of one read of history. A chunk that fits the second-level cache
    /// folds faster than a large one.
    pub bulk_read: ReadLimit,
    /// Most bytes in one read at the moving end, and in one batch; `batch` caps the
    /// records, and a small `memory_bytes` caps both further.
    pub tail_read_bytes: usize,
    /// How long a read waits for records at the end of the log.
    pub read_wait: Duration,
    /// Size of one frame of copied tuples.
    pub copy_frame_bytes: usize,
    /// When a failed projector is restarted, and when it is broken.
    pub restart: RestartPolicy,
    /// First and longest delay before the same thing is tried again while the store or the log is away.
    pub retry: RetryDelays,
    /// How long a drain may take before the projectors are ended where they stand.
    pub drain_bound: Duration,
    /// How often the ends of the log and the epochs in the registry are looked at.
    pub lookout_every: Duration,
    /// How long the first contact with log and registry is tried before the process gives up.
    pub start_patience: Duration,
    /// Who activates the first version, for the audit.
    pub actor: String,
}

/// Delays between repetitions of something that the outside world holds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryDelays {
    /// After the first refusal; doubles with each further one.
    pub first: Duration,
    /// The cap.
    pub longest: Duration,
}

impl RetryDelays {
    /// The delay after `refusals` in a row (at least 1), spread over its upper half by `jitter` in `[0, 1)`.
    pub fn after(&self, refusals: u32, jitter: f64) -> Duration {
        let doublings = refusals.saturating_sub(1).min(20);
        let full = self.first.saturating_mul(1 << doublings).min(self.longest);
        full.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }
}

impl Default for ProjectorOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, NonZeroUsize::get);
        Self {
            mode: Mode::Live,
            catch_up: false,
            from_offset: None,
            partitions: PartitionSelection::All,
            batch: 10_000,
            batch_age: Duration::from_millis(50),
            // A few for each core: they share the wait for the disk, and no more of them than that
            // stand between a read and its turn on a core of the database.
            transactions: (4 * cores).max(8),
            rate_limit: None,
            limits: Limits::DEFAULT,
            // A sixth of the time after which the api gives a read up: a queue of reads that grows
            // is to be noticed before one fails.
            max_read_p99: Some(Duration::from_millis(250)),
            look_every: Duration::from_millis(500),
            memory_bytes: 2 << 30,
            // One more than there are cores: a load that waits for the database leaves its core to a fold.
            workers: cores + 1,
            checkpoint_every: Some(Duration::from_secs(60)),
            fold: FoldOptions {
                wire: WireFormat::Proto,
                complete_log: true,
            },
            park: false,
            bulk_read: ReadLimit {
                // Half a megabyte of usual events: what was unpacked is still in the second-level
                // cache when it is folded, which is worth a tenth of the fold.
                records: 2_048,
                bytes: 2 << 20,
            },
            tail_read_bytes: 8 << 20,
            read_wait: Duration::from_millis(100),
            copy_frame_bytes: 1 << 20,
            restart: RestartPolicy::default(),
            retry: RetryDelays {
                first: Duration::from_millis(20),
                longest: Duration::from_secs(2),
            },
            drain_bound: Duration::from_secs(10),
            lookout_every: Duration::from_secs(1),
            start_patience: Duration::from_secs(5),
            actor: "projector".to_owned(),
        }
    }
}

impl ProjectorOptions {
    /// Whether the process goes on with new events behind the historical end.
    pub fn tails(&self) -> bool {
        self.mode == Mode::Live || self.catch_up
    }

    /// Names the first setting that cannot work.
    ///
    /// # Errors
    /// One sentence with the flag's name.
    pub fn validate(&self) -> Result<(), String> {
        let positive = [
            ("-batch", self.batch),
            ("-transactions", self.transactions),
            ("-workers", self.workers),
            ("-memory", self.memory_bytes),
            ("the records of a read", self.bulk_read.records),
            ("the bytes of a read", self.bulk_read.bytes),
            ("the bytes of a tail read", self.tail_read_bytes),
            ("the bytes of a copy frame", self.copy_frame_bytes),
        ];
        if let Some((flag, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{flag} must be at least 1"));
        }
        if self.batch_age > LONGEST_BATCH_AGE {
            return Err(format!(
                "-batch-age must be at most 10 s, but is {:?}: a promotion waits for a batch",
                self.batch_age
            ));
        }
        if self.rate_limit == Some(0) {
            return Err("-rate-limit must be at least 1 event per second".to_owned());
        }
        if self.partitions == PartitionSelection::ByGroup && !self.tails() {
            return Err(
                "-group belongs to projectors that stay: -mode=live, or -mode=replay with -catch-up"
                    .to_owned(),
            );
        }
        if self.partitions == PartitionSelection::ByGroup && self.from_offset.is_some() {
            return Err(
                "-from-offset does not go with -group: a partition that comes goes on at its mark"
                    .to_owned(),
            );
        }
        if let Some(from) = self.from_offset.filter(|from| from.0 < 0) {
            return Err(format!("-from-offset must not be negative, but is {from}"));
        }
        Ok(())
    }

    /// Bytes that all folds of bulk loads may hold together: three quarters of
    /// the memory. The rest is for row caches, chunks and the clients' buffers.
    pub(crate) fn bulk_bytes(&self) -> usize {
        self.memory_bytes / 4 * 3
    }

    /// Bytes that one partition's row cache may keep between batches, of
    /// `partitions`: together an eighth of the memory.
    pub(crate) fn cache_bytes(&self, partitions: usize) -> usize {
        self.memory_bytes / 8 / partitions.max(1)
    }

    /// Bounds of one read of history: a rate limit admits no more at once than a tenth of a
    /// second's worth, which is what its bucket holds.
    pub(crate) fn history_read(&self) -> ReadLimit {
        let ReadLimit { records, bytes } = self.bulk_read;
        let burst = self.rate_limit.map(|rate| (rate / 10).max(1));
        let burst = burst.and_then(|burst| usize::try_from(burst).ok());
        ReadLimit {
            records: burst.map_or(records, |burst| records.min(burst)),
            bytes,
        }
    }

    /// Bounds of one read at the moving end of one of `partitions`. Each may
    /// have four chunks on the way, which together keep to an eighth of the memory.
    pub(crate) fn tail_read(&self, partitions: usize) -> ReadLimit {
        let share = self.memory_bytes / 32 / partitions.max(1);
        ReadLimit {
            records: self.batch,
            bytes: self.tail_read_bytes.min(share.max(SMALLEST_READ)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_settings_are_valid() {
        assert_eq!(ProjectorOptions::default().validate(), Ok(()));
    }

    #[test]
    fn a_rate_limit_admits_a_tenth_of_a_second_at_once_and_no_limit_admits_a_chunk() {
        let records = |rate_limit| {
            let options = ProjectorOptions {
                rate_limit,
                ..ProjectorOptions::default()
            };
            options.history_read().records
        };
        let admitted = [None, Some(5), Some(1_000), Some(u64::MAX)].map(records);
        assert_eq!(admitted, [2_048, 1, 100, 2_048]);
    }

    #[test]
    fn a_setting_that_cannot_work_is_named() {
        type Spoil = fn(&mut ProjectorOptions);
        let wrong: [(&str, Spoil); 8] = [
            ("-batch", |o| o.batch = 0),
            ("-transactions", |o| o.transactions = 0),
            ("-batch-age", |o| o.batch_age = Duration::from_secs(11)),
            ("-memory", |o| o.memory_bytes = 0),
            ("-rate-limit", |o| o.rate_limit = Some(0)),
            ("-from-offset", |o| o.from_offset = Some(Offset(-1))),
            ("-catch-up", |o| {
                o.partitions = PartitionSelection::ByGroup;
                o.mode = Mode::Replay;
            }),
            ("-group", |o| {
                o.partitions = PartitionSelection::ByGroup;
                o.from_offset = Some(Offset(0));
            }),
        ];
        for (flag, spoil) in wrong {
            let mut options = ProjectorOptions::default();
            spoil(&mut options);
            let refusal = options.validate().expect_err("an invalid setting");
            assert!(refusal.contains(flag), "{refusal}");
        }
    }

    #[test]
    fn a_partition_that_the_topic_does_not_have_is_refused() {
        let only = |numbers: &[i32]| {
            PartitionSelection::Only(numbers.iter().map(|n| Partition(*n)).collect())
        };
        assert_eq!(only(&[1]).of(2), Ok(vec![Partition(1)]));
        assert!(only(&[2]).of(2).is_err_and(|e| e.contains("p2")));
        assert!(only(&[]).of(2).is_err());
        assert_eq!(PartitionSelection::All.of(3).map(|p| p.len()), Ok(3));
    }

    #[test]
    fn a_repeated_refusal_waits_longer_up_to_the_cap() {
        let delays = RetryDelays {
            first: Duration::from_millis(10),
            longest: Duration::from_millis(35),
        };
        let waits: Vec<_> = (1..=4).map(|n| delays.after(n, 1.0)).collect();
        assert_eq!(waits, [10, 20, 35, 35].map(Duration::from_millis));
        assert_eq!(delays.after(1, 0.0), Duration::from_millis(5));
    }
}
