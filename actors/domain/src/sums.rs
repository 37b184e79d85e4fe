//! Order-independent checksums of a partition's rows, one sum per column and bucket.
//!
//! Each cell of each row that is not deleted adds `H(column, key, cell)` to the
//! 128-bit sum of its column in its key's bucket, modulo 2^128; a row that
//! changes subtracts its old cells and adds its new ones. Sums over columns
//! add up, so any two versions can be compared on whatever columns they share
//! without either having known of the other, and a difference names its column.
//! Addition, not XOR: a change applied twice cancels under XOR.

mod mend;

use xxhash_rust::xxh3::xxh3_64;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use refold_projection::cell::CellReader;

pub use mend::SummedRow;
pub use mend::Unexplained;

/// Buckets per column. Eight keep the offsets row of a ten-column version
/// under 2 kB, where every update stays in the page (FACTS: 48k updates/s
/// below, 19k with TOAST growth above), and narrow a difference to an eighth
/// of one partition's keys.
pub const BUCKETS: usize = 8;

/// The pseudo-column that sums each row's per-aggregate version (`applied_seq`).
pub const APPLIED_SEQ: &str = "applied_seq";

/// Which columns are summed, in order: the row's columns, then [`APPLIED_SEQ`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SumLayout {
    names: Vec<&'static str>,
    seeds: Vec<u64>,
}

impl SumLayout {
    /// The layout of a version with these columns.
    pub fn new(columns: impl IntoIterator<Item = &'static str>) -> Self {
        let names: Vec<_> = columns.into_iter().chain([APPLIED_SEQ]).collect();
        // The column's name, not its place, is part of the hash, so that
        // versions with other columns around it agree on it.
        let seeds = names.iter().map(|n| xxh3_64(n.as_bytes())).collect();
        Self { names, seeds }
    }

    /// Column names in order, [`APPLIED_SEQ`] last.
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }
}

/// The sums of one (version, partition).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums {
    counts: [u64; BUCKETS],
    /// `columns x BUCKETS`, column-major.
    cells: Vec<u128>,
}

/// Bytes that are not sums of the expected layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found} bytes of checksums where {wanted} belong: the row was written for other columns")]
pub struct SumsError {
    /// Bytes that the layout needs.
    pub wanted: usize,
    /// Bytes that were found.
    pub found: usize,
}

impl Sums {
    /// The sums of an empty table.
    pub fn zero(layout: &SumLayout) -> Self {
        Self {
            counts: [0; BUCKETS],
            cells: vec![0; layout.names.len() * BUCKETS],
        }
    }

    /// Adds a row: `key` is the key's cell, `cells` the row's cells in column
    /// order, each with its length prefix.
    pub fn add_row(&mut self, layout: &SumLayout, key: &[u8], cells: &[u8], applied_seq: u64) {
        let bucket = self.change_row(layout, (key, cells, applied_seq), u128::wrapping_add);
        self.counts[bucket] = self.counts[bucket].wrapping_add(1);
    }

    /// Takes a row away that was added before.
    pub fn remove_row(&mut self, layout: &SumLayout, key: &[u8], cells: &[u8], applied_seq: u64) {
        let bucket = self.change_row(layout, (key, cells, applied_seq), u128::wrapping_sub);
        self.counts[bucket] = self.counts[bucket].wrapping_sub(1);
    }

    /// Combines every column's sum with the hash of its cell; returns the bucket.
    #[inline]
    fn change_row(
        &mut self,
        layout: &SumLayout,
        (key, cells, applied_seq): (&[u8], &[u8], u64),
        combine: impl Fn(u128, u128) -> u128,
    ) -> usize {
        let bucket = bucket_of(key);
        let mut reader = CellReader::new(cells);
        let mut cell = KeyedCell::new(key);
        for (column, seed) in layout.seeds.iter().enumerate() {
            let hash = if column + 1 == layout.seeds.len() {
                cell.hash(&applied_seq.to_be_bytes(), *seed)
            } else {
                // The encoder wrote one cell per column; a short row would be a
                // bug of the row type and shows as a difference in every later column.
                cell.hash(reader.next_raw().unwrap_or(&[]), *seed)
            };
            let sum = &mut self.cells[column * BUCKETS + bucket];
            *sum = combine(*sum, hash);
        }
        bucket
    }

    /// Rows that are not deleted.
    pub fn rows(&self) -> u64 {
        self.counts.iter().fold(0, |a, b| a.wrapping_add(*b))
    }

    /// Rows per bucket.
    pub fn counts(&self) -> &[u64; BUCKETS] {
        &self.counts
    }

    /// The sums of one column per bucket, `None` for an unknown name.
    pub fn column(&self, layout: &SumLayout, name: &str) -> Option<&[u128]> {
        let at = layout.names.iter().position(|n| *n == name)?;
        self.cells.get(at * BUCKETS..(at + 1) * BUCKETS)
    }

    /// Adds the sums of other rows of the same layout.
    pub fn merge(&mut self, other: &Self) {
        for (a, b) in self.counts.iter_mut().zip(&other.counts) {
            *a = a.wrapping_add(*b);
        }
        for (a, b) in self.cells.iter_mut().zip(&other.cells) {
            *a = a.wrapping_add(*b);
        }
    }

    /// Counts and sums, big-endian: `8 + 16 x columns` bytes per bucket.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BUCKETS * 8 + self.cells.len() * 16);
        self.counts
            .iter()
            .for_each(|c| out.extend_from_slice(&c.to_be_bytes()));
        self.cells
            .iter()
            .for_each(|c| out.extend_from_slice(&c.to_be_bytes()));
        out
    }

    /// Reads what [`Sums::to_bytes`] wrote for the same layout.
    ///
    /// # Errors
    /// [`SumsError`] when the length is another layout's.
    pub fn from_bytes(layout: &SumLayout, bytes: &[u8]) -> Result<Self, SumsError> {
        let mut sums = Self::zero(layout);
        let wanted = BUCKETS * 8 + sums.cells.len() * 16;
        let bad = || SumsError {
            wanted,
            found: bytes.len(),
        };
        if bytes.len() != wanted {
            return Err(bad());
        }
        let (counts, cells) = bytes.split_at(BUCKETS * 8);
        for (to, from) in sums.counts.iter_mut().zip(counts.as_chunks::<8>().0) {
            *to = u64::from_be_bytes(*from);
        }
        for (to, from) in sums.cells.iter_mut().zip(cells.as_chunks::<16>().0) {
            *to = u128::from_be_bytes(*from);
        }
        Ok(sums)
    }
}

/// Room for a key and a cell of usual length.
const USUAL: usize = 128;

/// Hashes cells behind one key. Every row of a table passes through here once a
/// column, so usual ones need no memory but the stack's.
struct KeyedCell<'k> {
    key: &'k [u8],
    buffer: [u8; USUAL],
}

impl<'k> KeyedCell<'k> {
    fn new(key: &'k [u8]) -> Self {
        let mut buffer = [0; USUAL];
        if key.len() <= USUAL {
            buffer[..key.len()].copy_from_slice(key);
        }
        Self { key, buffer }
    }

    /// The hash of the key followed by `cell`.
    #[inline]
    fn hash(&mut self, cell: &[u8], seed: u64) -> u128 {
        if let (Ok(key), Ok(cell)) = (self.key.try_into(), cell.try_into()) {
            return xxh3_128_with_seed(&both_wide(key, cell), seed);
        }
        let (start, end) = (self.key.len(), self.key.len() + cell.len());
        if end <= USUAL {
            self.buffer[start..end].copy_from_slice(cell);
            return xxh3_128_with_seed(&self.buffer[..end], seed);
        }
        xxh3_128_with_seed(&[self.key, cell].concat(), seed)
    }
}

/// A cell of eight bytes with its length in front, which is what most keys and most columns are.
type WideCell = [u8; 12];

/// The two behind each other, put together in registers: eight bytes that are loaded together were
/// then stored together, or the processor would have to wait for each hash's memory.
#[inline(always)]
fn both_wide(key: &WideCell, cell: &WideCell) -> [u8; 24] {
    let [k0, k1, k2] = quarters(key);
    let [c0, c1, c2] = quarters(cell);
    let mut both = [0; 24];
    let words = [(k0, k1), (k2, c0), (c1, c2)];
    for (to, (low, high)) in both.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *to = (u64::from(low) | u64::from(high) << 32).to_le_bytes();
    }
    both
}

#[inline(always)]
fn quarters(cell: &WideCell) -> [u32; 3] {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *cell;
    [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(u32::from_le_bytes)
}

fn bucket_of(key: &[u8]) -> usize {
    (xxh3_64(key) % BUCKETS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(v: i64) -> Vec<u8> {
        let mut out = 8i32.to_be_bytes().to_vec();
        out.extend_from_slice(&v.to_be_bytes());
        out
    }

    fn row(a: i64, b: i64) -> Vec<u8> {
        [cell(a), cell(b)].concat()
    }

    #[test]
    fn sums_do_not_depend_on_order_and_see_a_doubled_row() {
        let layout = SumLayout::new(["a", "b"]);
        let mut left = Sums::zero(&layout);
        let mut right = Sums::zero(&layout);
        for k in 0..100 {
            left.add_row(&layout, &cell(k), &row(k, 7), 1);
        }
        for k in (0..100).rev() {
            right.add_row(&layout, &cell(k), &row(k, 7), 1);
        }
        assert_eq!(left, right);
        right.add_row(&layout, &cell(5), &row(5, 7), 1);
        right.add_row(&layout, &cell(5), &row(5, 7), 1);
        assert_ne!(left, right);
    }

    #[test]
    fn a_changed_row_differs_in_its_column_only_until_it_is_changed_back() {
        let layout = SumLayout::new(["a", "b"]);
        let mut sums = Sums::zero(&layout);
        sums.add_row(&layout, &cell(1), &row(1, 2), 3);
        let before = sums.clone();
        sums.remove_row(&layout, &cell(1), &row(1, 2), 3);
        sums.add_row(&layout, &cell(1), &row(1, 9), 3);
        assert_eq!(sums.column(&layout, "a"), before.column(&layout, "a"));
        assert_ne!(sums.column(&layout, "b"), before.column(&layout, "b"));
        sums.remove_row(&layout, &cell(1), &row(1, 9), 3);
        sums.add_row(&layout, &cell(1), &row(1, 2), 3);
        assert_eq!(sums, before);
    }

    #[test]
    fn versions_with_other_columns_agree_on_the_shared_one() {
        let narrow = SumLayout::new(["b"]);
        let wide = SumLayout::new(["a", "b"]);
        let mut left = Sums::zero(&narrow);
        let mut right = Sums::zero(&wide);
        left.add_row(&narrow, &cell(1), &cell(5), 3);
        right.add_row(&wide, &cell(1), &row(4, 5), 3);
        assert_eq!(left.column(&narrow, "b"), right.column(&wide, "b"));
        assert_eq!(
            left.column(&narrow, APPLIED_SEQ),
            right.column(&wide, APPLIED_SEQ)
        );
    }

    #[test]
    fn a_cell_of_any_length_counts_as_the_key_and_the_cell_behind_each_other() {
        let lengths = [
            (12, 0),
            (12, 12),
            (12, 116),
            (12, 117),
            (127, 1),
            (128, 0),
            (300, 12),
        ];
        for (key_len, cell_len) in lengths {
            // No byte is like its neighbours: one in another's place is noticed.
            let bytes = |len: usize, step: u8| -> Vec<u8> {
                (0..len).map(|at| (at as u8).wrapping_mul(step)).collect()
            };
            let (key, cell) = (bytes(key_len, 7), bytes(cell_len, 11));
            let whole = [&key[..], &cell[..]].concat();
            let found = KeyedCell::new(&key).hash(&cell, 5);
            assert_eq!(found, xxh3_128_with_seed(&whole, 5), "{key_len} {cell_len}");
        }
    }

    #[test]
    fn bytes_read_back_and_other_layouts_are_refused() {
        let layout = SumLayout::new(["a", "b"]);
        let mut sums = Sums::zero(&layout);
        sums.add_row(&layout, &cell(1), &row(1, 2), 3);
        assert_eq!(
            Sums::from_bytes(&layout, &sums.to_bytes()),
            Ok(sums.clone())
        );
        let other = SumLayout::new(["a"]);
        assert!(Sums::from_bytes(&other, &sums.to_bytes()).is_err());
    }

    #[test]
    fn a_row_counts_in_every_column_of_its_own_bucket_and_nowhere_else() {
        let layout = SumLayout::new(["a", "b"]);
        assert_eq!(layout.names(), ["a", "b", APPLIED_SEQ]);
        let mut used = [0; BUCKETS];
        for key in 0..200 {
            let mut sums = Sums::zero(&layout);
            sums.add_row(&layout, &cell(key), &row(1, 2), 3);
            assert_eq!(sums.rows(), 1);
            let own = sums.counts().map(|rows| rows == 1);
            for name in layout.names() {
                let column = sums.column(&layout, name).expect("it has the column");
                assert_eq!(column.len(), BUCKETS);
                let not_zero = std::array::from_fn(|bucket| column[bucket] != 0);
                assert_eq!(not_zero, own, "{name} of {key}");
            }
            let bucket = own.iter().position(|own| *own).expect("it has a bucket");
            used[bucket] += 1;
        }
        assert!(used.iter().all(|keys| *keys > 0), "{used:?}");
        assert_eq!(Sums::zero(&layout).column(&layout, "c"), None);
    }

    #[test]
    fn a_version_number_counts_in_its_own_column_only() {
        let layout = SumLayout::new(["a", "b"]);
        let of = |applied_seq| {
            let mut sums = Sums::zero(&layout);
            sums.add_row(&layout, &cell(1), &row(1, 2), applied_seq);
            sums
        };
        let differing = layout.names().iter().copied().filter(|name| {
            let (three, four) = (of(3), of(4));
            three.column(&layout, name) != four.column(&layout, name)
        });
        assert_eq!(differing.collect::<Vec<_>>(), [APPLIED_SEQ]);
    }

    #[test]
    fn sums_of_parts_add_up_to_those_of_the_whole_and_a_row_taken_away_was_never_there() {
        let layout = SumLayout::new(["a", "b"]);
        let of = |keys: std::ops::Range<i64>| {
            let mut sums = Sums::zero(&layout);
            keys.for_each(|key| sums.add_row(&layout, &cell(key), &row(key, 7), 1));
            sums
        };
        let mut merged = of(0..40);
        merged.merge(&of(40..100));
        assert_eq!((merged.rows(), &merged), (100, &of(0..100)));
        merged.remove_row(&layout, &cell(99), &row(99, 7), 1);
        assert_eq!((merged.rows(), merged), (99, of(0..99)));
    }
}
