//! The barrier: a vector of offsets that two versions hit exactly.

use std::collections::BTreeMap;

use crate::position::Offset;
use crate::position::Partition;
use crate::sums::SumLayout;
use crate::sums::Sums;

/// One offset per partition.
pub type OffsetVector = BTreeMap<Partition, Offset>;

/// The switch vector for two versions' durable marks: per partition the higher
/// one, because whoever is behind can still stop there and whoever is ahead
/// already stands there.
///
/// Returns the first partition that only one side has as an error: the versions
/// were built from different topics.
///
/// # Errors
/// The partition that is missing on one side.
pub fn switch_vector(live: &OffsetVector, new: &OffsetVector) -> Result<OffsetVector, Partition> {
    if let Some(p) = live.keys().find(|p| !new.contains_key(p)) {
        return Err(*p);
    }
    new.iter()
        .map(|(p, at)| {
            let other = live.get(p).ok_or(*p)?;
            Ok((*p, *at.max(other)))
        })
        .collect()
}

/// Where a batch that would move a mark across `[from, to)` has to end when a
/// barrier waits at `switch`: exactly there, never past it.
pub fn cut(from: Offset, to: Offset, switch: Option<Offset>) -> Offset {
    match switch {
        Some(x) if from < x => x.min(to),
        _ => to,
    }
}

/// A difference between two versions' sums at the switch vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SumDifference {
    /// The partition.
    pub partition: Partition,
    /// The column, or `count` for the number of rows.
    pub column: &'static str,
    /// The buckets that differ.
    pub buckets: Vec<usize>,
}

/// The name under which a difference in the number of rows is reported.
pub const ROW_COUNT: &str = "count";

/// Compares one partition of two versions on `columns`, which both have.
///
/// A column that one side does not have is reported as different in every bucket.
pub fn compare_sums(
    partition: Partition,
    left: (&SumLayout, &Sums),
    right: (&SumLayout, &Sums),
    columns: &[&'static str],
) -> Vec<SumDifference> {
    let differing = |a: Option<&[u128]>, b: Option<&[u128]>| match (a, b) {
        (Some(a), Some(b)) => (0..a.len()).filter(|&i| a[i] != b[i]).collect(),
        _ => (0..crate::sums::BUCKETS).collect::<Vec<_>>(),
    };
    let (l, r) = (left.1.counts(), right.1.counts());
    let counts = (0..l.len()).filter(|&i| l[i] != r[i]).collect::<Vec<_>>();
    let sums = columns.iter().map(|name| {
        let buckets = differing(left.1.column(left.0, name), right.1.column(right.0, name));
        (*name, buckets)
    });
    std::iter::once((ROW_COUNT, counts))
        .chain(sums)
        .filter(|(_, buckets)| !buckets.is_empty())
        .map(|(column, buckets)| SumDifference {
            partition,
            column,
            buckets,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(marks: &[i64]) -> OffsetVector {
        let marks = marks.iter().enumerate();
        marks
            .map(|(p, at)| (Partition(p as i32), Offset(*at)))
            .collect()
    }

    #[test]
    fn the_switch_vector_is_the_higher_mark_of_each_partition() {
        let vector_at = switch_vector(&vector(&[5, 9]), &vector(&[7, 2]));
        assert_eq!(vector_at, Ok(vector(&[7, 9])));
        let missing = switch_vector(&vector(&[5]), &vector(&[7, 2]));
        assert_eq!(missing, Err(Partition(1)));
    }

    #[test]
    fn a_batch_is_cut_at_the_switch_offset_and_nowhere_else() {
        let o = Offset;
        assert_eq!(cut(o(1), o(9), Some(o(5))), o(5));
        for elsewhere in [None, Some(o(1)), Some(o(9)), Some(o(12))] {
            assert_eq!(cut(o(1), o(9), elsewhere), o(9));
        }
    }

    #[test]
    fn a_difference_names_its_column_and_bucket() {
        let layout = SumLayout::new(["a"]);
        let key = refold_projection::KeyRef::Int(1);
        let mut cell = Vec::new();
        key.write_cell(&mut cell);
        let mut left = Sums::zero(&layout);
        left.add_row(&layout, &cell, &cell, 1);
        let mut right = left.clone();
        let same = compare_sums(Partition(0), (&layout, &left), (&layout, &right), &["a"]);
        assert_eq!(same, []);
        right.remove_row(&layout, &cell, &cell, 1);
        let differences = compare_sums(Partition(0), (&layout, &left), (&layout, &right), &["a"]);
        let columns: Vec<_> = differences.iter().map(|d| d.column).collect();
        assert_eq!(columns, [ROW_COUNT, "a"]);
        assert!(differences.iter().all(|d| d.buckets.len() == 1));
    }
}
