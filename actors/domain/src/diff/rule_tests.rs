//! A rule that says how rows are meant to differ, and pairs that keep to it and do not.

use std::marker::PhantomData;

use refold_projection::CellValue;
use refold_projection::Change;
use refold_projection::Column;
use refold_projection::ColumnType;
use refold_projection::Compare;
use refold_projection::DecodeError;
use refold_projection::Differences;
use refold_projection::Envelope;
use refold_projection::Expected;
use refold_projection::Fingerprint;
use refold_projection::Payload;
use refold_projection::Projection;
use refold_projection::Replaces;
use refold_projection::Row;
use refold_projection::cell::CellError;
use refold_projection::cell::CellReader;

use super::tests::cells;
use super::*;
use crate::spec::ProjectionSpec;

/// An amount that the second version caps at 100.
#[derive(Debug, Clone, PartialEq)]
struct Amount {
    kept: i64,
    fixed: i64,
}

impl Row for Amount {
    const COLUMNS: &'static [Column] = &[
        Column {
            name: "kept",
            ty: ColumnType::Int8,
            nullable: false,
            compare: Compare::Same,
        },
        Column {
            name: "fixed",
            ty: ColumnType::Int8,
            nullable: false,
            compare: Compare::Differs,
        },
    ];

    fn encode(&self, out: &mut Vec<u8>) {
        self.kept.write(out);
        self.fixed.write(out);
    }

    fn decode(cells: &mut CellReader<'_>) -> Result<Self, CellError> {
        Ok(Self {
            kept: i64::read(cells)?,
            fixed: i64::read(cells)?,
        })
    }
}

struct Amounts<const V: u32>;

impl<const V: u32> Projection for Amounts<V> {
    type Key = i64;
    type Event<'a> = PhantomData<&'a ()>;
    type Row = Amount;
    const NAME: &'static str = "amounts";
    const VERSION: u32 = V;
    const HANDLES: &'static [&'static str] = &["Happened"];
    const CODE: Fingerprint = Fingerprint(V as u128);
    const REPLACES: Option<u32> = V.checked_sub(1);

    fn decode<'a>(_: &'a str, _: Payload<'a>) -> Result<Self::Event<'a>, DecodeError> {
        Ok(PhantomData)
    }

    fn fold(&self, _: Option<Amount>, _: &Envelope<'_, Self::Event<'_>>) -> Change<Amount> {
        Change::Skip
    }
}

impl Replaces<Amounts<1>> for Amounts<2> {
    fn expect(old: &Amount, new: &Amount) -> Expected {
        match old.fixed {
            ..0 => Expected::Either("below zero"),
            0..=100 => Expected::Equal,
            more if new.fixed == 100 || new.fixed == more => Expected::Different("capped at 100"),
            _ => Expected::Equal,
        }
    }
}

const RULE: Differences = Differences::between::<Amounts<1>, Amounts<2>>(Fingerprint(77));

fn specs() -> (ProjectionSpec, ProjectionSpec) {
    let new = ProjectionSpec {
        differences: Some(RULE),
        ..ProjectionSpec::of::<Amounts<2>>()
    };
    (ProjectionSpec::of::<Amounts<1>>(), new)
}

fn plan() -> PairPlan {
    let (old, new) = specs();
    PairPlan::of(&old, &new).expect("the second replaces the first")
}

/// Joins pairs of rows, given as cells, under keys from 0 on.
fn join(pairs: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Joined {
    let plan = plan();
    let mut join = PairJoin::new(&plan, 100, Choice::new(7, 100));
    let pairs: Vec<_> = (0..).zip(pairs).collect();
    for old in [true, false] {
        for (key, pair) in &pairs {
            let row = RowRef {
                key: &cells(&[*key]),
                cells: if old { &pair.0 } else { &pair.1 },
                applied_seq: 1,
                off: Offset(*key),
            };
            if old {
                join.keep_old(&row);
            } else {
                join.meet_new(&row);
            }
        }
    }
    join.finish()
}

fn amounts(old: i64, new: i64) -> (Vec<u8>, Vec<u8>) {
    (cells(&[1, old]), cells(&[1, new]))
}

#[test]
fn each_pair_is_judged_by_what_the_rule_says_of_it() {
    // A number of four bytes, in both versions.
    let short = [&[0, 0, 0, 4, 0, 0, 0, 1], &cells(&[5])[..]].concat();
    let joined = join([
        amounts(5, 5),
        amounts(500, 100),
        amounts(500, 500),
        amounts(500, 77),
        amounts(5, 6),
        amounts(-3, 0),
        amounts(-3, -3),
        (short.clone(), short),
    ]);
    assert_eq!(
        joined.counts,
        DiffCounts {
            rows_old: 8,
            rows_new: 8,
            equal: 2,
            expected: 2,
            unexpected: 3,
            missing_expected: 1,
            ..DiffCounts::default()
        }
    );
    let told: Vec<_> = joined
        .samples
        .iter()
        .map(|s| (s.key.as_str(), s.kind, s.detail.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("1", Kind::Expected, "fixed is 500 and 100: capped at 100"),
            (
                "2",
                Kind::MissingExpected,
                "equal, but the rule says: capped at 100"
            ),
            ("3", Kind::Unexpected, "fixed is 500 and 77"),
            ("4", Kind::Unexpected, "fixed is 5 and 6"),
            ("5", Kind::Expected, "fixed is -3 and 0: below zero"),
            (
                "7",
                Kind::Unexpected,
                "a row cannot be read: cell 0: 4 bytes where 8 belong"
            ),
        ]
    );
}

#[test]
fn a_rule_is_tried_on_rows_of_different_aggregates_now_and_then() {
    let tried = |pairs: Vec<_>| {
        let counts = join(pairs).counts;
        (counts.rule_tried, counts.rule_accepted)
    };
    let many = |count: i64, pair: fn(i64) -> (Vec<u8>, Vec<u8>)| (0..count).map(pair).collect();
    // One in 64 rows, with the old row of the aggregate before it.
    let distinct = |at| amounts(at % 100, at % 100);
    assert_eq!(tried(many(63, distinct)), (0, 0));
    assert_eq!(tried(many(64, distinct)), (1, 0));
    assert_eq!(tried(many(200, distinct)), (3, 0));
    // What the rule lets pass of them.
    assert_eq!(tried(many(200, |_| amounts(500, 100))), (3, 3));
    let half = |at| {
        if at < 100 {
            amounts(at, at)
        } else {
            amounts(500, 100)
        }
    };
    assert_eq!(tried(many(200, half)), (3, 2));
    // Rows that do not differ teach nothing, and broken ones neither.
    assert_eq!(tried(many(200, |_| amounts(5, 5))), (0, 0));
    let long = |at| {
        let (old, new) = amounts(at % 100, at % 100);
        ([old, cells(&[0])].concat(), new)
    };
    assert_eq!(tried(many(200, long)), (0, 0));
    let long = |at| {
        let (old, new) = amounts(at % 100, at % 100);
        (old, [new, cells(&[0])].concat())
    };
    assert_eq!(tried(many(200, long)), (0, 0));
}

#[test]
fn a_rule_counts_for_the_version_that_it_was_written_for() {
    let (old, new) = specs();
    assert_eq!(plan().rule(), Some(&RULE));
    let other = ProjectionSpec { number: 3, ..old };
    let later = ProjectionSpec {
        number: 4,
        replaces: Some(3),
        ..new.clone()
    };
    let plan = PairPlan::of(&other, &later).expect("4 replaces 3");
    assert_eq!(plan.rule(), None);
    // One fold under the number that the rule names: nothing is meant to differ.
    let twin = ProjectionSpec {
        number: 1,
        ..new.clone()
    };
    let plan = PairPlan::of(&twin, &new).expect("one fold");
    assert_eq!((plan.rule(), plan.differing_columns()), (None, vec![]));
}
