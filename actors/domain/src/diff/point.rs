//! One aggregate in two versions, as one snapshot shows both.
//!
//! Two versions stand at two marks. What they hold of an aggregate has to agree when neither
//! knows an event that the other one cannot know yet, and says nothing before.

use super::Choice;
use super::PairJoin;
use super::PairPlan;
use super::RowRef;
use super::Sample;
use crate::position::Offset;

/// What a version holds of an aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held<'a> {
    /// Not a trace.
    Nothing,
    /// A tombstone with the offset of the event that left it.
    Tombstone(Offset),
    /// A row.
    Row(RowRef<'a>),
}

impl Held<'_> {
    fn off(&self) -> Option<Offset> {
        match self {
            Self::Nothing => None,
            Self::Tombstone(off) => Some(*off),
            Self::Row(row) => Some(row.off),
        }
    }
}

/// One version's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side<'a> {
    /// The mark of the aggregate's partition, exclusive.
    pub next: Offset,
    /// What it holds.
    pub held: Held<'a>,
}

impl Side<'_> {
    /// Whether it knows no event of the aggregate at or above `reached`.
    fn is_settled_below(&self, reached: Offset) -> bool {
        match self.held.off() {
            Some(off) => off < reached,
            // It knows of no event, or forgot a tombstone together with the offset.
            None => self.next == reached,
        }
    }
}

/// What the comparison of an aggregate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointVerdict {
    /// Equal, and rightly so.
    Equal,
    /// Differs as it is meant to.
    Expected,
    /// Differs and should not, or should differ and does not, or is in one version only.
    Differs,
    /// One version knows an event of the aggregate that the other one has not reached.
    NotCaughtUp,
}

/// Compares what two versions hold of one aggregate, both seen in one snapshot. `old` is the
/// version that the other one replaces (see [`PairPlan::is_swapped`]).
///
/// With `reached` the lower of both marks, an aggregate whose last event in either version is
/// below it is the fold of the same events in both: all of the aggregate's below `reached`.
/// Anything else is not judged.
pub fn compare_point(
    plan: &PairPlan,
    old: &Side<'_>,
    new: &Side<'_>,
) -> (PointVerdict, Option<Sample>) {
    if (old.held, new.held) == (Held::Nothing, Held::Nothing) {
        return (PointVerdict::Equal, None);
    }
    let reached = old.next.min(new.next);
    if !old.is_settled_below(reached) || !new.is_settled_below(reached) {
        return (PointVerdict::NotCaughtUp, None);
    }
    // The log is not asked about it: a choice without room.
    let mut join = PairJoin::new(plan, 1, Choice::new(0, 0));
    if let Held::Row(row) = &old.held {
        join.keep_old(row);
    }
    if let Held::Row(row) = &new.held {
        join.meet_new(row);
    }
    let found = join.finish();
    let verdict = match (found.counts.findings(), found.counts.expected) {
        (0, 0) => PointVerdict::Equal,
        (0, _) => PointVerdict::Expected,
        _ => PointVerdict::Differs,
    };
    (verdict, found.samples.into_iter().next())
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::super::tests::cells;
    use super::super::tests::plan;
    use super::*;

    /// The last event of the aggregate, in both versions.
    const OFF: i64 = 50;

    struct Pair {
        key: Vec<u8>,
        old: Vec<u8>,
        new: Vec<u8>,
    }

    impl Pair {
        /// `kept` has to be equal in both versions, `fixed` may differ.
        fn of(kept: (i64, i64), fixed: (i64, i64)) -> Self {
            Self {
                key: cells(&[7]),
                old: cells(&[-1, kept.0, fixed.0]),
                new: cells(&[fixed.1, -2, kept.1]),
            }
        }

        fn held<'a>(&'a self, cells: &'a [u8], off: i64) -> Held<'a> {
            Held::Row(RowRef {
                key: &self.key,
                cells,
                applied_seq: 3,
                off: Offset(off),
            })
        }

        fn compare(&self, old: (i64, i64), new: (i64, i64)) -> PointVerdict {
            let side = |(next, off), cells| Side {
                next: Offset(next),
                held: self.held(cells, off),
            };
            compare_point(&plan(), &side(old, &self.old), &side(new, &self.new)).0
        }
    }

    fn absent(next: i64) -> Side<'static> {
        Side {
            next: Offset(next),
            held: Held::Nothing,
        }
    }

    #[test]
    fn rows_below_both_marks_are_judged_wherever_the_marks_stand() {
        let equal = Pair::of((1, 1), (5, 5));
        for marks in [(51, 51), (51, 900), (900, 51)] {
            let found = equal.compare((marks.0, OFF), (marks.1, OFF));
            assert_eq!(found, PointVerdict::Equal, "{marks:?}");
        }
        let wrong = Pair::of((1, 2), (5, 5));
        assert_eq!(wrong.compare((51, OFF), (51, OFF)), PointVerdict::Differs);
        let fixed = Pair::of((1, 1), (5, 6));
        assert_eq!(fixed.compare((51, OFF), (51, OFF)), PointVerdict::Expected);
        // An event that one version lost below both marks is a difference and no delay.
        assert_eq!(equal.compare((90, 80), (90, OFF)), PointVerdict::Differs);
    }

    #[test]
    fn a_row_with_an_event_that_the_other_version_has_not_reached_is_not_judged() {
        let ahead = Pair::of((2, 1), (6, 5));
        // The old version has the event at 60, the new one's mark is before it, at it, behind it.
        for next in [55, 60] {
            let found = ahead.compare((70, 60), (next, OFF));
            assert_eq!(found, PointVerdict::NotCaughtUp, "{next}");
        }
        assert_eq!(ahead.compare((70, 60), (61, OFF)), PointVerdict::Differs);
    }

    #[test]
    fn an_aggregate_of_one_version_only_differs_once_the_other_one_is_there() {
        let pair = Pair::of((1, 1), (5, 5));
        let there = |next| Side {
            next: Offset(next),
            held: pair.held(&pair.old, OFF),
        };
        let (verdict, sample) = compare_point(&plan(), &there(60), &absent(60));
        assert_eq!(verdict, PointVerdict::Differs);
        assert_eq!(
            sample.map(|s| (s.kind, s.key)),
            Some((Kind::OnlyOld, "7".to_owned()))
        );
        // The other one is behind, or so far ahead that it may have forgotten.
        for next in [50, 61] {
            let found = compare_point(&plan(), &there(60), &absent(next)).0;
            assert_eq!(found, PointVerdict::NotCaughtUp, "{next}");
        }
        let gone = Side {
            next: Offset(70),
            held: Held::Tombstone(Offset(65)),
        };
        let found = compare_point(&plan(), &there(60), &gone).0;
        assert_eq!(found, PointVerdict::NotCaughtUp);
        let found = compare_point(&plan(), &there(66), &gone).0;
        assert_eq!(found, PointVerdict::Differs);
        assert_eq!(
            compare_point(&plan(), &absent(5), &absent(6)).0,
            PointVerdict::Equal
        );
    }
}
