//! What the table holds is accounted for, whatever was done to it.

use proptest::prelude::*;

use super::super::tests::END;
use super::super::tests::Named;
use super::super::tests::OPTIONS;
use super::super::tests::named_chunk_of;
use super::super::tests::scripts;
use super::super::tests::split_tuples;
use super::*;
use crate::fold::SnapshotRun;
use crate::spec::ProjectionSpec;

fn engine() -> Bulk<Named> {
    Bulk::new(Arc::new(Named), OPTIONS)
}

/// What keys and rows of the table own.
fn owned(engine: &Bulk<Named>) -> usize {
    let entries = engine.table.entries();
    entries
        .map(|entry| entry.key.heap_bytes() + entry.slot.row.as_ref().map_or(0, Row::heap_bytes))
        .sum()
}

proptest! {
    #[test]
    fn every_byte_that_keys_and_rows_own_is_counted_once(
        script in scripts(),
        splits in prop::collection::vec(0..24_usize, 0..3),
        cut in 0..24_usize,
    ) {
        let chunk = named_chunk_of(&script, 3);
        let mut engine = engine();
        for at in 0..script.len() {
            engine.fold(&chunk, at, Offset(at as i64 + 1));
            prop_assert_eq!(engine.heap_bytes, owned(&engine));
            if splits.contains(&at) {
                prop_assert!(engine.give_up_half(Offset(at as i64 + 1)));
                prop_assert_eq!(engine.heap_bytes, owned(&engine));
            }
        }
        // Rows of the whole history on top of some of it, in a fold of some of the keys.
        let mut whole = self::engine();
        whole.fold(&chunk, 0, END);
        let mut run = SnapshotRun::new(&ProjectionSpec::of::<Named>());
        let rows = whole.next_snapshot_tuples(1 << 20, &mut run);
        let rows = split_tuples(&rows.expect("there are events"));
        let mut other = self::engine();
        other.fold(&chunk, 0, Offset(cut as i64));
        if !splits.is_empty() {
            prop_assert!(other.give_up_half(Offset(cut as i64)));
        }
        other.load(&rows).expect("rows read back");
        prop_assert_eq!(other.heap_bytes, owned(&other));
        prop_assert!(other.keys() <= rows.len());
    }
}
