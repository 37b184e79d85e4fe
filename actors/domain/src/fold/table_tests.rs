//! The table against a map.

use std::collections::BTreeMap;

use foldhash::fast::RandomState;
use proptest::prelude::*;
use refold_projection::Column;
use refold_projection::Row;
use refold_projection::Uuid;
use refold_projection::cell::CellError;
use refold_projection::cell::CellReader;

use super::table::Entry;
use super::table::SortedPlaces;
use super::table::Table;

/// A row without columns: the table does not look at rows.
#[derive(Debug, Clone, PartialEq)]
struct Nothing;

impl Row for Nothing {
    const COLUMNS: &'static [Column] = &[];
    fn encode(&self, _: &mut Vec<u8>) {}
    fn decode(_: &mut CellReader<'_>) -> Result<Self, CellError> {
        Ok(Self)
    }
}

fn keys_in_order<K: refold_projection::Key>(table: &Table<K, Nothing>) -> Vec<(K, u64)> {
    let mut places = table.sorted();
    let next = || places.next_of(table);
    std::iter::from_fn(next)
        .map(|entry| (entry.key.clone(), entry.slot.version))
        .collect()
}

fn count_visits<K: refold_projection::Key>(table: &mut Table<K, Nothing>, keys: &[K]) {
    for key in keys {
        let hash = table.hash(key);
        table.prefetch_index(hash);
        table.prefetch_entry(hash);
        table.find_or_insert(key, hash).0.slot.version += 1;
    }
}

fn expected<K: refold_projection::Key>(keys: &[K]) -> Vec<(K, u64)> {
    let mut map = BTreeMap::new();
    for key in keys {
        *map.entry(key.clone()).or_insert(0) += 1;
    }
    map.into_iter().collect()
}

proptest! {
    #[test]
    fn a_table_finds_what_a_map_finds_and_sorts_like_one(
        ids in prop::collection::vec(-40_i64..400, 0..2_000),
        texts in prop::collection::vec("[a-c]{0,12}", 0..300),
    ) {
        let mut table = Table::new(RandomState::default());
        count_visits(&mut table, &ids);
        prop_assert_eq!(keys_in_order(&table), expected(&ids));
        let mut table = Table::new(RandomState::default());
        count_visits(&mut table, &texts);
        prop_assert_eq!(keys_in_order(&table), expected(&texts));
    }

    #[test]
    fn what_is_not_retained_is_gone_and_the_rest_is_found(
        ids in prop::collection::vec(any::<i64>(), 0..2_000),
        bits in 1_u32..6,
    ) {
        let mut table = Table::new(RandomState::default());
        count_visits(&mut table, &ids);
        let all = table.len();
        let hasher = table.hasher().clone();
        let wanted = |hash: u64| hash as u32 & ((1 << bits) - 1) == 0;
        let mut gone = 0;
        table.retain(wanted, |_| gone += 1);
        prop_assert_eq!(table.len() + gone, all);
        let kept: Vec<i64> = ids
            .iter()
            .copied()
            .filter(|id| wanted(std::hash::BuildHasher::hash_one(&hasher, id)))
            .collect();
        prop_assert_eq!(keys_in_order(&table), expected(&kept));
        // Found again, not inserted twice.
        let before = table.len();
        count_visits(&mut table, &kept);
        prop_assert_eq!(table.len(), before);
    }
}

proptest! {
    #[test]
    fn what_was_taken_back_was_never_there(
        script in prop::collection::vec((0_i64..600, any::<bool>()), 0..1_500),
    ) {
        let mut table = Table::<i64, Nothing>::new(RandomState::default());
        let mut kept = Vec::new();
        for (key, keep) in script {
            let hash = table.hash(&key);
            let (entry, fresh) = table.find_or_insert(&key, hash);
            entry.slot.version += 1;
            if keep || !fresh {
                kept.push(key);
            } else {
                table.take_back(hash);
            }
        }
        prop_assert_eq!(keys_in_order(&table), expected(&kept));
        prop_assert_eq!(table.entries().count(), table.len());
    }
}

#[test]
fn a_table_of_several_segments_holds_every_key_and_its_bytes_grow_with_it() {
    let mut table: Table<Uuid, Nothing> = Table::new(RandomState::default());
    let key = |n: u64| {
        let mut bytes = [7; 16];
        // Equal in the first eight bytes, so that the order needs the rest.
        bytes[8..].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        Uuid(bytes)
    };
    let keys: Vec<Uuid> = (0..300_000).map(key).collect();
    let mut bytes = table.bytes();
    for part in keys.chunks(100_000) {
        count_visits(&mut table, part);
        assert!(table.bytes() > bytes);
        bytes = table.bytes();
    }
    assert_eq!(table.len(), keys.len());
    assert_eq!(keys_in_order(&table), expected(&keys));
    assert_eq!(table.entries().count(), keys.len());
    assert_eq!(table.entries_from(299_990).count(), 10);
}

#[test]
fn keys_of_one_hash_are_told_apart_and_the_newest_of_them_can_be_taken_back() {
    // Words of the index where their chain begins: at its start, inside, and over its end.
    for word in [0_u64, 7, 60, 63] {
        let hash = word << 32;
        let mut table = Table::<i64, Nothing>::new(RandomState::default());
        for key in 0..20 {
            assert!(table.find_or_insert(&key, hash).1, "{key} is new");
        }
        for key in (0..20).rev() {
            let (entry, fresh) = table.find_or_insert(&key, hash);
            assert_eq!((entry.key, fresh), (key, false));
        }
        assert!(table.find_or_insert(&20, hash).1);
        table.take_back(hash);
        assert_eq!(table.len(), 20);
        // Another key in its place, and the same one behind it.
        assert!(table.find_or_insert(&21, hash).1);
        assert!(table.find_or_insert(&20, hash).1);
        assert!(!table.find_or_insert(&21, hash).1);
        // They stay apart when the index grows.
        for key in 100..400_i64 {
            table.find_or_insert(&key, (key as u64) << 32);
        }
        for key in 0..22 {
            assert!(!table.find_or_insert(&key, hash).1, "{key} of word {word}");
        }
        assert_eq!(table.len(), 322);
    }
}

#[test]
fn a_table_is_as_large_as_its_keys_need_and_three_quarters_of_its_index_are_used() {
    let entry = size_of::<Entry<i64, Nothing>>();
    let table_of = |keys: i64| {
        let mut table = Table::<i64, Nothing>::new(RandomState::default());
        let keys: Vec<_> = (0..keys).collect();
        count_visits(&mut table, &keys);
        table
    };
    assert_eq!(table_of(0).bytes(), 0);
    assert_eq!(table_of(1).bytes(), entry + 64 * 8);
    // Entries are allocated for a power of two of them.
    assert_eq!(table_of(48).bytes(), 64 * entry + 64 * 8);
    assert_eq!(table_of(49).bytes(), 64 * entry + 128 * 8);
    assert_eq!(table_of(96).bytes(), 128 * entry + 128 * 8);
    assert_eq!(table_of(97).bytes(), 128 * entry + 256 * 8);
    // An index that is made anew is at most two thirds full.
    for (keys, entries, words) in [
        (1, 1, 64),
        (42, 64, 64),
        (43, 64, 64),
        (44, 64, 128),
        (1_000, 1_024, 2_048),
    ] {
        let mut table = table_of(keys);
        table.retain(|_| true, |_| ());
        assert_eq!(table.bytes(), entries * entry + words * 8, "{keys}");
    }
    assert_eq!(SortedPlaces::bytes_for(1_000), 16_000);
}
