//! Tables that the log bears out, and others.

use refold_accounts::AccountsV3;
use refold_projection::CellValue;
use refold_projection::cell::write_bytes;

use super::*;

fn row(key: i64, balance: i64, applied_seq: u64) -> WitnessRow {
    let (mut cell, mut cells) = (Vec::new(), Vec::new());
    key.write(&mut cell);
    balance.write(&mut cells);
    write_bytes(&mut cells, b"open");
    WitnessRow {
        key: cell,
        cells: Some(cells),
        applied_seq,
        off: Offset(100 + key),
    }
}

fn judged(table: &[WitnessRow], log: &[WitnessRow]) -> Testimony {
    let spec = ProjectionSpec::of::<AccountsV3>();
    let rows = table.iter().map(|row| (row.key.clone(), row.clone()));
    let table = Stored {
        next: Offset(500),
        rows: rows.collect(),
    };
    let mut testimony = Testimony::default();
    compare(&spec, Partition(2), table, log.to_vec(), &mut testimony);
    testimony
}

#[test]
fn rows_that_the_log_bears_out_are_counted_and_not_named() {
    let rows = [row(1, 10, 3), row(2, 20, 4)];
    let found = judged(&rows, &rows);
    assert_eq!((found.keys, found.wrong_keys), (2, 0));
    assert_eq!(found.marks, [("accounts_v3".to_owned(), 2, 500)]);
    let mut closed = row(3, 0, 5);
    closed.cells = None;
    assert_eq!(judged(&[], &[closed]).wrong_keys, 0);
}

#[test]
fn each_way_to_be_wrong_is_told_with_the_side_and_the_column() {
    let mut gone = row(4, 1, 1);
    gone.cells = None;
    let table = [row(1, 11, 3), row(2, 20, 5), row(4, 1, 1), row(9, 9, 9)];
    let log = [row(1, 10, 3), row(2, 20, 4), row(3, 30, 1), gone];
    let found = judged(&table, &log);
    assert_eq!(found.wrong_keys, 5);
    let told: Vec<_> = found.wrong.iter().map(ToString::to_string).collect();
    for sentence in [
        "accounts_v3 p2 key 1: balance is 11, the log says 10",
        "accounts_v3 p2 key 2: its last event is number 5 at offset 102, the log says 4 at 102",
        "accounts_v3 p2 key 3: no row, but the log says that there is one",
        "accounts_v3 p2 key 4: a row, but the log says that there is none",
        "accounts_v3 p2 key 9: a row of an aggregate that the log does not know",
    ] {
        assert!(told.iter().any(|t| t == sentence), "{sentence}: {told:?}");
    }
}

#[test]
fn of_many_wrong_rows_some_are_named_and_all_are_counted() {
    let log: Vec<_> = (0..1_000).map(|key| row(key, 1, 1)).collect();
    let found = judged(&[], &log);
    assert_eq!(found.wrong_keys, 1_000);
    assert_eq!(found.wrong.len(), Testimony::KEPT);
}
