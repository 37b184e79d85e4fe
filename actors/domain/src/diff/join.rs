//! The join of two versions' rows by key, in whatever order they come.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::Choice;
use super::DiffCounts;
use super::Kind;
use super::PairPlan;
use super::RowRef;
use super::Sample;
use super::plan::Scratch;
use super::samples::Samples;
use crate::position::Offset;

/// One pair of rows in so many is shown to the rule crosswise.
const RULE_TRIED_EVERY: u64 = 64;

/// Bytes behind a kept row's cells: its position in its aggregate and in the log.
const POSITION: usize = 16;

/// Where a row of the old version is kept.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: usize,
    key: u32,
    cells: u32,
}

/// Compares two versions' rows of one partition, or of one class of its keys. First every
/// row of the old version goes in by [`PairJoin::keep_old`], then every row of the new one
/// by [`PairJoin::meet_new`]; what is left at the end has no partner.
///
/// A row takes its bytes and about 44 more while it waits for its partner.
#[derive(Debug)]
pub struct PairJoin<'p> {
    plan: &'p PairPlan,
    /// Kept rows behind one another: key, cells, position.
    bytes: Vec<u8>,
    places: HashTable<Place>,
    scratch: Scratch,
    /// The place of an old row that met its partner, to show it to the rule with another's.
    before: Option<Place>,
    counts: DiffCounts,
    samples: Samples<'p>,
    chosen: Choice,
}

/// What a join found.
#[derive(Debug)]
pub struct Joined {
    /// How many keys of each kind.
    pub counts: DiffCounts,
    /// Some of them.
    pub samples: Vec<Sample>,
    /// Those of the pairs that differ as expected which the log is asked about.
    pub chosen: Choice,
}

impl<'p> PairJoin<'p> {
    /// A join without rows, which names at most `samples` keys of each kind, and adds pairs that
    /// differ as expected to a choice.
    pub fn new(plan: &'p PairPlan, samples: usize, chosen: Choice) -> Self {
        Self {
            plan,
            bytes: Vec::new(),
            places: HashTable::new(),
            scratch: Scratch::default(),
            before: None,
            counts: DiffCounts::default(),
            samples: Samples::new(plan, samples),
            chosen,
        }
    }

    /// Bytes that are held.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.places.allocation_size()
    }

    /// Keeps a row of the old version. A second row of a key is left without a partner.
    pub fn keep_old(&mut self, row: &RowRef<'_>) {
        self.counts.rows_old += 1;
        let place = Place {
            start: self.bytes.len(),
            key: row.key.len() as u32,
            cells: row.cells.len() as u32,
        };
        self.bytes.extend_from_slice(row.key);
        self.bytes.extend_from_slice(row.cells);
        self.bytes.extend_from_slice(&row.applied_seq.to_be_bytes());
        self.bytes.extend_from_slice(&row.off.0.to_be_bytes());
        let bytes = &self.bytes;
        let hasher = |place: &Place| xxh3_64(key_of(bytes, place));
        self.places.insert_unique(xxh3_64(row.key), place, hasher);
    }

    /// Compares a row of the new version with its partner.
    pub fn meet_new(&mut self, row: &RowRef<'_>) {
        self.counts.rows_new += 1;
        let bytes = &self.bytes;
        let same_key = |place: &Place| key_of(bytes, place) == row.key;
        let Ok(found) = self.places.find_entry(xxh3_64(row.key), same_key) else {
            self.counts.only_new += 1;
            return self
                .samples
                .add(Kind::OnlyNew, String::new(), None, Some(row));
        };
        let (place, _) = found.remove();
        self.try_rule(row);
        let old = row_of(&self.bytes, &place);
        let verdict = self.plan.judge(&old, row, &mut self.scratch);
        self.before = Some(place);
        let Some(kind) = verdict.kind else {
            self.counts.equal += 1;
            return;
        };
        match kind {
            Kind::Expected => {
                self.counts.expected += 1;
                self.chosen.offer(&old, row);
            }
            Kind::MissingExpected => self.counts.missing_expected += 1,
            Kind::Unexpected | Kind::OnlyOld | Kind::OnlyNew => self.counts.unexpected += 1,
        }
        self.samples
            .add(kind, verdict.detail, Some(&old), Some(row));
    }

    /// Shows the rule a row with that of another aggregate, now and then.
    fn try_rule(&mut self, new: &RowRef<'_>) {
        if !self.counts.rows_new.is_multiple_of(RULE_TRIED_EVERY) {
            return;
        }
        let Some(place) = &self.before else { return };
        let old = row_of(&self.bytes, place);
        if let Some(passed) = self.plan.lets_pass(&old, new, &mut self.scratch) {
            self.counts.rule_tried += 1;
            self.counts.rule_accepted += u64::from(passed);
        }
    }

    /// Counts the old rows that met no partner, and ends.
    pub fn finish(mut self) -> Joined {
        self.counts.only_old += self.places.len() as u64;
        for place in self.places.iter().take(self.samples.wanted()) {
            let old = row_of(&self.bytes, place);
            self.samples
                .add(Kind::OnlyOld, String::new(), Some(&old), None);
        }
        Joined {
            counts: self.counts,
            samples: self.samples.into_found(),
            chosen: self.chosen,
        }
    }
}

fn key_of<'b>(bytes: &'b [u8], place: &Place) -> &'b [u8] {
    &bytes[place.start..place.start + place.key as usize]
}

fn row_of<'b>(bytes: &'b [u8], place: &Place) -> RowRef<'b> {
    let cells = place.start + place.key as usize;
    let position = cells + place.cells as usize;
    let (seq, off) = bytes[position..position + POSITION].split_at(8);
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_be_bytes);
    RowRef {
        key: &bytes[place.start..cells],
        cells: &bytes[cells..position],
        applied_seq: number(seq),
        off: Offset(number(off).cast_signed()),
    }
}
