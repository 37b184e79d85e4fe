//! The witness agrees with the engines that it testifies about, and is its own.

use proptest::prelude::*;
use refold_projection::cell::CellReader;
use refold_proto::decode_plain;

use super::tests::END;
use super::tests::Ledger;
use super::tests::OPTIONS;
use super::tests::chunk_of;
use super::tests::split_tuples;
use super::*;
use crate::diff::KeyShare;
use crate::position::Partition;

/// What the witness says of the chunk's records.
fn testify(chunk: &Chunk, keys: impl Into<Keys>) -> Vec<WitnessRow> {
    witness_of(chunk, keys.into()).rows()
}

fn cell_of_id(id: i64) -> Vec<u8> {
    let mut cell = Vec::new();
    refold_projection::KeyRef::Int(id).write_cell(&mut cell);
    cell
}

/// A witness that saw the chunk's records.
fn witness_of(chunk: &Chunk, keys: Keys) -> Box<dyn WitnessFold> {
    let mut witness = erase(Ledger).witness(keys);
    for record in (0..chunk.len()).filter_map(|at| chunk.get(at)) {
        let value = record.value.expect("every record has a value");
        let event = decode_plain(OPTIONS.wire, value).expect("an envelope");
        witness.event(&event, record.offset).expect("an event");
    }
    witness
}

/// The same of the bulk engine: key, cells, version and offset as cells, by key.
fn folded(chunk: &Chunk) -> Vec<WitnessRow> {
    let mut fold = erase(Ledger).bulk_fold(OPTIONS);
    assert_eq!(fold.fold(chunk, 0, END).halt, None);
    let mut run = fold.into_tuples();
    let mut rows = Vec::new();
    while let Some(tuples) = run.next_tuples(1 << 16) {
        rows.extend(split_tuples(&tuples).iter().map(|cells| row_of(cells)));
    }
    rows
}

fn row_of(cells: &[u8]) -> WitnessRow {
    let mut reader = CellReader::new(cells);
    let key = reader.next_raw().expect("a key").to_vec();
    let start = reader.rest();
    (0..2).for_each(|_| assert!(reader.next_raw().is_ok()));
    let columns = start[..start.len() - reader.rest().len()].to_vec();
    let mut number = || {
        let cell = reader.next_cell().expect("a cell").expect("a number");
        i64::from_be_bytes(cell.try_into().expect("eight bytes"))
    };
    let (version, offset) = (number(), number());
    let deleted = reader.next_cell().expect("a cell") == Some(&[1][..]);
    WitnessRow {
        key,
        cells: (!deleted).then_some(columns),
        applied_seq: version.cast_unsigned(),
        off: Offset(offset),
    }
}

proptest! {
    #[test]
    fn the_witness_and_the_bulk_engine_say_the_same(
        script in prop::collection::vec((0i64..20, 0u8..6), 0..200),
        holes in 0i64..3,
    ) {
        let chunk = chunk_of(&script, holes);
        let rows = testify(&chunk, KeyShare::new(0, 1));
        prop_assert_eq!(&rows, &folded(&chunk));
        let witness = witness_of(&chunk, Keys::all());
        for row in rows {
            prop_assert_eq!(witness.row(&row.key.clone()), Some(row));
        }
        for unknown in [&cell_of_id(99)[..], b"", b"\0\0\0\x01x"] {
            prop_assert_eq!(witness.row(unknown), None);
        }
    }

    #[test]
    fn the_shares_of_all_classes_make_the_whole(
        script in prop::collection::vec((0i64..50, 0u8..6), 0..200),
    ) {
        let chunk = chunk_of(&script, 0);
        let mut shared: Vec<_> = (0..3)
            .flat_map(|class| testify(&chunk, KeyShare::new(class, 3)))
            .collect();
        shared.sort_by(|a, b| a.key.cmp(&b.key));
        prop_assert_eq!(shared, testify(&chunk, KeyShare::new(0, 1)));
    }

    #[test]
    fn named_keys_are_folded_as_among_all_others_and_no_other_is(
        script in prop::collection::vec((0i64..50, 0u8..6), 0..200), every in 1_usize..5,
    ) {
        let chunk = chunk_of(&script, 0);
        let all = testify(&chunk, Keys::all());
        let some: Vec<_> = all.into_iter().step_by(every).collect();
        let keys = some.iter().map(|row| row.key.clone());
        // A key that no event is of is named too.
        let keys = Keys::these(keys.chain([b"nobody".to_vec()]));
        prop_assert_eq!(testify(&chunk, keys), some);
    }
}

#[test]
fn an_event_that_was_written_twice_counts_once() {
    let once = chunk_of(&[(7, 2), (7, 3)], 0);
    let mut twice = Chunk::new(Partition(0), Offset(0));
    for (at, index) in [0, 1, 0, 1].into_iter().enumerate() {
        let record = once.get(index).expect("a record");
        assert!(twice.push(Offset(at as i64), 0, b"7", record.value));
    }
    let all = KeyShare::new(0, 1);
    assert_eq!(testify(&twice, all), testify(&once, all));
}

#[test]
fn what_the_author_cannot_read_is_told() {
    let mut witness = erase(Ledger).witness(Keys::all());
    let event = refold_proto::PlainEnvelope {
        id: refold_proto::PlainId::Text("seven".to_owned()),
        version: 1,
        kind: "Add".to_owned(),
        ts_micros: 0,
        payload: refold_proto::PlainPayload::Proto(b"1".to_vec()),
    };
    assert!(witness.event(&event, Offset(0)).is_err());
    let event = refold_proto::PlainEnvelope {
        id: refold_proto::PlainId::Int(7),
        payload: refold_proto::PlainPayload::Proto(b"one".to_vec()),
        ..event
    };
    assert!(witness.event(&event, Offset(0)).is_err());
}

#[test]
fn a_number_that_json_quotes_is_the_same_key() {
    let mut witness = erase(Ledger).witness(Keys::all());
    let mut event = refold_proto::PlainEnvelope {
        id: refold_proto::PlainId::Int(7),
        version: 1,
        kind: "Add".to_owned(),
        ts_micros: 0,
        payload: refold_proto::PlainPayload::Proto(b"1".to_vec()),
    };
    witness.event(&event, Offset(0)).expect("a number");
    event.version = 2;
    event.id = refold_proto::PlainId::Text("7".to_owned());
    assert_eq!(witness.event(&event, Offset(1)), Ok(true));
    // Once more: nothing moves.
    assert_eq!(witness.event(&event, Offset(2)), Ok(false));
    let rows = witness.rows();
    assert_eq!((rows.len(), rows[0].applied_seq), (1, 2));
    for text in ["007", "+7", "-0", " 7", ""] {
        event.id = refold_proto::PlainId::Text(text.to_owned());
        assert!(witness.event(&event, Offset(2)).is_err(), "{text:?}");
    }
}
