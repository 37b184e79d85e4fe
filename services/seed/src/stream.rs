//! The events of one partition, in order and without end.
//!
//! A stream first interleaves creations with Zipf-drawn events until the
//! seeded part is complete, then goes on with drawn events for ever (the tail).
//! The n-th event of the stream is the record at offset n.

use refold_proto::accounts::Status;

use crate::account::{Account, Change};
use crate::layout::{Layout, source};
use crate::random::{Source, below};
use crate::zipf::AliasTable;

/// 2023-01-01T00:00:00Z: when the first event of every partition happened.
const FIRST_MICROS: i64 = 1_672_531_200_000_000;
/// The seeded part of every partition covers up to two years.
const SPAN_MICROS: i64 = 730 * 86_400 * 1_000_000;
/// Pace of a partition after that.
const TAIL_STEP_MICROS: i64 = 800;

/// One event, decided but not yet encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrawnEvent {
    /// Offset of its record.
    pub offset: u64,
    /// Position of the aggregate among those of its partition.
    pub slot: u32,
    /// The aggregate.
    pub id: u32,
    /// Its version after this event: 1, 2, 3, ...
    pub version: u32,
    /// When it happened, microseconds since 1970. Ascending in a partition.
    pub ts_micros: i64,
    /// What happened.
    pub change: Change,
    /// Balance after it, in cents.
    pub balance_cents: i64,
    /// Status after it.
    pub status: Status,
}

/// The deterministic stream of one partition. About 44 bytes an aggregate.
#[derive(Debug)]
pub struct PartitionStream<'a> {
    ids: &'a [u32],
    table: AliasTable,
    accounts: Vec<Account>,
    draws: Source,
    choices: Source,
    next_offset: u64,
    /// No slot below this one is still to be created.
    next_creation: usize,
    creations_left: u64,
    drawn_left: u64,
    /// An aggregate that was drawn before it existed: it was created first and
    /// the drawn event is due now.
    due: Option<u32>,
    clock: Clock,
}

impl<'a> PartitionStream<'a> {
    /// The stream of `partition` from its first event; `None` for a partition
    /// that has no aggregates.
    pub fn new(layout: &'a Layout, partition: u32) -> Option<Self> {
        let ids = layout.ids(partition);
        if ids.is_empty() {
            return None;
        }
        let source = source(layout.params())
            .derive(STREAMS)
            .derive(u64::from(partition));
        Some(Self {
            ids,
            table: AliasTable::new(layout.weights_of_ids(partition)),
            accounts: vec![Account::default(); ids.len()],
            draws: source.derive(0),
            choices: source.derive(1),
            next_offset: 0,
            next_creation: 0,
            creations_left: ids.len() as u64,
            drawn_left: layout.drawn(partition),
            due: None,
            clock: Clock::new(layout.events(partition)),
        })
    }

    /// Offset of the event that [`next_event`](Self::next_event) gives next.
    pub fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// Passes over all events below `offset`.
    pub fn advance_to(&mut self, offset: u64) {
        while self.next_offset < offset {
            self.next_event();
        }
    }

    /// The next event. There always is one.
    #[inline]
    pub fn next_event(&mut self) -> DrawnEvent {
        let slot = self.next_slot();
        let offset = self.next_offset;
        self.next_offset += 1;
        let account = &mut self.accounts[slot as usize];
        let change = account.step(self.choices.at(offset));
        DrawnEvent {
            offset,
            slot,
            id: self.ids[slot as usize],
            version: account.version(),
            ts_micros: self.clock.at(offset),
            change,
            balance_cents: account.balance_cents(),
            status: account.status(),
        }
    }

    #[inline]
    fn next_slot(&mut self) -> u32 {
        if let Some(slot) = self.due.take() {
            self.drawn_left = self.drawn_left.saturating_sub(1);
            return slot;
        }
        let random = self.draws.at(self.next_offset);
        if self.creations_left == 0 {
            self.drawn_left = self.drawn_left.saturating_sub(1);
            return self.table.draw(random);
        }
        // Which kind comes next and which aggregate it is about must not hang
        // together, so the second question gets a number of its own.
        let left = self.creations_left + self.drawn_left;
        if below(random, left) < self.creations_left {
            self.creations_left -= 1;
            return self.next_uncreated();
        }
        let slot = self.table.draw(self.draws.at(!self.next_offset));
        if self.accounts[slot as usize].exists() {
            self.drawn_left -= 1;
        } else {
            self.creations_left -= 1;
            self.due = Some(slot);
        }
        slot
    }

    fn next_uncreated(&mut self) -> u32 {
        while self.accounts[self.next_creation].exists() {
            self.next_creation += 1;
        }
        self.next_creation as u32
    }
}

const STREAMS: u64 = 2;

/// Event times: evenly over two years, then at the tail's pace.
#[derive(Debug, Clone, Copy)]
struct Clock {
    seeded: u64,
    step_micros: i64,
}

impl Clock {
    /// Cuts the pace to whole milliseconds and to its three leading bits.
    /// Evenly spaced times tell nothing either way, and round ones keep the
    /// timestamps from dominating the compressed size of the log.
    fn new(seeded: u64) -> Self {
        let exact_ms = (SPAN_MICROS / 1000) as u64 / seeded.max(1);
        let dropped_bits = (u64::BITS - exact_ms.leading_zeros()).saturating_sub(3);
        let step_ms = (exact_ms >> dropped_bits << dropped_bits).max(1);
        Self {
            seeded,
            step_micros: step_ms as i64 * 1000,
        }
    }

    #[inline]
    fn at(self, offset: u64) -> i64 {
        let seeded = offset.min(self.seeded) as i64;
        let tail = offset.saturating_sub(self.seeded) as i64;
        FIRST_MICROS + seeded * self.step_micros + tail * TAIL_STEP_MICROS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::SeedParams;

    fn small() -> Layout {
        Layout::new(&SeedParams {
            events: 20_000,
            aggregates: 2_000,
            partitions: 5,
            ..SeedParams::default()
        })
        .expect("a log")
    }

    #[test]
    fn every_aggregate_is_created_once_and_versions_have_no_holes() {
        let layout = small();
        for partition in 0..5 {
            let mut stream = PartitionStream::new(&layout, partition).expect("has aggregates");
            let mut versions = vec![0; layout.ids(partition).len()];
            let mut last_ts = 0;
            // Beyond the seeded part too.
            for offset in 0..layout.events(partition) + 5_000 {
                let event = stream.next_event();
                let version = &mut versions[event.slot as usize];
                *version += 1;
                assert_eq!(event.version, *version);
                assert_eq!(event.offset, offset);
                assert_eq!(event.id, layout.ids(partition)[event.slot as usize]);
                assert_eq!(
                    matches!(event.change, Change::Opened { .. }),
                    event.version == 1
                );
                assert!(event.ts_micros > last_ts);
                last_ts = event.ts_micros;
                if offset + 1 == layout.events(partition) {
                    assert!(versions.iter().all(|&version| version > 0));
                }
            }
        }
    }

    #[test]
    fn a_stream_that_was_advanced_goes_on_as_one_that_was_read() {
        let layout = small();
        for cut in [0, 1, 777, layout.events(2), layout.events(2) + 100] {
            let mut read = PartitionStream::new(&layout, 2).expect("has aggregates");
            let mut advanced = PartitionStream::new(&layout, 2).expect("has aggregates");
            for _ in 0..cut {
                read.next_event();
            }
            advanced.advance_to(cut);
            for _ in 0..500 {
                assert_eq!(read.next_event(), advanced.next_event());
            }
        }
    }

    #[test]
    fn two_seeds_give_two_logs() {
        let of_seed = |seed| {
            let params = SeedParams {
                seed,
                events: 2_000,
                aggregates: 200,
                partitions: 1,
                ..SeedParams::default()
            };
            let layout = Layout::new(&params).expect("a log");
            let mut stream = PartitionStream::new(&layout, 0).expect("has aggregates");
            (0..2_000).map(|_| stream.next_event()).collect::<Vec<_>>()
        };
        assert_eq!(of_seed(1), of_seed(1));
        assert_ne!(of_seed(1), of_seed(2));
    }
}
