//! What the cache holds is accounted for, whatever was done to it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::tests::END;
use super::super::tests::Named;
use super::super::tests::OPTIONS;
use super::super::tests::named_chunk_of;
use super::super::tests::scripts;
use super::*;

fn engine(cache_bytes: usize) -> Apply<Named> {
    let layout = crate::spec::ProjectionSpec::of::<Named>().sum_layout();
    Apply::new(Arc::new(Named), OPTIONS, Sums::zero(&layout), cache_bytes)
}

/// What keys and rows of the cache own.
fn owned(engine: &Apply<Named>) -> usize {
    let slots = engine.cache.iter();
    slots
        .map(|(key, slot)| Key::heap_bytes(key) + slot.row.as_ref().map_or(0, Row::heap_bytes))
        .sum()
}

proptest! {
    #[test]
    fn every_byte_that_keys_and_rows_own_is_counted_once(
        script in scripts(),
        batches in prop::collection::vec((1..9_usize, any::<bool>()), 1..9),
    ) {
        let chunk = named_chunk_of(&script, 3);
        let mut engine = engine(usize::MAX);
        let mut stored = BTreeMap::new();
        let mut start = 0;
        for (events, kept) in batches {
            let asked = engine.missing(&chunk, start, END);
            let found: Vec<_> = asked.iter().filter_map(|key| stored.get(key)).cloned().collect();
            engine.load(&asked, &found).expect("rows read back");
            prop_assert_eq!(engine.heap_bytes, owned(&engine));
            let report = engine.fold(&chunk, start, events, END);
            prop_assert_eq!(engine.heap_bytes, owned(&engine));
            if kept {
                for cells in engine.writes().0.cells() {
                    let key = CellReader::new(cells).next_raw().expect("a key").to_vec();
                    stored.insert(key, cells.to_vec());
                }
                engine.accept();
                start = report.index;
            } else {
                engine.rollback();
            }
            prop_assert_eq!(engine.heap_bytes, owned(&engine));
        }
        // Rows that nobody asked for count with their keys.
        let mut other = self::engine(usize::MAX);
        let rows: Vec<_> = stored.into_values().collect();
        other.load(&[], &rows).expect("rows read back");
        prop_assert_eq!(other.cache.len(), rows.len());
        prop_assert_eq!(other.heap_bytes, owned(&other));
    }
}

/// An engine that folded an event of each of many aggregates with long names.
fn folded(cache_bytes: usize) -> (Apply<Named>, Chunk) {
    let script: Vec<_> = (0..1_000).map(|id| (id, 2)).collect();
    let chunk = named_chunk_of(&script, 1_000);
    let mut engine = engine(cache_bytes);
    assert_eq!(engine.memory_bytes(), 0);
    let asked = engine.missing(&chunk, 0, END);
    engine.load(&asked, &[]).expect("no rows");
    // A name and a place in the table of each.
    let place = size_of::<(String, Slot<<Named as Projection>::Row>)>();
    let least = 1_000 * (1_000 + place);
    let loaded = engine.memory_bytes();
    assert!(
        (least..2 * least).contains(&loaded),
        "{loaded}, not {least}"
    );
    engine.fold(&chunk, 0, usize::MAX, END);
    // What has to be undone if need be has places too, and a name each, which are few bytes
    // for few events and not counted.
    let more = engine.memory_bytes() - loaded;
    assert!((1_000 * place..4_000 * place).contains(&more), "{more}");
    engine.writes();
    engine.accept();
    (engine, chunk)
}

#[test]
fn the_cache_is_kept_up_to_its_limit_and_dropped_as_a_whole_above_it() {
    let (mut engine, chunk) = folded(usize::MAX);
    assert_eq!(engine.missing(&chunk, 0, END).len(), 0);
    let held = engine.memory_bytes();
    let (mut engine, _) = folded(held);
    assert_eq!(engine.missing(&chunk, 0, END).len(), 0);
    let (mut engine, _) = folded(held - 1);
    assert_eq!(engine.missing(&chunk, 0, END).len(), 1_000);
    assert!(engine.memory_bytes() < held / 2);
}
