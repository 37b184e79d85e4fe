//! The known final state: what a right fold must come to.
//!
//! The oracle never sees an encoded event, a broker or a projection. It draws
//! the decided events again and applies the two sets of rules written out
//! here, and it shares no code with the projections that it judges.
//!
//! `v3` carries a bug on purpose: it takes every reversal for one of a deposit.
//! `v4` adds the amount of a reversed withdrawal back, and keeps columns that
//! v3 never had.

use refold_proto::accounts::{Booking, Status};

use crate::account::Change;
use crate::layout::Layout;
use crate::params::{InvalidParams, SeedParams};
use crate::stream::{DrawnEvent, PartitionStream};

/// The row that `accounts_v3` must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedV3 {
    /// Balance in cents, with v3's bug in it.
    pub balance: i64,
    /// Status.
    pub status: Status,
    /// Version of the last event.
    pub version: u64,
}

/// The row that `accounts_v4` must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedV4 {
    /// Currency of the account.
    pub currency: &'static str,
    /// Balance in cents.
    pub balance: i64,
    /// Status.
    pub status: Status,
    /// Version of the last event.
    pub version: u64,
    /// Largest single deposit in cents, 0 if there was none. A reversal does
    /// not lower it.
    pub largest_deposit: i64,
    /// Number of deposits, reversed ones included.
    pub deposits_count: i64,
    /// When the account was opened, microseconds since 1970.
    pub opened_at: i64,
    /// When it was closed; `None` if it never was or was opened again.
    pub closed_at: Option<i64>,
    /// Sum of all reversals in cents, of either kind.
    pub reversed_total: i64,
}

/// What is expected of one aggregate at some point of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// The aggregate.
    pub id: i64,
    /// Its partition.
    pub partition: u32,
    /// Its row by v3's rules.
    pub v3: ExpectedV3,
    /// Its row by v4's rules.
    pub v4: ExpectedV4,
    /// Version of its last event.
    pub last_version: u64,
    /// Offset of its last event.
    pub last_offset: u64,
}

impl Expected {
    /// Whether the two versions disagree about this aggregate, in the columns
    /// that both of them have.
    pub fn differs(&self) -> bool {
        (self.v3.balance, self.v3.status) != (self.v4.balance, self.v4.status)
    }
}

/// Answers what any aggregate looks like at any point of one log.
#[derive(Debug)]
pub struct Oracle {
    layout: Layout,
}

impl Oracle {
    /// An oracle for the log of `params`: see [`Layout::new`] for its cost.
    ///
    /// # Errors
    /// [`InvalidParams`] when the parameters describe no log.
    pub fn new(params: &SeedParams) -> Result<Self, InvalidParams> {
        Ok(Self {
            layout: Layout::new(params)?,
        })
    }

    /// Which aggregates and how many events each partition holds.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Calls `visit` for every aggregate that has an event in `[0,
    /// next_offset)` of `partition`, ids ascending.
    pub fn for_each_in_partition(
        &self,
        partition: u32,
        next_offset: u64,
        mut visit: impl FnMut(Expected),
    ) {
        let Some(mut state) = self.partition(partition) else {
            return;
        };
        state.advance_to(next_offset);
        (0..state.slots())
            .filter_map(|slot| state.expected(slot))
            .for_each(&mut visit);
    }

    /// The expected rows of `partition` before its first event, to be brought
    /// forward offset by offset; `None` for a partition without aggregates.
    pub fn partition(&self, partition: u32) -> Option<PartitionState<'_>> {
        let stream = PartitionStream::new(&self.layout, partition)?;
        let ids = self.layout.ids(partition);
        Some(PartitionState {
            partition,
            stream,
            ids,
            rows: vec![Row::default(); ids.len()],
        })
    }

    /// Every aggregate's expected rows at a vector of next offsets (exclusive
    /// ends, one for each partition), ids ascending within a partition and
    /// partitions in order. Uses all cores; about 150 bytes an aggregate.
    ///
    /// # Panics
    /// When the vector does not have one entry for each partition.
    pub fn state_at(&self, next_offsets: &[u64]) -> Vec<Expected> {
        self.by_partition(next_offsets, |partition, next_offset| {
            let mut rows = Vec::new();
            self.for_each_in_partition(partition, next_offset, |row| rows.push(row));
            rows
        })
        .concat()
    }

    /// How many aggregates there are at a vector of next offsets, and how many
    /// of them differ between v3 and v4. Uses all cores.
    ///
    /// # Panics
    /// When the vector does not have one entry for each partition.
    pub fn differing_at(&self, next_offsets: &[u64]) -> Differing {
        let counts = self.by_partition(next_offsets, |partition, next_offset| {
            let mut counts = Differing::default();
            self.for_each_in_partition(partition, next_offset, |row| {
                counts.aggregates += 1;
                counts.differing += u64::from(row.differs());
            });
            counts
        });
        counts
            .into_iter()
            .fold(Differing::default(), |sum, part| Differing {
                aggregates: sum.aggregates + part.aggregates,
                differing: sum.differing + part.differing,
            })
    }

    /// What is expected of `id` right after its event of `version`, as long as
    /// that event lies below `next_offset` of its partition. `None` when there
    /// is no such aggregate or no such event. Draws the partition up to it.
    pub fn expected(&self, id: i64, version: u64, next_offset: u64) -> Option<Expected> {
        self.history(id, next_offset)
            .find(|row| row.last_version == version)
    }

    /// What is expected of `id` after its last event below `next_offset`.
    pub fn expected_at(&self, id: i64, next_offset: u64) -> Option<Expected> {
        self.history(id, next_offset).last()
    }

    /// One item for each event of `id` below `next_offset` of its partition,
    /// in order; empty when there is no such aggregate.
    pub fn history(&self, id: i64, next_offset: u64) -> impl Iterator<Item = Expected> {
        let partition = self.layout.partition_of(id);
        let mut stream = partition.and_then(|p| PartitionStream::new(&self.layout, p));
        let mut row = Row::default();
        std::iter::from_fn(move || {
            let (partition, stream) = (partition?, stream.as_mut()?);
            while stream.next_offset() < next_offset {
                let event = stream.next_event();
                if i64::from(event.id) == id {
                    row.fold(&event);
                    return Some(row.expected(event.id, partition));
                }
            }
            None
        })
    }

    /// Runs `work` for every partition on all cores, largest first; results
    /// are in the order of partitions.
    fn by_partition<T: Send>(
        &self,
        next_offsets: &[u64],
        work: impl Fn(u32, u64) -> T + Sync,
    ) -> Vec<T> {
        assert_eq!(
            next_offsets.len(),
            self.layout.params().partitions as usize,
            "one next offset for each partition"
        );
        crate::parallel::over_partitions(&self.layout.largest_first(), |partition| {
            work(partition, next_offsets[partition as usize])
        })
    }
}

/// What is expected of every aggregate of one partition at one offset. About
/// 130 bytes an aggregate, whatever the number of events.
///
/// An aggregate is addressed by its slot: its position among the ids of the
/// partition in ascending order.
#[derive(Debug)]
pub struct PartitionState<'a> {
    partition: u32,
    stream: PartitionStream<'a>,
    ids: &'a [u32],
    rows: Vec<Row>,
}

impl PartitionState<'_> {
    /// Every event below this offset is in the rows.
    pub fn next_offset(&self) -> u64 {
        self.stream.next_offset()
    }

    /// Brings the rows forward until every event below `next_offset` is in
    /// them. Nothing happens when they are there already or further on.
    pub fn advance_to(&mut self, next_offset: u64) {
        while self.stream.next_offset() < next_offset {
            let event = self.stream.next_event();
            self.rows[event.slot as usize].fold(&event);
        }
    }

    /// How many slots there are: one for each aggregate, whether it has an
    /// event by now or not.
    pub fn slots(&self) -> usize {
        self.ids.len()
    }

    /// The slot of an aggregate, `None` when it is not of this partition.
    /// `guess` is looked at first: whoever asks for ids in ascending order
    /// passes the slot after the last answer and pays for no search.
    #[inline]
    pub fn slot_of(&self, id: i64, guess: usize) -> Option<usize> {
        let id = u32::try_from(id).ok()?;
        if self.ids.get(guess) == Some(&id) {
            return Some(guess);
        }
        self.ids.binary_search(&id).ok()
    }

    /// The expected rows of the aggregate at `slot`; `None` when it has no
    /// event by now or there is no such slot.
    #[inline]
    pub fn expected(&self, slot: usize) -> Option<Expected> {
        let row = self.rows.get(slot)?;
        (row.version > 0).then(|| row.expected(self.ids[slot], self.partition))
    }
}

/// Answer of [`Oracle::differing_at`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Differing {
    /// Aggregates that exist.
    pub aggregates: u64,
    /// Those of them whose rows differ between v3 and v4.
    pub differing: u64,
}

impl Differing {
    /// Share of the differing ones, 0 to 1.
    pub fn share(self) -> f64 {
        self.differing as f64 / self.aggregates.max(1) as f64
    }
}

/// Both versions' rows of one aggregate while its events go by.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    v3_balance: i64,
    v4_balance: i64,
    largest_deposit: i64,
    deposits_count: i64,
    opened_at: i64,
    closed_at: Option<i64>,
    reversed_total: i64,
    last_offset: u64,
    version: u32,
    status: Option<Status>,
}

impl Row {
    fn fold(&mut self, event: &DrawnEvent) {
        self.version = event.version;
        self.last_offset = event.offset;
        match event.change {
            Change::Opened { .. } => {
                self.opened_at = event.ts_micros;
                self.status = Some(Status::Open);
            }
            Change::Deposited { cents } => {
                let cents = i64::from(cents);
                self.v3_balance += cents;
                self.v4_balance += cents;
                self.largest_deposit = self.largest_deposit.max(cents);
                self.deposits_count += 1;
            }
            Change::Withdrawn { cents } => {
                self.v3_balance -= i64::from(cents);
                self.v4_balance -= i64::from(cents);
            }
            Change::Reversed { cents, what, .. } => {
                let cents = i64::from(cents);
                self.reversed_total += cents;
                // The bug: v3 does not look at what was reversed.
                self.v3_balance -= cents;
                match what {
                    Booking::Deposit => self.v4_balance -= cents,
                    Booking::Withdrawal => self.v4_balance += cents,
                }
            }
            Change::Frozen => self.status = Some(Status::Frozen),
            Change::Unfrozen => self.status = Some(Status::Open),
            Change::Closed { payout_cents } => {
                self.v3_balance -= payout_cents;
                self.v4_balance -= payout_cents;
                self.status = Some(Status::Closed);
                self.closed_at = Some(event.ts_micros);
            }
            Change::Reopened => {
                self.status = Some(Status::Open);
                self.closed_at = None;
            }
        }
    }

    fn expected(&self, id: u32, partition: u32) -> Expected {
        let version = u64::from(self.version);
        // The first event of every aggregate sets the status.
        let status = self.status.unwrap_or(Status::Open);
        Expected {
            id: i64::from(id),
            partition,
            v3: ExpectedV3 {
                balance: self.v3_balance,
                status,
                version,
            },
            v4: ExpectedV4 {
                currency: crate::text::currency_of(id),
                balance: self.v4_balance,
                status,
                version,
                largest_deposit: self.largest_deposit,
                deposits_count: self.deposits_count,
                opened_at: self.opened_at,
                closed_at: self.closed_at,
                reversed_total: self.reversed_total,
            },
            last_version: version,
            last_offset: self.last_offset,
        }
    }
}
