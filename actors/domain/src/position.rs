//! Positions in a log. Every interval of this project is `[from, to)`.

use std::fmt;

/// A Kafka partition's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub i32);

/// An offset in one partition. As a mark it is *exclusive*: the next offset to
/// apply, so that everything below it is in the table and nothing at or above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(pub i64);

impl Offset {
    /// The offset after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// How many offsets lie in `[self, end)`; 0 when `end` is not above.
    pub fn lag_to(self, end: Self) -> u64 {
        u64::try_from(end.0.saturating_sub(self.0)).unwrap_or(0)
    }
}

/// Reads `PARTITION:OFFSET`, digits and nothing else; `None` for any other text.
pub fn place(text: &str) -> Option<(Partition, Offset)> {
    let (partition, offset) = text.split_once(':')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_place = digits(partition) && digits(offset);
    let place = (partition.parse().ok()?, offset.parse().ok()?);
    is_place.then_some((Partition(place.0), Offset(place.1)))
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The half-open interval `[from, to)` of one partition's log that a
/// transaction moves the mark across. Offsets missing inside it are legal:
/// compaction holes, control markers, aborted records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OffsetRange {
    /// First offset, inclusive: the durable mark before the transaction.
    pub from: Offset,
    /// End, exclusive: the durable mark after it.
    pub to: Offset,
}

impl OffsetRange {
    /// `[from, to)`, or `None` when `to` lies below `from`.
    pub fn new(from: Offset, to: Offset) -> Option<Self> {
        (from <= to).then_some(Self { from, to })
    }

    /// Whether the range moves the mark at all.
    pub fn is_empty(self) -> bool {
        self.from == self.to
    }
}

impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.from, self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_counts_the_offsets_of_the_half_open_interval() {
        assert_eq!(Offset(3).lag_to(Offset(10)), 7);
        assert_eq!(Offset(10).lag_to(Offset(10)), 0);
        assert_eq!(Offset(11).lag_to(Offset(10)), 0);
    }

    #[test]
    fn a_range_never_runs_backwards() {
        assert_eq!(OffsetRange::new(Offset(2), Offset(1)), None);
        assert!(OffsetRange::new(Offset(2), Offset(2)).is_some_and(OffsetRange::is_empty));
        assert!(OffsetRange::new(Offset(2), Offset(3)).is_some_and(|range| !range.is_empty()));
    }

    #[test]
    fn positions_are_shown_as_operators_know_them() {
        assert_eq!(Partition(7).to_string(), "p7");
        assert_eq!(Offset(-1).to_string(), "-1");
        let range = OffsetRange::new(Offset(2), Offset(30)).expect("it ascends");
        assert_eq!(range.to_string(), "[2, 30)");
    }
}
