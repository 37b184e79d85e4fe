//! What sums become when rows are put right on the disk.

use super::BUCKETS;
use super::SumLayout;
use super::Sums;

/// Changes of one sum for which every subset of them is tried.
const TRIED: usize = 12;

/// What is summed of a row: its columns' cells, and its version.
pub type SummedRow<'a> = (&'a [u8], u64);

/// Rows on the disk and the sums of their mark are apart by more than the rows explain that
/// are put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bucket {bucket} of {column}")]
pub struct Unexplained {
    /// The bucket.
    pub bucket: usize,
    /// The column, or the number of rows.
    pub column: &'static str,
}

impl Sums {
    /// The change that one row makes: the old one out, the new one in.
    pub fn change(
        layout: &SumLayout,
        key: &[u8],
        before: Option<SummedRow<'_>>,
        after: Option<SummedRow<'_>>,
    ) -> Self {
        let mut change = Self::zero(layout);
        if let Some((cells, applied_seq)) = after {
            change.add_row(layout, key, cells, applied_seq);
        }
        if let Some((cells, applied_seq)) = before {
            change.remove_row(layout, key, cells, applied_seq);
        }
        change
    }

    /// The sums of a mark once `changes` were made to its rows, which add up to `disk` now.
    ///
    /// A row that was changed behind the projector is wrong on the disk and right in the sums,
    /// which then stay as they are. A row that the projector itself got wrong is so in both, and
    /// both have to move. Which of the two each row is shows in how far disk and sums are apart:
    /// by the changes of all rows of the first kind, and by nothing else. Either way the sums
    /// are in the end what the rows add up to; where something else is apart, too, that would hide it.
    ///
    /// # Errors
    /// [`Unexplained`] when something else is apart in a sum that a change touches.
    pub fn mended(
        &self,
        layout: &SumLayout,
        disk: &Self,
        changes: &[Self],
    ) -> Result<Self, Unexplained> {
        let mut mended = self.clone();
        for bucket in 0..BUCKETS {
            let of = |sums: &Self| u128::from(sums.counts[bucket]);
            let parts = changes.iter().map(|change| {
                // Signed, in the width of the other sums.
                change.counts[bucket].cast_signed().into()
            });
            let parts: Vec<_> = parts.map(|n: i128| n.cast_unsigned()).collect();
            let count = mend(of(self), of(disk), &parts).ok_or(Unexplained {
                bucket,
                column: "the number of rows",
            })?;
            mended.counts[bucket] = count as u64;
        }
        for (column, name) in layout.names.iter().copied().enumerate() {
            for bucket in 0..BUCKETS {
                let at = column * BUCKETS + bucket;
                let parts: Vec<_> = changes.iter().map(|change| change.cells[at]).collect();
                let sum = mend(self.cells[at], disk.cells[at], &parts);
                mended.cells[at] = sum.ok_or(Unexplained {
                    bucket,
                    column: name,
                })?;
            }
        }
        Ok(mended)
    }
}

/// One sum after `changes`; `None` when no subset of them is what it and the disk are apart by.
fn mend(stored: u128, disk: u128, changes: &[u128]) -> Option<u128> {
    let changes: Vec<_> = changes.iter().copied().filter(|c| *c != 0).collect();
    if changes.is_empty() {
        return Some(stored);
    }
    let add = |a: u128, b: &u128| a.wrapping_add(*b);
    let all = changes.iter().fold(0, add);
    let apart = stored.wrapping_sub(disk);
    let explained = apart == 0
        || apart == all
        || (changes.len() <= TRIED && subset_sums(&changes).contains(&apart));
    explained.then(|| disk.wrapping_add(all))
}

/// What every subset of `changes` adds up to.
fn subset_sums(changes: &[u128]) -> Vec<u128> {
    let mut sums = vec![0_u128];
    for change in changes {
        let with: Vec<_> = sums.iter().map(|sum| sum.wrapping_add(*change)).collect();
        sums.extend(with);
    }
    sums
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout() -> SumLayout {
        SumLayout::new(["one", "two"])
    }

    fn cells(values: [i64; 2]) -> Vec<u8> {
        let cell = |v: i64| [&8i32.to_be_bytes()[..], &v.to_be_bytes()].concat();
        values.into_iter().flat_map(cell).collect()
    }

    /// What is done to a row: by whom, and to what.
    #[derive(Debug, Clone, Copy)]
    struct Harm {
        key: u8,
        by_projector: bool,
        /// `None`: the row is gone.
        value: Option<i64>,
    }

    fn harm() -> impl Strategy<Value = Harm> {
        let value = prop::option::of(0_i64..3);
        (0_u8..40, any::<bool>(), value).prop_map(|(key, by_projector, value)| Harm {
            key,
            by_projector,
            value,
        })
    }

    fn sums(rows: &[Option<i64>]) -> Sums {
        let mut sums = Sums::zero(&layout());
        for (key, value) in rows.iter().enumerate() {
            if let Some(value) = value {
                sums.add_row(&layout(), &[key as u8], &cells([*value, 7]), 3);
            }
        }
        sums
    }

    /// The right rows: every second key has one.
    fn right() -> Vec<Option<i64>> {
        let value = |key: i64| (key % 2 == 0).then_some(100 + key);
        (0..40).map(value).collect()
    }

    fn change(key: u8, before: Option<i64>, after: Option<i64>) -> Sums {
        let row = |value: Option<i64>| value.map(|value| cells([value, 7]));
        let (before, after) = (row(before), row(after));
        fn summed(row: Option<&Vec<u8>>) -> Option<SummedRow<'_>> {
            row.map(|cells| (&cells[..], 3))
        }
        let (before, after) = (summed(before.as_ref()), summed(after.as_ref()));
        Sums::change(&layout(), &[key], before, after)
    }

    proptest! {
        #[test]
        fn sums_are_what_the_right_rows_add_up_to_whoever_got_each_of_them_wrong(
            harms in prop::collection::vec(harm(), 0..12),
        ) {
            let right = right();
            let (mut disk, mut projected) = (right.clone(), right.clone());
            for harm in &harms {
                disk[harm.key as usize] = harm.value;
                if harm.by_projector {
                    projected[harm.key as usize] = harm.value;
                } else {
                    projected[harm.key as usize] = right[harm.key as usize];
                }
            }
            let wrong = (0..40_u8).filter(|key| disk[*key as usize] != right[*key as usize]);
            let changes: Vec<_> = wrong
                .map(|key| change(key, disk[key as usize], right[key as usize]))
                .collect();
            let mended = sums(&projected).mended(&layout(), &sums(&disk), &changes);
            prop_assert_eq!(mended, Ok(sums(&right)));
        }
    }

    #[test]
    fn what_else_is_wrong_in_a_touched_sum_is_not_hidden() {
        let right = right();
        let mut disk = right.clone();
        disk.iter_mut()
            .for_each(|value| *value = value.map(|v| v + 1));
        // All rows are wrong behind the projector; one of them is put right.
        let one = [change(4, disk[4], right[4])];
        let refused = sums(&right).mended(&layout(), &sums(&disk), &one);
        let found = refused.expect_err("other rows are apart, too");
        assert_eq!(found.column, "one");
        // Without a change there is nothing to say.
        let same = sums(&right).mended(&layout(), &sums(&disk), &[]);
        assert_eq!(same, Ok(sums(&right)));
    }

    #[test]
    fn many_changes_are_explained_as_a_whole_and_a_part_of_them_only_while_there_are_few() {
        for count in [TRIED, TRIED + 1] {
            // A power of two each: every subset adds up to something else.
            let changes: Vec<u128> = (0..count as u32).map(|at| 1 << at).collect();
            let all = (1 << count) - 1;
            let right = Some(1_000 + all);
            // The projector made all of the mistakes, or others made all of them.
            assert_eq!(mend(1_000, 1_000, &changes), right);
            assert_eq!(mend(1_000 + all, 1_000, &changes), right);
            // Others made the first one, or all but the first one.
            let tried = right.filter(|_| count <= TRIED);
            assert_eq!(mend(1_001, 1_000, &changes), tried);
            assert_eq!(mend(1_000 + all - 1, 1_000, &changes), tried);
            // Something else is apart, too.
            assert_eq!(mend(1_001 + all, 1_000, &changes), None);
        }
    }
}
