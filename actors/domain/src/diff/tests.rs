//! Pairs of rows, right and wrong ones.

use refold_projection::Column;
use refold_projection::ColumnType;
use refold_projection::Compare;
use refold_projection::Fingerprint;
use refold_projection::KeyType;
use refold_projection::Merge;

use super::*;
use crate::spec::ProjectionSpec;

const fn column(name: &'static str, compare: Compare) -> Column {
    Column {
        name,
        ty: ColumnType::Int8,
        nullable: false,
        compare,
    }
}

const OLD_COLUMNS: &[Column] = &[
    column("gone", Compare::New),
    column("kept", Compare::New),
    column("fixed", Compare::New),
];
const NEW_COLUMNS: &[Column] = &[
    column("fixed", Compare::Differs),
    column("added", Compare::New),
    column("kept", Compare::Same),
];

fn spec(number: u32, columns: &'static [Column], replaces: Option<u32>) -> ProjectionSpec {
    ProjectionSpec {
        name: "pair",
        number,
        replaces,
        key_type: KeyType::Int8,
        columns,
        handles: &["Happened"],
        differences: None,
        merge: Merge::Ordered,
        code: Fingerprint(number.into()),
    }
}

pub(super) fn cells(values: &[i64]) -> Vec<u8> {
    let cell = |v: &i64| [&8i32.to_be_bytes()[..], &v.to_be_bytes()].concat();
    values.iter().flat_map(cell).collect()
}

/// A row: key, cells, position in the aggregate and in the log.
type Row = (i64, Vec<u8>, u64, i64);

fn old_row(key: i64, kept: i64, fixed: i64) -> Row {
    (key, cells(&[-1, kept, fixed]), 3, 1_000 + key)
}

fn new_row(key: i64, kept: i64, fixed: i64) -> Row {
    (key, cells(&[fixed, -2, kept]), 3, 1_000 + key)
}

fn diff(plan: &PairPlan, old: &[Row], new: &[Row]) -> (DiffCounts, Vec<Sample>) {
    let joined = joined(plan, old, new);
    (joined.counts, joined.samples)
}

fn joined(plan: &PairPlan, old: &[Row], new: &[Row]) -> Joined {
    let mut join = PairJoin::new(plan, 10, Choice::new(7, 100));
    for (side, rows) in [(true, old), (false, new)] {
        for (key, cells_of, applied_seq, off) in rows {
            let key = cells(&[*key]);
            let row = RowRef {
                key: &key,
                cells: cells_of,
                applied_seq: *applied_seq,
                off: Offset(*off),
            };
            match side {
                true => join.keep_old(&row),
                false => join.meet_new(&row),
            }
        }
    }
    join.finish()
}

pub(super) fn plan() -> PairPlan {
    let (old, new) = (spec(1, OLD_COLUMNS, None), spec(2, NEW_COLUMNS, Some(1)));
    PairPlan::of(&old, &new).expect("the second replaces the first")
}

#[test]
fn equal_rows_are_equal_in_any_order_and_dropped_and_added_columns_do_not_count() {
    let plan = plan();
    assert_eq!(plan.same_columns(), ["kept", "applied_seq"]);
    assert_eq!(plan.differing_columns(), ["fixed"]);
    let old: Vec<_> = (0..100).map(|k| old_row(k, 2 * k, 5)).collect();
    let new: Vec<_> = (0..100).rev().map(|k| new_row(k, 2 * k, 5)).collect();
    let (counts, samples) = diff(&plan, &old, &new);
    assert_eq!(
        (counts.equal, counts.keys(), counts.findings()),
        (100, 100, 0)
    );
    assert_eq!((counts.rows_old, counts.rows_new), (100, 100));
    assert!(samples.is_empty());
}

#[test]
fn each_kind_of_difference_is_counted_and_named_with_its_key() {
    let old = vec![
        old_row(1, 10, 1),
        old_row(2, 10, 1),
        old_row(3, 10, 1),
        old_row(4, 10, 1),
        old_row(5, 10, 1),
    ];
    let mut late = new_row(4, 10, 1);
    late.3 += 1;
    let new = vec![
        new_row(1, 10, 1),
        new_row(2, 11, 1),
        new_row(3, 10, 2),
        late,
        new_row(6, 10, 1),
    ];
    let (counts, mut samples) = diff(&plan(), &old, &new);
    assert_eq!(
        (counts.equal, counts.expected, counts.unexpected),
        (1, 1, 2)
    );
    assert_eq!((counts.only_old, counts.only_new), (1, 1));
    assert_eq!(counts.findings(), 4);
    samples.sort_by_key(|s| s.key.clone());
    let told: Vec<_> = samples
        .iter()
        .map(|s| (s.key.as_str(), s.kind, s.detail.as_str()))
        .collect();
    let late = "the last event is number 3 at offset 1004 and number 3 at offset 1005";
    assert_eq!(
        told,
        [
            ("2", Kind::Unexpected, "kept is 10 and 11"),
            ("3", Kind::Expected, "fixed is 1 and 2"),
            ("4", Kind::Unexpected, late),
            ("5", Kind::OnlyOld, ""),
            ("6", Kind::OnlyNew, ""),
        ]
    );
    assert_eq!(samples[0].off_old, Some(Offset(1_002)));
    let row = |values: [&str; 3]| Some(values.map(str::to_owned).to_vec());
    assert_eq!(samples[0].old, row(["-1", "10", "1"]));
    assert_eq!(samples[0].new, row(["1", "-2", "11"]));
    assert_eq!((&samples[3].new, &samples[4].old), (&None, &None));
}

#[test]
fn only_pairs_that_differ_as_expected_are_chosen_for_the_log() {
    let old: Vec<_> = (0..40).map(|key| old_row(key, 10, 1)).collect();
    let new: Vec<_> = (0..40)
        .map(|key| match key % 3 {
            0 => new_row(key, 10, 1),
            1 => new_row(key, 10, 2),
            _ => new_row(key, 11, 2),
        })
        .collect();
    let joined = joined(&plan(), &old, &new);
    assert_eq!((joined.counts.expected, joined.counts.unexpected), (13, 13));
    let mut pairs = joined.chosen.into_pairs();
    pairs.sort_by(|a, b| a.key.cmp(&b.key));
    let keys: Vec<_> = pairs.iter().map(|pair| pair.key.clone()).collect();
    let wanted: Vec<_> = (0..40).filter(|key| key % 3 == 1).collect();
    let wanted: Vec<_> = wanted.iter().map(|key| cells(&[*key])).collect();
    assert_eq!(keys, wanted);
    let first = &pairs[0];
    assert_eq!((&first.old.cells, &first.new.cells), (&old[1].1, &new[1].1));
    assert_eq!((first.old.applied_seq, first.new.off), (3, Offset(1_001)));
}

#[test]
fn the_direction_of_a_comparison_does_not_change_what_is_old() {
    let (old, new) = (spec(1, OLD_COLUMNS, None), spec(2, NEW_COLUMNS, Some(1)));
    let back = PairPlan::of(&new, &old).expect("the first replaces the second");
    assert!(back.is_swapped() && !plan().is_swapped());
    assert_eq!(back.same_columns(), plan().same_columns());
}

#[test]
fn the_same_fold_must_agree_in_every_column() {
    let again = ProjectionSpec {
        number: 9,
        ..spec(2, NEW_COLUMNS, Some(1))
    };
    let plan = PairPlan::of(&spec(2, NEW_COLUMNS, Some(1)), &again).expect("one fold");
    assert_eq!(
        plan.same_columns(),
        ["fixed", "added", "kept", "applied_seq"]
    );
    let (counts, _) = diff(&plan, &[new_row(1, 1, 1)], &[new_row(1, 1, 2)]);
    assert_eq!(counts.unexpected, 1);
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let old = spec(1, OLD_COLUMNS, None);
    let unrelated = PairPlan::of(&old, &spec(7, NEW_COLUMNS, None));
    assert!(matches!(unrelated, Err(NotComparable::Unrelated { .. })));
    const MORE: &[Column] = &[column("never", Compare::Same)];
    let refused = PairPlan::of(&old, &spec(2, MORE, Some(1)));
    let sentence = refused.expect_err("no such column").to_string();
    assert!(sentence.contains("column never with pair_v1"), "{sentence}");
}

#[test]
fn a_row_that_is_cut_short_or_too_long_is_a_finding() {
    let mut short = new_row(1, 10, 1);
    short.1.pop();
    let mut long = new_row(2, 10, 1);
    long.1.extend_from_slice(&[0, 0, 0, 0]);
    let old = [old_row(1, 10, 1), old_row(2, 10, 1)];
    let (counts, samples) = diff(&plan(), &old, &[short.clone(), long]);
    assert_eq!(counts.unexpected, 2);
    let (counts, more) = diff(&plan(), &[short], &[new_row(1, 10, 1)]);
    assert_eq!(counts.unexpected, 1);
    for sample in samples.iter().chain(&more) {
        let sentence = "a row has other columns than its version declares";
        assert_eq!(sample.detail, sentence);
    }
}

#[test]
fn a_second_row_of_a_key_stays_without_a_partner() {
    let old = [old_row(1, 10, 1), old_row(1, 10, 1)];
    let (counts, _) = diff(&plan(), &old, &[new_row(1, 10, 1)]);
    assert_eq!((counts.equal, counts.only_old), (1, 1));
}

#[test]
fn counts_of_parts_are_added_up_field_by_field() {
    let of = |n| DiffCounts {
        rows_old: n,
        rows_new: 2 * n,
        equal: 3 * n,
        expected: 4 * n,
        unexpected: 5 * n,
        missing_expected: 6 * n,
        only_old: 7 * n,
        only_new: 8 * n,
        rule_tried: 9 * n,
        rule_accepted: 10 * n,
    };
    let mut sum = of(1);
    sum.add(&of(10));
    assert_eq!(sum, of(11));
    assert_eq!(sum.findings(), 11 * (5 + 6 + 7 + 8));
    assert_eq!(sum.keys(), 11 * (3 + 4 + 5 + 6 + 7 + 8));
}

#[test]
fn words_of_kinds_are_those_of_answers() {
    let words = [
        (Kind::Expected, "expected"),
        (Kind::Unexpected, "unexpected"),
        (Kind::MissingExpected, "missing-expected"),
        (Kind::OnlyOld, "only-old"),
        (Kind::OnlyNew, "only-new"),
    ];
    for (kind, word) in words {
        assert_eq!(kind.word(), word);
    }
}

#[test]
fn a_row_that_waits_for_its_partner_takes_its_bytes_and_a_place() {
    let plan = plan();
    let mut join = PairJoin::new(&plan, 10, Choice::new(7, 100));
    assert_eq!(join.memory_bytes(), 0);
    let rows = 10_000;
    for at in 0..rows {
        let (key, cells_of, applied_seq, off) = old_row(at, 1, 2);
        join.keep_old(&RowRef {
            key: &cells(&[key]),
            cells: &cells_of,
            applied_seq,
            off: Offset(off),
        });
    }
    // A key, three columns and the position; where it stands, and a byte of its hash.
    let least = rows as usize * (4 * 12 + 16 + 17);
    let found = join.memory_bytes();
    assert!((least..=2 * least).contains(&found), "{found}, not {least}");
}

#[test]
fn of_each_kind_as_many_samples_are_kept_as_are_wanted() {
    let plan = plan();
    for wanted in [0, 1, 2, 9] {
        let mut join = PairJoin::new(&plan, wanted, Choice::new(7, 100));
        let row = |key: &i64, cells_of: &[u8], join: &mut PairJoin<'_>, old: bool| {
            let key = cells(&[*key]);
            let row = RowRef {
                key: &key,
                cells: cells_of,
                applied_seq: 3,
                off: Offset(1_000),
            };
            if old {
                join.keep_old(&row)
            } else {
                join.meet_new(&row)
            }
        };
        // Five keys of the old version only, five that differ, five of the new one only.
        for key in 0..10 {
            row(&key, &cells(&[-1, 10, 1]), &mut join, true);
        }
        for key in 5..15 {
            row(&key, &cells(&[1, -2, 11]), &mut join, false);
        }
        let samples = join.finish().samples;
        for kind in [Kind::OnlyOld, Kind::Unexpected, Kind::OnlyNew] {
            let kept = samples.iter().filter(|s| s.kind == kind).count();
            assert_eq!(kept, wanted.min(5), "{kind:?}");
        }
    }
}

#[test]
fn columns_that_both_versions_must_agree_on_are_known_in_either_direction() {
    let (old, new) = (spec(1, OLD_COLUMNS, None), spec(2, NEW_COLUMNS, Some(1)));
    for (from, to) in [(&old, &new), (&new, &old)] {
        let columns = comparable_columns(from, to);
        assert_eq!(columns, Ok(vec!["kept", "applied_seq"]));
    }
    // Other events: their numbers cannot be compared.
    let deaf = ProjectionSpec {
        handles: &["Happened", "Changed"],
        ..new
    };
    assert_eq!(comparable_columns(&old, &deaf), Ok(vec!["kept"]));
    let again = ProjectionSpec {
        number: 9,
        ..deaf.clone()
    };
    assert_eq!(
        comparable_columns(&deaf, &again),
        Ok(vec!["fixed", "added", "kept", "applied_seq"])
    );
    let unrelated = comparable_columns(&old, &spec(7, NEW_COLUMNS, None));
    assert_eq!(
        unrelated.map_err(|e| e.to_string()),
        Err(
            "neither pair_v1 nor pair_v7 declares that it replaces the other, \
             so nothing says which columns must be equal"
                .to_owned()
        )
    );
}

#[test]
fn one_fold_is_one_code_and_the_same_columns() {
    let old = spec(1, OLD_COLUMNS, None);
    let new = spec(2, NEW_COLUMNS, Some(1));
    // Neither the code alone nor the columns alone make a fold.
    let same_code = ProjectionSpec {
        code: old.code,
        ..new.clone()
    };
    let same_columns = ProjectionSpec {
        columns: NEW_COLUMNS,
        ..old.clone()
    };
    for (from, to) in [(&old, &same_code), (&same_columns, &new)] {
        assert_eq!(
            comparable_columns(from, to),
            Ok(vec!["kept", "applied_seq"])
        );
        let plan = PairPlan::of(from, to).expect("the second replaces the first");
        assert_eq!(plan.differing_columns(), ["fixed"]);
    }
}

#[test]
fn positions_are_compared_where_both_versions_see_the_same_events() {
    let new = ProjectionSpec {
        handles: &["Happened", "Changed"],
        ..spec(2, NEW_COLUMNS, Some(1))
    };
    let plan = PairPlan::of(&spec(1, OLD_COLUMNS, None), &new).expect("it replaces the first");
    assert_eq!(plan.same_columns(), ["kept"]);
    let mut later = new_row(1, 10, 1);
    (later.2, later.3) = (4, 2_000);
    let rows = [old_row(1, 10, 1)];
    let (counts, _) = diff(&plan, &rows, std::slice::from_ref(&later));
    assert_eq!((counts.equal, counts.findings()), (1, 0));
    for (seq, off) in [(4, 1_001), (3, 2_000)] {
        (later.2, later.3) = (seq, off);
        let (counts, _) = diff(&super::tests::plan(), &rows, std::slice::from_ref(&later));
        assert_eq!(counts.unexpected, 1, "{seq} {off}");
    }
}

#[test]
fn a_column_is_the_same_one_by_its_name_and_its_type() {
    const TEXT: &[Column] = &[Column {
        ty: ColumnType::Text,
        ..column("kept", Compare::Same)
    }];
    let refused = PairPlan::of(&spec(1, OLD_COLUMNS, None), &spec(2, TEXT, Some(1)));
    assert_eq!(
        refused
            .expect_err("it is a number in the old one")
            .to_string(),
        "pair_v2 compares its column kept with pair_v1, which has no such column of that type"
    );
}
