//! Some of the keys that differ, for people.

use super::Kind;
use super::PairPlan;
use super::RowRef;
use super::Sample;

/// Keeps the first few keys of each kind.
#[derive(Debug)]
pub(super) struct Samples<'p> {
    plan: &'p PairPlan,
    wanted: usize,
    found: Vec<Sample>,
}

impl<'p> Samples<'p> {
    /// None yet; at most `wanted` of each kind.
    pub(super) fn new(plan: &'p PairPlan, wanted: usize) -> Self {
        Self {
            plan,
            wanted,
            found: Vec::new(),
        }
    }

    /// How many of a kind are kept.
    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    /// Keeps a key with its rows, at least one, unless there are enough of its kind.
    pub(super) fn add(
        &mut self,
        kind: Kind,
        detail: String,
        old: Option<&RowRef<'_>>,
        new: Option<&RowRef<'_>>,
    ) {
        let of_kind = self.found.iter().filter(|s| s.kind == kind).count();
        let Some(row) = new.or(old).filter(|_| of_kind < self.wanted) else {
            return;
        };
        let (text_old, text_new) = self.plan.row_texts(old, new);
        self.found.push(Sample {
            kind,
            key: self.plan.key_text(row.key),
            cell: row.key.to_vec(),
            detail,
            off_old: old.map(|row| row.off),
            off_new: new.map(|row| row.off),
            old: text_old,
            new: text_new,
        });
    }

    /// What was kept.
    pub(super) fn into_found(self) -> Vec<Sample> {
        self.found
    }
}
