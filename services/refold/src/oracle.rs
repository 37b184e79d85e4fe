//! Comparing a table with the oracle's known final state, row by row and cell by cell.
//!
//! The rows come by as the table yields them and none of them is kept: what a partition
//! needs is the oracle's own state of it and one bit an aggregate.

mod trial;

use refold_domain::diff::RowRef;
use refold_domain::spec::ProjectionSpec;
use refold_projection::CellValue;
use refold_projection::Timestamp;
use refold_projection::cell::CellReader;
use refold_projection::cell::write_bytes;
use refold_seed::oracle::Expected;
use refold_seed::oracle::PartitionState;

pub(crate) use trial::Trial;

/// Which of the oracle's rules a version must follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rules {
    V3,
    V4,
}

impl Rules {
    /// The rules for a version of the accounts projection; `None` for any other.
    pub(crate) fn of(spec: &ProjectionSpec) -> Option<Self> {
        match (spec.name, spec.number) {
            ("accounts", 3 | 103) => Some(Self::V3),
            ("accounts", 4) => Some(Self::V4),
            _ => None,
        }
    }
}

/// The outcome of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Aggregates that the oracle expects.
    pub(crate) expected: u64,
    /// Rows that were compared, tombstones not counted.
    pub(crate) compared: u64,
    /// Missing, extra and different rows.
    pub(crate) differences: u64,
    /// The first few, a sentence each.
    pub(crate) samples: Vec<String>,
}

impl Outcome {
    const SAMPLES: usize = 10;

    pub(crate) fn differ(&mut self, sentence: impl FnOnce() -> String) {
        self.differences += 1;
        if self.samples.len() < Self::SAMPLES {
            self.samples.push(sentence());
        }
    }

    /// Adds another partition's outcome.
    pub(crate) fn add(&mut self, other: Self) {
        self.expected += other.expected;
        self.compared += other.compared;
        self.differences += other.differences;
        let room = Self::SAMPLES.saturating_sub(self.samples.len());
        self.samples.extend(other.samples.into_iter().take(room));
    }
}

/// A version's columns, each with what the oracle says about it.
#[derive(Debug, Clone)]
pub(crate) struct Columns(Vec<(&'static str, WriteCell)>);

/// Appends the cell that is expected of a column.
type WriteCell = fn(&Expected, &mut Vec<u8>);

impl Columns {
    /// The columns of `spec` under `rules`.
    ///
    /// # Errors
    /// The name of a column that the oracle knows nothing about.
    pub(crate) fn of(spec: &ProjectionSpec, rules: Rules) -> Result<Self, &'static str> {
        let column = |name| Some((name, expected_cell(rules, name)?));
        let columns = spec.columns.iter();
        let columns = columns.map(|c| column(c.name).ok_or(c.name));
        Ok(Self(columns.collect::<Result<_, _>>()?))
    }

    /// The cells that the row of `want` must have.
    fn write(&self, want: &Expected, cells: &mut Vec<u8>) {
        for (_, write) in &self.0 {
            write(want, cells);
        }
    }

    /// What is wrong with cells that are not the expected ones.
    fn explain(&self, want: &Expected, cells: &[u8]) -> String {
        let mut reader = CellReader::new(cells);
        let mut expected = Vec::new();
        for (name, write) in &self.0 {
            expected.clear();
            write(want, &mut expected);
            match reader.next_raw() {
                Ok(found) if found == expected => {}
                Ok(found) => return format!("{name} is {found:02x?}, expected {expected:02x?}"),
                Err(error) => return error.to_string(),
            }
        }
        format!("{} bytes behind the last column", reader.rest().len())
    }
}

/// Compares one partition, row after row.
pub(crate) struct Comparer<'a> {
    columns: &'a Columns,
    /// `None` for a partition in which no aggregate belongs.
    state: Option<&'a PartitionState<'a>>,
    /// One bit for each slot: whether a row of that aggregate went by.
    seen: Vec<u64>,
    /// A freshly built table holds its rows in ascending order of keys.
    next_slot: usize,
    /// Expected cells of the row at hand.
    cells: Vec<u8>,
    outcome: Outcome,
}

impl<'a> Comparer<'a> {
    /// Compares with the oracle's state at the offset of the table's mark.
    pub(crate) fn new(columns: &'a Columns, state: Option<&'a PartitionState<'a>>) -> Self {
        let slots = state.map_or(0, PartitionState::slots);
        Self {
            columns,
            state,
            seen: vec![0; slots.div_ceil(64)],
            next_slot: 0,
            cells: Vec::with_capacity(256),
            outcome: Outcome::default(),
        }
    }

    /// Takes one row, in any order.
    pub(crate) fn row(&mut self, row: &RowRef<'_>) {
        // A bigint's cell: four bytes of length, eight of value.
        let key = row.key.get(4..).and_then(|bytes| bytes.try_into().ok());
        let Some(id) = key.map(i64::from_be_bytes) else {
            let sentence = || format!("key {:02x?}: not a bigint", row.key);
            return self.outcome.differ(sentence);
        };
        let find = |state: &PartitionState<'_>| {
            let slot = state.slot_of(id, self.next_slot)?;
            Some((slot, state.expected(slot)?))
        };
        let Some((slot, want)) = self.state.and_then(find) else {
            let sentence = || format!("aggregate {id}: a row where none belongs");
            return self.outcome.differ(sentence);
        };
        self.next_slot = slot + 1;
        let (word, bit) = (slot / 64, 1 << (slot % 64));
        if self.seen[word] & bit != 0 {
            let sentence = || format!("aggregate {id}: a second row");
            return self.outcome.differ(sentence);
        }
        self.seen[word] |= bit;
        self.outcome.compared += 1;
        self.compare(&want, row);
    }

    fn compare(&mut self, want: &Expected, row: &RowRef<'_>) {
        let id = want.id;
        self.cells.clear();
        self.columns.write(want, &mut self.cells);
        if row.cells != self.cells {
            let sentence = || format!("aggregate {id}: {}", self.columns.explain(want, row.cells));
            return self.outcome.differ(sentence);
        }
        if row.applied_seq != want.last_version {
            let (found, expected) = (row.applied_seq, want.last_version);
            let sentence =
                || format!("aggregate {id}: applied_seq is {found}, expected {expected}");
            return self.outcome.differ(sentence);
        }
        if u64::try_from(row.off.0) != Ok(want.last_offset) {
            let (found, expected) = (row.off.0, want.last_offset);
            let sentence =
                || format!("aggregate {id}: applied_offset is {found}, expected {expected}");
            self.outcome.differ(sentence);
        }
    }

    /// Looks for the aggregates of which no row went by.
    pub(crate) fn finish(mut self) -> Outcome {
        let Some(state) = self.state else {
            return self.outcome;
        };
        let expected = (0..state.slots()).filter_map(|slot| Some((slot, state.expected(slot)?)));
        for (slot, want) in expected {
            self.outcome.expected += 1;
            if self.seen[slot / 64] & (1 << (slot % 64)) == 0 {
                let sentence = || format!("aggregate {}: no row", want.id);
                self.outcome.differ(sentence);
            }
        }
        self.outcome
    }
}

fn expected_cell(rules: Rules, column: &str) -> Option<WriteCell> {
    Some(match (column, rules) {
        ("balance", Rules::V3) => |row, out| row.v3.balance.write(out),
        ("balance", Rules::V4) => |row, out| row.v4.balance.write(out),
        ("status", Rules::V3) => |row, out| text(row.v3.status.name(), out),
        ("status", Rules::V4) => |row, out| text(row.v4.status.name(), out),
        ("largest_deposit", Rules::V4) => |row, out| row.v4.largest_deposit.write(out),
        ("deposits_count", Rules::V4) => |row, out| row.v4.deposits_count.write(out),
        ("reversed_total", Rules::V4) => |row, out| row.v4.reversed_total.write(out),
        ("opened_at", Rules::V4) => |row, out| Timestamp(row.v4.opened_at).write(out),
        ("closed_at", Rules::V4) => |row, out| row.v4.closed_at.map(Timestamp).write(out),
        ("currency", Rules::V4) => |row, out| text(row.v4.currency, out),
        _ => return None,
    })
}

fn text(value: &str, out: &mut Vec<u8>) {
    write_bytes(out, value.as_bytes());
}

#[cfg(test)]
mod tests {
    use refold_domain::position::Offset;
    use refold_seed::SeedParams;
    use refold_seed::oracle::Oracle;

    use super::*;

    /// A row as the table would yield it.
    #[derive(Clone)]
    struct Stored {
        key: Vec<u8>,
        cells: Vec<u8>,
        applied_seq: u64,
        off: i64,
    }

    impl Stored {
        fn exported(&self) -> RowRef<'_> {
            RowRef {
                key: &self.key,
                cells: &self.cells,
                applied_seq: self.applied_seq,
                off: Offset(self.off),
            }
        }
    }

    fn oracle() -> Oracle {
        let params = SeedParams {
            events: 6_000,
            aggregates: 600,
            partitions: 2,
            ..SeedParams::default()
        };
        Oracle::new(&params).expect("a log")
    }

    fn right_rows(columns: &Columns, state: &PartitionState<'_>) -> Vec<Stored> {
        let expected = (0..state.slots()).filter_map(|slot| state.expected(slot));
        let stored = expected.map(|want| {
            let (mut key, mut cells) = (Vec::new(), Vec::new());
            want.id.write(&mut key);
            columns.write(&want, &mut cells);
            Stored {
                key,
                cells,
                applied_seq: want.last_version,
                off: want.last_offset.cast_signed(),
            }
        });
        stored.collect()
    }

    fn specs() -> [ProjectionSpec; 2] {
        [
            ProjectionSpec::of::<refold_accounts::AccountsV3>(),
            ProjectionSpec::of::<refold_accounts::AccountsV4>(),
        ]
    }

    fn compare(columns: &Columns, state: &PartitionState<'_>, rows: &[Stored]) -> Outcome {
        let mut comparer = Comparer::new(columns, Some(state));
        for row in rows {
            comparer.row(&row.exported());
        }
        comparer.finish()
    }

    /// Calls `check` with the columns, the state and the right rows of both versions.
    fn for_both(check: impl Fn(&Columns, &PartitionState<'_>, Vec<Stored>)) {
        let oracle = oracle();
        for spec in specs() {
            let rules = Rules::of(&spec).expect("known");
            let columns = Columns::of(&spec, rules).expect("known");
            let mut state = oracle.partition(1).expect("has aggregates");
            // Not at the end: some aggregates have no event yet.
            state.advance_to(oracle.layout().events(1) / 2);
            let rows = right_rows(&columns, &state);
            assert!(rows.len() > 100 && rows.len() < state.slots());
            check(&columns, &state, rows);
        }
    }

    #[test]
    fn right_rows_are_right_in_any_order() {
        for_both(|columns, state, mut rows| {
            let ascending = compare(columns, state, &rows);
            assert_eq!(ascending.differences, 0, "{ascending:?}");
            assert_eq!(ascending.compared, rows.len() as u64);
            assert_eq!(ascending.expected, ascending.compared);
            rows.reverse();
            assert_eq!(compare(columns, state, &rows), ascending);
            let middle = rows.len() / 3;
            rows.rotate_left(middle);
            assert_eq!(compare(columns, state, &rows), ascending);
        });
    }

    #[test]
    fn every_flipped_bit_of_a_row_is_a_difference() {
        for_both(|columns, state, rows| {
            let row = &rows[rows.len() / 2];
            for bit in 0..row.cells.len() * 8 {
                let mut wrong = row.clone();
                wrong.cells[bit / 8] ^= 1 << (bit % 8);
                let found = compare(columns, state, &[wrong]);
                // All others are missing.
                assert_eq!(found.differences, rows.len() as u64, "bit {bit}");
            }
            for bit in 0..64 {
                let mut wrong = rows.clone();
                wrong[7].applied_seq ^= 1 << bit;
                wrong[9].off ^= 1 << bit;
                let found = compare(columns, state, &wrong);
                assert_eq!(found.differences, 2, "bit {bit}");
                assert!(found.samples[0].contains("applied_seq is "), "{found:?}");
                assert!(found.samples[1].contains("applied_offset is "), "{found:?}");
            }
        });
    }

    #[test]
    fn a_wrong_cell_is_named_with_what_belongs_there() {
        for_both(|columns, state, mut rows| {
            let last = rows[3].cells.len() - 1;
            rows[3].cells[last] ^= 1;
            rows[4].cells.push(0);
            rows[5].cells.truncate(6);
            let found = compare(columns, state, &rows);
            assert_eq!(found.differences, 3);
            let name = columns.0.last().expect("has columns").0;
            assert!(
                found.samples[0].contains(&format!("{name} is [")),
                "{found:?}"
            );
            assert!(found.samples[1].contains("1 bytes behind"), "{found:?}");
            assert!(found.samples[2].contains("announced"), "{found:?}");
        });
    }

    #[test]
    fn missing_extra_and_double_rows_are_differences() {
        for_both(|columns, state, rows| {
            let mut wrong = rows.clone();
            wrong.remove(10);
            wrong.push(rows[20].clone());
            let mut foreign = rows[0].clone();
            foreign.key.clear();
            601_i64.write(&mut foreign.key);
            wrong.push(foreign.clone());
            foreign.key.truncate(9);
            wrong.push(foreign);
            // An aggregate of this partition that has no event yet.
            let unborn = (0..state.slots()).find(|slot| state.expected(*slot).is_none());
            assert!(unborn.is_some());
            let found = compare(columns, state, &wrong);
            assert_eq!(found.differences, 4, "{found:?}");
            assert_eq!(found.compared, rows.len() as u64 - 1);
            assert_eq!(found.expected, rows.len() as u64);
            for part in [
                "a second row",
                "where none belongs",
                "not a bigint",
                "no row",
            ] {
                let told = found.samples.iter().any(|sample| sample.contains(part));
                assert!(told, "{part}: {found:?}");
            }
        });
    }

    #[test]
    fn no_row_belongs_in_a_partition_without_aggregates() {
        for_both(|columns, _, rows| {
            let mut comparer = Comparer::new(columns, None);
            comparer.row(&rows[0].exported());
            let found = comparer.finish();
            assert_eq!((found.expected, found.differences), (0, 1));
        });
    }

    #[test]
    fn the_rules_of_one_version_are_not_those_of_the_other() {
        let [v3, v4] = specs();
        assert!(Columns::of(&v4, Rules::V3).is_err());
        let (as_v3, as_v4) = (Columns::of(&v3, Rules::V3), Columns::of(&v3, Rules::V4));
        let oracle = oracle();
        let mut state = oracle.partition(0).expect("has aggregates");
        state.advance_to(oracle.layout().events(0));
        let rows = right_rows(&as_v3.expect("known"), &state);
        let found = compare(&as_v4.expect("known"), &state, &rows);
        let expected = (0..state.slots()).filter_map(|slot| state.expected(slot));
        let differing = expected.filter(Expected::differs).count() as u64;
        assert!(differing > 0);
        assert_eq!(found.differences, differing);
    }
}
