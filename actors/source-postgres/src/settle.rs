//! How far a table is a log: the rule by which an end is settled. Pure.
//!
//! Positions are handed out in one order and committed in another, and those of a transaction
//! that is rolled back are never used. An end is *settled* when every row below it that will
//! ever be there can be seen by a snapshot that is taken from now on; what is missing below it
//! then is missing for ever.
//!
//! 1. The last position that was handed out is read, H.
//! 2. Later, who writes is read: the transactions that hold the lock on the table that an INSERT
//!    or COPY takes before its first row, each with the first position that it announced, by a
//!    lock too. Both locks are held until the transaction's rows can be seen.
//! 3. Whoever took a position up to H and has not ended is therefore among them: with that
//!    position announced, or about to announce it. For the latter we wait: until they have
//!    announced one, or are gone.
//! 4. The end is the smallest position that is announced then, and H + 1 when none is below that.
//!
//! An end that was settled once stays so, and none that is asked for afterwards is below it,
//! whoever asks: a position that is announced then was announced at the end of that wait
//! already, or handed out after H was read.

use std::collections::BTreeSet;

use refold_domain::position::Offset;

/// The bits of a position that a lock can carry.
const LOW_BITS: i64 = 0xffff_ffff;

/// A transaction that writes to the table, as the server's locks have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Writer {
    /// Its virtual transaction id.
    pub(crate) transaction: String,
    /// The low 32 bits of the first position that it announced.
    pub(crate) first: Option<i64>,
}

impl Writer {
    /// A prepared transaction that was found by the start of the server has no virtual
    /// transaction any more, and its name there may have been another one before.
    fn was_renamed(&self) -> bool {
        self.transaction.starts_with("-1/")
    }
}

/// An end on its way to be settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// One past the last position that was handed out.
    bound: i64,
    /// Who has to announce a position, or end, first. `None` until writers were looked at.
    waits_for: Option<BTreeSet<String>>,
}

impl Candidate {
    /// Begins with the last position that was handed out; `None` before the first one. Writers
    /// have to be looked at after it was read.
    pub(crate) fn new(last: Option<i64>) -> Self {
        Self {
            bound: last.map_or(0, |last| last + 1),
            waits_for: None,
        }
    }

    /// One past the last position that was handed out: no end is above it.
    pub(crate) fn bound(&self) -> Offset {
        Offset(self.bound)
    }

    /// Takes a look at the writers; the settled end, or `None` when they have to be looked at again.
    pub(crate) fn look(&mut self, writers: &[Writer]) -> Option<Offset> {
        if cfg!(feature = "mutation-no-settled-end") {
            return Some(self.bound());
        }
        let silent = writers.iter().filter(|writer| writer.first.is_none());
        let waited_for = self.waits_for.take();
        let left: BTreeSet<String> = silent
            .filter(|writer| match &waited_for {
                None => true,
                Some(before) => before.contains(&writer.transaction) || writer.was_renamed(),
            })
            .map(|writer| writer.transaction.clone())
            .collect();
        let settled = left.is_empty();
        self.waits_for = Some(left);
        settled.then(|| {
            let announced = writers.iter().filter_map(|writer| writer.first);
            let lowest = announced.map(|low| whole(low, self.bound)).min();
            Offset(lowest.map_or(self.bound, |lowest| lowest.min(self.bound)))
        })
    }

    /// Who is waited for, to be named when it takes long.
    pub(crate) fn waits_for(&self) -> String {
        let names = self.waits_for.iter().flatten().cloned();
        names.collect::<Vec<_>>().join(", ")
    }
}

/// The position whose low bits are `low`: of all there are, the one nearest to `bound`.
fn whole(low: i64, bound: i64) -> i64 {
    let half = (LOW_BITS + 1) / 2;
    let near = (bound & !LOW_BITS) | (low & LOW_BITS);
    if near > bound + half {
        near - (LOW_BITS + 1)
    } else if near < bound - half {
        near + LOW_BITS + 1
    } else {
        near
    }
}

#[cfg(test)]
mod tests;
