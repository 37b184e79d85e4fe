//! Diff: the rows of two versions at one offset, compared key by key.
//!
//! Rows come as the tables yield them, in any order: those of the older version are
//! kept in a [`PairJoin`], those of the newer one find their partner there. Which
//! columns must be equal, which may differ and how is a [`PairPlan`], made of what
//! the authors declared.

mod choice;
mod join;
mod plan;
mod point;
#[cfg(test)]
mod rule_tests;
mod samples;
mod share;
#[cfg(test)]
mod tests;
mod text;

pub use choice::Choice;
pub use choice::ChosenPair;
pub use choice::KeptRow;
pub use join::Joined;
pub use join::PairJoin;
pub use plan::NotComparable;
pub use plan::PairPlan;
pub use plan::comparable_columns;
pub use point::Held;
pub use point::PointVerdict;
pub use point::Side;
pub use point::compare_point;
pub use share::KeyShare;
pub use text::cell_text;
pub use text::row_text;

use crate::position::Offset;

/// One row of a table that is not deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowRef<'a> {
    /// The key's cell, with its length prefix.
    pub key: &'a [u8],
    /// The columns' cells in table order, each with its length prefix.
    pub cells: &'a [u8],
    /// Version of the aggregate's last event in the row.
    pub applied_seq: u64,
    /// Offset of that event.
    pub off: Offset,
}

/// What a comparison of two versions' rows found. "Old" is the version that the
/// other one replaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiffCounts {
    /// Rows of the old version.
    pub rows_old: u64,
    /// Rows of the new version.
    pub rows_new: u64,
    /// Keys with a row in both, equal in every column that must be and in those that may differ.
    pub equal: u64,
    /// Keys that differ as the author's rule says, or, without a rule, where they may.
    pub expected: u64,
    /// Keys that differ where they must not, or not in the way of the author's rule.
    pub unexpected: u64,
    /// Keys that are equal and by the author's rule must differ.
    pub missing_expected: u64,
    /// Keys that only the old version has.
    pub only_old: u64,
    /// Keys that only the new version has.
    pub only_new: u64,
    /// Pairs of rows of *different* aggregates that were shown to the author's rule.
    pub rule_tried: u64,
    /// How many of them it let pass: a rule that accepts anything proves nothing.
    pub rule_accepted: u64,
}

impl DiffCounts {
    /// Keys that speak against the new version, or against the rule.
    pub fn findings(&self) -> u64 {
        self.unexpected + self.missing_expected + self.only_old + self.only_new
    }

    /// Keys that were looked at.
    pub fn keys(&self) -> u64 {
        self.equal + self.expected + self.findings()
    }

    /// Adds what was found elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.rows_old += other.rows_old;
        self.rows_new += other.rows_new;
        self.equal += other.equal;
        self.expected += other.expected;
        self.unexpected += other.unexpected;
        self.missing_expected += other.missing_expected;
        self.only_old += other.only_old;
        self.only_new += other.only_new;
        self.rule_tried += other.rule_tried;
        self.rule_accepted += other.rule_accepted;
    }
}

/// Why a key is in a list of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Differs as it is meant to.
    Expected,
    /// Differs and is not meant to.
    Unexpected,
    /// Is equal and meant to differ.
    MissingExpected,
    /// Has no row in the new version.
    OnlyOld,
    /// Has no row in the old version.
    OnlyNew,
}

impl Kind {
    /// The word in answers.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Expected => "expected",
            Self::Unexpected => "unexpected",
            Self::MissingExpected => "missing-expected",
            Self::OnlyOld => "only-old",
            Self::OnlyNew => "only-new",
        }
    }
}

/// A key that was found to differ, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Why it is here.
    pub kind: Kind,
    /// The key as text.
    pub key: String,
    /// The key's cell.
    pub cell: Vec<u8>,
    /// One sentence: the column, both values, the rule's reason.
    pub detail: String,
    /// Offset of the last event in the old version's row.
    pub off_old: Option<Offset>,
    /// Offset of the last event in the new version's row.
    pub off_new: Option<Offset>,
    /// The old version's row, each column as text, in table order.
    pub old: Option<Vec<String>>,
    /// The new version's row, likewise.
    pub new: Option<Vec<String>>,
}
