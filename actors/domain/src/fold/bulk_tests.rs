//! Laws of a bulk fold that gives up keys, hands out snapshots or goes on from one.

use proptest::prelude::*;

use super::tests::*;
use super::*;
use crate::position::Partition;

/// The records `[from, to)` of a chunk as a chunk of their own.
fn part(chunk: &Chunk, from: usize, to: usize) -> Chunk {
    let at = chunk.get(from).map_or(chunk.to(), |record| record.offset);
    let mut part = Chunk::new(Partition(0), at);
    for record in chunk.records().take(to).skip(from) {
        assert!(part.push(record.offset, record.ts_millis, record.key, record.value));
    }
    part
}

proptest! {
    #[test]
    fn keys_that_are_given_up_anywhere_are_folded_later_and_counted_once(
        script in scripts(),
        splits in prop::collection::vec(0..24usize, 0..5),
        holes in 0..2i64,
    ) {
        let chunk = chunk_of(&script, holes);
        let mut engine = erase(Ledger).bulk_fold(OPTIONS);
        prop_assert!(engine.is_whole());
        let mut counted = 0;
        let mut report = FoldReport::before(&chunk, 0);
        for at in 0..script.len() {
            report = engine.fold(&part(&chunk, at, at + 1), 0, END);
            prop_assert_eq!(&report.halt, &None);
            counted += report.applied + report.unhandled;
            for _ in splits.iter().filter(|split| **split == at) {
                let before = engine.keys();
                prop_assert!(engine.give_up_half(report.next));
                prop_assert!(engine.keys() <= before);
                prop_assert!(!engine.is_whole());
            }
        }
        // The first fold's last report counts in `drain` again.
        counted -= report.applied + report.unhandled;
        let (table, later) = drain(engine, &chunk, report);
        prop_assert_eq!(table, bulk(&chunk));
        prop_assert_eq!(counted + later, script.len() as u64);
    }

    #[test]
    fn a_snapshot_taken_anywhere_is_where_another_fold_goes_on(
        script in scripts(),
        cut in 0..24usize,
    ) {
        let cut = cut.min(script.len());
        let chunk = chunk_of(&script, 0);
        let mut engine = erase(Ledger).bulk_fold(OPTIONS);
        engine.fold(&part(&chunk, 0, cut), 0, END);
        let mut run = SnapshotRun::new(&ProjectionSpec::of::<Ledger>());
        let mut rows = Vec::new();
        while let Some(bytes) = engine.next_snapshot_tuples(48, &mut run) {
            rows.extend(split_tuples(&bytes));
        }
        prop_assert_eq!((run.rows, rows.len()), (engine.keys() as u64, engine.keys()));
        prop_assert_eq!(run.sums.clone(), bulk(&part(&chunk, 0, cut)).sums);

        // The fold that was looked at goes on as if nothing had been.
        let report = engine.fold(&part(&chunk, cut, script.len()), 0, END);
        let whole = bulk(&chunk);
        prop_assert_eq!(&drain(engine, &chunk, report).0, &whole);

        // So does another one that was given the rows, even from further back.
        for overlap in 0..=cut {
            let mut other = erase(Ledger).bulk_fold(OPTIONS);
            other.load(&rows).expect("rows read back");
            let report = other.fold(&part(&chunk, cut - overlap, script.len()), 0, END);
            prop_assert_eq!(&drain(other, &chunk, report).0, &whole);
        }
    }
}

#[test]
fn memory_is_what_keys_rows_and_their_order_take_and_comes_back_with_the_keys() {
    let script: Script = (0..50_000).map(|id| (id, 2)).collect();
    let chunk = chunk_of(&script, 0);
    let mut engine = erase(Ledger).bulk_fold(OPTIONS);
    let empty = engine.memory_bytes();
    let report = engine.fold(&chunk, 0, END);
    let full = engine.memory_bytes();
    // A key, a row, a position, the row's text, and sixteen bytes for the order.
    let least = 50_000 * (8 + 32 + 16 + 5 + 16);
    assert!(full - empty > least, "{full} bytes, at least {least}");
    assert!(
        full - empty < 3 * least,
        "{full} bytes, at most thrice {least}"
    );
    assert!(engine.give_up_half(report.next));
    let half = engine.memory_bytes();
    assert!(half < full * 6 / 10, "{half} of {full} bytes");
    assert!(engine.keys() > 24_000 && engine.keys() < 26_000);
}

#[test]
fn an_event_of_a_key_that_was_given_up_halts_the_history_of_all_keys() {
    // Deposits of something that is no number, by every key there is.
    for poisoned in 0..8 {
        let good = chunk_of(&(0..8).map(|id| (id, 2)).collect::<Script>(), 0);
        let mut chunk = Chunk::new(Partition(0), Offset(0));
        for record in good.records() {
            let mut value = record.value.expect("a value").to_vec();
            if record.offset == Offset(poisoned) {
                let digit = value.len() - 1;
                assert_eq!(value[digit], b'2');
                value[digit] = b'x';
            }
            assert!(chunk.push(record.offset, 0, record.key, Some(&value)));
        }
        for halves in 0..4 {
            let mut engine = erase(Ledger).bulk_fold(OPTIONS);
            (0..halves).for_each(|_| assert!(engine.give_up_half(Offset(0))));
            let report = engine.fold(&chunk, 0, END);
            assert_eq!(report.next, Offset(poisoned), "after {halves} halves");
            assert_eq!(report.halt.map(|h| h.offset), Some(Offset(poisoned)));
        }
    }
}

#[test]
fn a_fold_of_keys_that_were_given_up_is_not_the_whole_history() {
    let script: Script = (0..100).map(|id| (id, 2)).collect();
    let chunk = chunk_of(&script, 0);
    let mut engine = erase(Ledger).bulk_fold(OPTIONS);
    let report = engine.fold(&chunk, 0, END);
    assert!(engine.is_whole());
    assert!(engine.give_up_half(report.next));
    let mut run = engine.into_tuples();
    while run.next_tuples(1 << 20).is_some() {}
    let rest = run.rest().expect("half of the keys");
    assert!(!rest.is_whole());
}

#[test]
fn rows_are_handed_out_until_they_are_as_many_bytes_as_was_asked_for() {
    let script: Script = (0..10).map(|id| (id, 2)).collect();
    let chunk = chunk_of(&script, 0);
    let folded = || {
        let mut engine = erase(Ledger).bulk_fold(OPTIONS);
        engine.fold(&chunk, 0, END);
        engine
    };
    let all = folded()
        .into_tuples()
        .next_tuples(1 << 20)
        .expect("ten rows");
    let row = all.len() / 10;
    for (bytes, rows) in [(1, 1), (2 * row - 1, 2), (2 * row, 2), (2 * row + 1, 3)] {
        let lengths = |next: &mut dyn FnMut() -> Option<Vec<u8>>| {
            let mut left = 10;
            while let Some(tuples) = next() {
                assert_eq!(tuples.len(), row * rows.min(left), "{bytes}");
                left -= rows.min(left);
            }
            assert_eq!(left, 0);
        };
        let mut run = folded().into_tuples();
        lengths(&mut || run.next_tuples(bytes));
        let engine = folded();
        let mut run = SnapshotRun::new(&ProjectionSpec::of::<Ledger>());
        lengths(&mut || engine.next_snapshot_tuples(bytes, &mut run));
    }
}

/// Events are decoded a group ahead of those that are applied.
#[test]
fn each_event_of_many_groups_is_folded_once_and_in_its_turn() {
    for length in [23, 24, 25, 47, 48, 49, 72, 100] {
        let script: Script = (0..length).map(|i| (i % 7, 2)).collect();
        let chunk = chunk_of(&script, 0);
        let report = erase(Ledger).bulk_fold(OPTIONS).fold(&chunk, 0, END);
        let counts = (report.applied, report.duplicates, report.unhandled);
        assert_eq!(counts, (length as u64, 0, 0), "{length} events");
        assert_eq!((report.index, report.next), (chunk.len(), Offset(length)));
    }
}
