//! Comparing a table with the oracle's known final state, row by row and cell by cell.

use std::collections::HashMap;

use refold_domain::spec::ProjectionSpec;
use refold_projection::CellValue;
use refold_projection::Timestamp;
use refold_projection::cell::CellReader;
use refold_projection::cell::write_bytes;
use refold_seed::oracle::Expected;

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

    pub(crate) fn differ(&mut self, sentence: String) {
        self.differences += 1;
        if self.samples.len() < Self::SAMPLES {
            self.samples.push(sentence);
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

/// One row of a table: its columns' cells, each with its length prefix, and its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableRow {
    pub(crate) cells: Box<[u8]>,
    pub(crate) applied_seq: u64,
    pub(crate) off: i64,
}

/// Compares one partition. `rows` holds the table's rows by key, tombstones left out.
pub(crate) fn compare(
    spec: &ProjectionSpec,
    rules: Rules,
    mut rows: HashMap<i64, TableRow>,
    expected: impl IntoIterator<Item = Expected>,
) -> Outcome {
    let mut outcome = Outcome::default();
    for want in expected {
        outcome.expected += 1;
        let Some(row) = rows.remove(&want.id) else {
            outcome.differ(format!("aggregate {}: no row", want.id));
            continue;
        };
        outcome.compared += 1;
        if let Err(sentence) = compare_row(spec, rules, &want, &row) {
            outcome.differ(format!("aggregate {}: {sentence}", want.id));
        }
    }
    for id in rows.keys() {
        outcome.differ(format!("aggregate {id}: a row where none belongs"));
    }
    outcome
}

fn compare_row(
    spec: &ProjectionSpec,
    rules: Rules,
    want: &Expected,
    row: &TableRow,
) -> Result<(), String> {
    let mut reader = CellReader::new(&row.cells);
    for column in spec.columns {
        let name = column.name;
        let expected = expected_cell(rules, want, name)
            .ok_or_else(|| format!("the known final state has no column {name}"))?;
        let found = reader.next_raw().map_err(|error| error.to_string())?;
        if found != expected {
            return Err(format!("{name} is {found:02x?}, expected {expected:02x?}"));
        }
    }
    let positions = [
        ("applied_seq", row.applied_seq, want.last_version),
        ("applied_offset", row.off.unsigned_abs(), want.last_offset),
    ];
    match positions
        .iter()
        .find(|(_, found, expected)| found != expected)
    {
        Some((name, found, expected)) => Err(format!("{name} is {found}, expected {expected}")),
        None => Ok(()),
    }
}

fn cell(value: &impl CellValue) -> Vec<u8> {
    let mut out = Vec::with_capacity(12);
    value.write(&mut out);
    out
}

fn int(value: i64) -> Vec<u8> {
    cell(&value)
}

fn text(value: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + 4);
    write_bytes(&mut out, value.as_bytes());
    out
}

fn expected_cell(rules: Rules, row: &Expected, column: &str) -> Option<Vec<u8>> {
    let (v3, v4) = (&row.v3, &row.v4);
    Some(match (column, rules) {
        ("balance", Rules::V3) => int(v3.balance),
        ("balance", Rules::V4) => int(v4.balance),
        ("status", Rules::V3) => text(v3.status.name()),
        ("status", Rules::V4) => text(v4.status.name()),
        ("largest_deposit", Rules::V4) => int(v4.largest_deposit),
        ("deposits_count", Rules::V4) => int(v4.deposits_count),
        ("reversed_total", Rules::V4) => int(v4.reversed_total),
        ("opened_at", Rules::V4) => cell(&Timestamp(v4.opened_at)),
        ("closed_at", Rules::V4) => cell(&v4.closed_at.map(Timestamp)),
        ("currency", Rules::V4) => text(v4.currency),
        _ => return None,
    })
}
