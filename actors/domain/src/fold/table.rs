//! The bulk engine's table: aggregates of one partition by key.
//!
//! ```text
//! index: [ tag | place ] [ 0 ] [ tag | place ] ...     8 bytes a slot, open addressing
//!                 |                      |
//! segments: [ entry entry entry ... ] [ entry ... ]    in the order of arrival, never moved
//! ```
//! An event touches one word of the index and one entry, both known from the
//! key's hash ahead of time, so that a group of events fetches all of theirs
//! before the first is folded. Entries stand densely: no slot of theirs is
//! empty, growing copies the index only, and the memory is what was asked for.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use refold_projection::Key;
use refold_projection::Row;

use super::memory;
use super::slot::Slot;

/// Entries of a full segment, a power of two.
const SEGMENT: usize = 1 << SEGMENT_BITS;
const SEGMENT_BITS: u32 = 17;

/// Words of the smallest index.
const SMALLEST_INDEX: usize = 64;

/// Keys that a table takes at most: places are 32 bits wide, and a tag, which
/// addresses the index, is too. One chunk more than this fits before anybody asks.
const MOST_KEYS: usize = 1 << 31;

/// A word of the index that points nowhere.
const EMPTY: u64 = 0;

/// How many rows ahead of its turn a row is fetched when rows are handed out in key order.
const AHEAD: usize = 12;

/// One aggregate.
pub(super) struct Entry<K, R> {
    pub(super) key: K,
    pub(super) slot: Slot<R>,
}

/// Aggregates by key.
pub(super) struct Table<K, R> {
    index: Vec<u64>,
    segments: Vec<Vec<Entry<K, R>>>,
    len: usize,
    hasher: RandomState,
}

impl<K: Key, R: Row> Table<K, R> {
    /// An empty table that hashes like its predecessor: a class of keys is the
    /// same in both.
    pub(super) fn new(hasher: RandomState) -> Self {
        Self {
            index: Vec::new(),
            segments: Vec::new(),
            len: 0,
            hasher,
        }
    }

    pub(super) fn hasher(&self) -> &RandomState {
        &self.hasher
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of index and entries, as allocated; at most `usize::MAX`, when
    /// there are as many keys as a table takes.
    pub(super) fn bytes(&self) -> usize {
        if self.len >= MOST_KEYS {
            return usize::MAX;
        }
        let entries: usize = self.segments.iter().map(Vec::capacity).sum();
        entries * size_of::<Entry<K, R>>() + self.index.len() * size_of::<u64>()
    }

    #[inline]
    pub(super) fn hash(&self, key: &K) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Has the index's word of this hash fetched.
    #[inline]
    pub(super) fn prefetch_index(&self, hash: u64) {
        if let Some(word) = self.index.get(self.start(tag_of(hash))) {
            memory::prefetch(word);
        }
    }

    /// Has the entry fetched that the index's word most likely points to.
    #[inline]
    pub(super) fn prefetch_entry(&self, hash: u64) {
        let tag = tag_of(hash);
        let Some(&word) = self.index.get(self.start(tag)) else {
            return;
        };
        if word != EMPTY
            && let Some(entry) = self.get(place_of(word))
        {
            memory::prefetch(entry);
        }
    }

    /// The aggregate of this key, and whether it is new. `hash` is the key's.
    #[inline]
    pub(super) fn find_or_insert(&mut self, key: &K, hash: u64) -> (&mut Entry<K, R>, bool) {
        // Three quarters full at most: a probe then looks at two words on average.
        if (self.len + 1) * 4 > self.index.len() * 3 {
            self.grow();
        }
        let tag = tag_of(hash);
        let mask = self.index.len() - 1;
        let mut at = self.start(tag);
        let (place, fresh) = loop {
            let word = self.index[at];
            if word == EMPTY {
                let place = self.push(key.clone());
                self.index[at] = word_of(tag, place);
                break (place, true);
            }
            if (word >> 32) as u32 == tag && self.at(place_of(word)).key == *key {
                break (place_of(word), false);
            }
            at = (at + 1) & mask;
        };
        (self.at_mut(place), fresh)
    }

    /// Takes the newest entry out again. `hash` is its key's, and nothing was found or inserted since.
    #[cold]
    pub(super) fn take_back(&mut self, hash: u64) {
        let Some(place) = self.len.checked_sub(1) else {
            return;
        };
        let word = word_of(tag_of(hash), place as u32);
        let mask = self.index.len() - 1;
        let start = self.start(tag_of(hash));
        let mut chain = (start..start + self.index.len()).map(|at| at & mask);
        if let Some(at) = chain.find(|at| self.index[*at] == word) {
            // It ends its chain of words: no other one is found by way of it.
            self.index[at] = EMPTY;
        }
        if let Some(last) = self.segments.last_mut() {
            last.pop();
            if last.is_empty() {
                self.segments.pop();
            }
        }
        self.len = place;
    }

    /// Keeps the entries whose key's hash `wanted` accepts. Others are dropped
    /// and their memory is given back; what `let_go` makes of each is its own.
    pub(super) fn retain(
        &mut self,
        wanted: impl Fn(u64) -> bool,
        mut let_go: impl FnMut(&Entry<K, R>),
    ) {
        let hasher = self.hasher.clone();
        let old = std::mem::take(&mut self.segments);
        self.len = 0;
        self.index = Vec::new();
        // Segment by segment, so that what is dropped is free before the next one is copied.
        for segment in old {
            for entry in segment {
                if wanted(hasher.hash_one(&entry.key)) {
                    self.push_entry(entry);
                } else {
                    let_go(&entry);
                }
            }
        }
        self.reindex(index_for(self.len));
    }

    /// The entries in the order of arrival.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry<K, R>> {
        self.segments.iter().flatten()
    }

    /// The entries from place `from` on, in the order of arrival.
    pub(super) fn entries_from(&self, from: usize) -> impl Iterator<Item = &Entry<K, R>> {
        (from..self.len).filter_map(|place| self.get(place as u32))
    }

    /// The places of all entries in the order of their keys.
    pub(super) fn sorted(&self) -> SortedPlaces {
        let mut places: Vec<(u64, u32)> = self
            .entries()
            .enumerate()
            .map(|(place, entry)| (entry.key.borrow().sort_prefix(), place as u32))
            .collect();
        places.sort_unstable();
        // Equal prefixes (long texts, UUIDs) are put in order by the whole keys.
        for equal in places.chunk_by_mut(|a, b| a.0 == b.0) {
            equal.sort_unstable_by(|a, b| self.at(a.1).key.cmp(&self.at(b.1).key));
        }
        SortedPlaces { places, next: 0 }
    }

    #[inline]
    fn start(&self, tag: u32) -> usize {
        tag as usize & self.index.len().wrapping_sub(1)
    }

    #[inline]
    fn get(&self, place: u32) -> Option<&Entry<K, R>> {
        let segment = self.segments.get(place as usize >> SEGMENT_BITS)?;
        segment.get(place as usize & (SEGMENT - 1))
    }

    #[inline]
    fn at(&self, place: u32) -> &Entry<K, R> {
        &self.segments[place as usize >> SEGMENT_BITS][place as usize & (SEGMENT - 1)]
    }

    #[inline]
    fn at_mut(&mut self, place: u32) -> &mut Entry<K, R> {
        &mut self.segments[place as usize >> SEGMENT_BITS][place as usize & (SEGMENT - 1)]
    }

    fn push(&mut self, key: K) -> u32 {
        let slot = Slot::ABSENT;
        self.push_entry(Entry { key, slot })
    }

    fn push_entry(&mut self, entry: Entry<K, R>) -> u32 {
        match self.segments.last_mut() {
            Some(last) if last.len() < SEGMENT => last.push(entry),
            None => self.segments.push(vec![entry]),
            Some(_) => {
                // The first segment grows with its content, so that a small table is small;
                // a table that has filled one will fill more.
                let mut next = Vec::with_capacity(SEGMENT);
                memory::prefer_huge_pages(&mut next);
                next.push(entry);
                self.segments.push(next);
            }
        }
        let place = self.len as u32;
        self.len += 1;
        place
    }

    #[cold]
    fn grow(&mut self) {
        let words = (self.index.len() * 2).max(SMALLEST_INDEX);
        if self.index.is_empty() {
            self.reindex(words);
            return;
        }
        // Every word carries its tag, which is all that its place depends on.
        let old = std::mem::replace(&mut self.index, blank(words));
        let mask = words - 1;
        for word in old.into_iter().filter(|word| *word != EMPTY) {
            let mut at = (word >> 32) as usize & mask;
            while self.index[at] != EMPTY {
                at = (at + 1) & mask;
            }
            self.index[at] = word;
        }
    }

    /// Makes the index anew from the entries.
    fn reindex(&mut self, words: usize) {
        let mut index = blank(words);
        let mask = words - 1;
        for (place, entry) in self.entries().enumerate() {
            let tag = tag_of(self.hash(&entry.key));
            let mut at = tag as usize & mask;
            while index[at] != EMPTY {
                at = (at + 1) & mask;
            }
            index[at] = word_of(tag, place as u32);
        }
        self.index = index;
    }
}

/// Places in key order, to be walked once.
pub(super) struct SortedPlaces {
    places: Vec<(u64, u32)>,
    next: usize,
}

impl SortedPlaces {
    /// Bytes that ordering a table of `keys` keys takes.
    pub(super) const fn bytes_for(keys: usize) -> usize {
        keys * size_of::<(u64, u32)>()
    }

    /// The next entry of `table`, which the places were made of.
    #[inline]
    pub(super) fn next_of<'t, K: Key, R: Row>(
        &mut self,
        table: &'t Table<K, R>,
    ) -> Option<&'t Entry<K, R>> {
        if let Some((_, ahead)) = self.places.get(self.next + AHEAD)
            && let Some(entry) = table.get(*ahead)
        {
            memory::prefetch(entry);
        }
        let (_, place) = self.places.get(self.next)?;
        self.next += 1;
        table.get(*place)
    }
}

fn blank(words: usize) -> Vec<u64> {
    let mut index = vec![EMPTY; words];
    memory::prefer_huge_pages(&mut index);
    index
}

/// Words of an index for so many keys: less than three quarters full, a power of two.
fn index_for(keys: usize) -> usize {
    (keys + keys / 2).next_power_of_two().max(SMALLEST_INDEX)
}

/// The upper half of a hash addresses the index and tells most strangers apart
/// without a look at their keys. Classes of keys use the lower half.
#[inline]
const fn tag_of(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[inline]
const fn word_of(tag: u32, place: u32) -> u64 {
    ((tag as u64) << 32) + (place as u64 + 1)
}

/// Of a word that is not [`EMPTY`].
#[inline]
const fn place_of(word: u64) -> u32 {
    (word as u32).wrapping_sub(1)
}
