//! Which of the pairs that differ as expected are shown to the log.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::RowRef;
use crate::position::Offset;

/// A row that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptRow {
    /// The columns' cells in table order, each with its length prefix.
    pub cells: Vec<u8>,
    /// Version of the aggregate's last event in the row.
    pub applied_seq: u64,
    /// Offset of that event.
    pub off: Offset,
}

impl From<&RowRef<'_>> for KeptRow {
    fn from(row: &RowRef<'_>) -> Self {
        Self {
            cells: row.cells.to_vec(),
            applied_seq: row.applied_seq,
            off: row.off,
        }
    }
}

/// Both rows of a key that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenPair {
    /// Its place in the order of choice, in `[0, 2^63)`.
    pub rank: u64,
    /// The key's cell.
    pub key: Vec<u8>,
    /// The older version's row.
    pub old: KeptRow,
    /// The newer version's row.
    pub new: KeptRow,
}

impl ChosenPair {
    fn order(&self) -> (u64, &[u8]) {
        (self.rank, &self.key)
    }
}

impl PartialOrd for ChosenPair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ChosenPair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

/// Chooses among pairs as they come: those whose keys hash lowest under a seed.
///
/// Every pair is as likely to be chosen as any other, wherever it lies and whenever it is
/// met, and the same pairs under the same seed give the same choice in whatever order and
/// in whatever parts they come. Whoever does not know the seed beforehand cannot tell
/// which rows will be looked at.
#[derive(Debug, Clone)]
pub struct Choice {
    seed: u64,
    room: usize,
    /// What is chosen has a lower rank, or this one.
    ceiling: u64,
    /// The last of them is on top.
    pairs: BinaryHeap<ChosenPair>,
}

impl Choice {
    /// An empty choice of at most `room` pairs.
    pub fn new(seed: u64, room: usize) -> Self {
        Self {
            seed,
            room,
            ceiling: u64::MAX,
            pairs: BinaryHeap::new(),
        }
    }

    /// An empty choice for another part of the pairs, which leaves out what would have no
    /// place here.
    #[must_use]
    pub fn part(&self) -> Self {
        Self {
            seed: self.seed,
            room: self.room,
            ceiling: self.ceiling(),
            pairs: BinaryHeap::new(),
        }
    }

    /// The largest rank that has a place here.
    fn ceiling(&self) -> u64 {
        self.last_rank()
            .map_or(self.ceiling, |last| last.min(self.ceiling))
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The largest rank among the chosen pairs; `None` while there is still room.
    pub fn last_rank(&self) -> Option<u64> {
        let full = self.pairs.len() >= self.room;
        self.pairs.peek().map(|p| p.rank).filter(|_| full)
    }

    /// Shows both rows of a key.
    pub fn offer(&mut self, old: &RowRef<'_>, new: &RowRef<'_>) {
        // 63 bits, so that a rank is a number for the database too.
        let rank = xxh3_64_with_seed(new.key, self.seed) >> 1;
        if self.room == 0 || rank > self.ceiling() {
            return;
        }
        self.add(ChosenPair {
            rank,
            key: new.key.to_vec(),
            old: old.into(),
            new: new.into(),
        });
    }

    /// Takes a pair in that was chosen elsewhere under the same seed.
    pub fn add(&mut self, pair: ChosenPair) {
        self.pairs.push(pair);
        if self.pairs.len() > self.room {
            self.pairs.pop();
        }
    }

    /// The chosen pairs, the lowest rank first.
    pub fn into_pairs(self) -> Vec<ChosenPair> {
        self.pairs.into_sorted_vec()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offer(choice: &mut Choice, key: u32) {
        let key = key.to_be_bytes();
        let row = RowRef {
            key: &key,
            cells: &[],
            applied_seq: 1,
            off: Offset(1),
        };
        choice.offer(&row, &row);
    }

    fn keys(choice: Choice) -> Vec<Vec<u8>> {
        let pairs = choice.into_pairs().into_iter();
        pairs.map(|pair| pair.key).collect()
    }

    proptest! {
        #[test]
        fn parts_in_any_order_give_the_choice_of_the_whole(
            seed: u64, keys_of in prop::collection::btree_set(any::<u32>(), 0..300),
            parts in 1_usize..7, room in 0_usize..60,
        ) {
            let mut whole = Choice::new(seed, room);
            keys_of.iter().for_each(|key| offer(&mut whole, *key));
            let mut merged = Choice::new(seed, room);
            for part in 0..parts {
                let mut own = merged.part();
                let of_part = keys_of.iter().rev().skip(part).step_by(parts);
                of_part.for_each(|key| offer(&mut own, *key));
                own.into_pairs().into_iter().for_each(|pair| merged.add(pair));
            }
            let whole = keys(whole);
            prop_assert_eq!(whole.len(), room.min(keys_of.len()));
            prop_assert_eq!(whole, keys(merged));
        }
    }

    #[test]
    fn every_rank_is_a_number_for_the_database() {
        let mut choice = Choice::new(9, 200);
        (0..200).for_each(|key| offer(&mut choice, key));
        let pairs = choice.into_pairs();
        assert!(pairs.iter().all(|pair| pair.rank < 1 << 63));
        assert!(pairs.iter().any(|pair| pair.rank >= 1 << 62));
    }

    #[test]
    fn another_seed_chooses_others() {
        let chosen = |seed| {
            let mut choice = Choice::new(seed, 50);
            (0..5_000).for_each(|key| offer(&mut choice, key));
            keys(choice)
        };
        assert_eq!(chosen(1), chosen(1));
        let (one, two) = (chosen(1), chosen(2));
        let both = one.iter().filter(|key| two.contains(key)).count();
        assert!(both < 10, "{both} of 50 are the same");
    }

    #[test]
    fn a_part_leaves_out_what_would_have_no_place_in_the_whole() {
        let mut whole = Choice::new(9, 20);
        assert_eq!(whole.seed(), 9);
        (0..19).for_each(|key| offer(&mut whole, key));
        assert_eq!(whole.last_rank(), None, "there is room for one more");
        assert_eq!(whole.part().ceiling, u64::MAX);
        (19..1_000).for_each(|key| offer(&mut whole, key));
        let last = whole.last_rank().expect("it is full");
        let pairs = whole.clone().into_pairs();
        assert_eq!(pairs.iter().map(|pair| pair.rank).max(), Some(last));

        // A part of a part knows it too.
        let mut part = whole.part().part();
        (0..1_000).for_each(|key| offer(&mut part, key));
        assert_eq!(part.seed(), 9);
        assert_eq!(part.into_pairs(), pairs, "the last one is not left out");
        let mut others = whole.part();
        (1_000..1_200).for_each(|key| offer(&mut others, key));
        let others = others.into_pairs();
        assert!(!others.is_empty() && others.len() < 20, "{}", others.len());
        assert!(others.iter().all(|pair| pair.rank < last));

        let mut none = Choice::new(9, 0);
        (0..10).for_each(|key| offer(&mut none, key));
        assert!(none.into_pairs().is_empty());
    }
}
