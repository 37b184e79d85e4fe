//! Which transactional batches a read-committed reader skips.

use std::collections::HashSet;

/// A transaction that was aborted, as a Fetch answer names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose transaction it was.
    pub producer_id: i64,
    /// Its first offset in the partition; it may lie below the fetched one.
    pub first_offset: i64,
}

/// Follows one answer's aborted transactions from batch to batch.
///
/// An answer names every aborted transaction that reaches into it, so nothing
/// has to be remembered from one answer to the next.
#[derive(Debug)]
pub(super) struct Aborted {
    /// Those that the batches have not reached, the next one last.
    ahead: Vec<AbortedTransaction>,
    /// Producers inside an aborted transaction.
    open: HashSet<i64>,
}

impl Aborted {
    pub(super) fn new(mut transactions: Vec<AbortedTransaction>) -> Self {
        transactions.sort_unstable_by_key(|t| std::cmp::Reverse(t.first_offset));
        Self {
            ahead: transactions,
            open: HashSet::new(),
        }
    }

    /// Moves on to a transactional batch of `producer_id` that ends at `last`,
    /// inclusive; returns whether its transaction was aborted.
    pub(super) fn reaches(&mut self, producer_id: i64, last: i64) -> bool {
        while let Some(next) = self.ahead.pop_if(|next| next.first_offset <= last) {
            self.open.insert(next.producer_id);
        }
        self.open.contains(&producer_id)
    }

    /// Notes that the producer's abort marker was passed.
    pub(super) fn ends(&mut self, producer_id: i64) {
        self.open.remove(&producer_id);
    }
}
