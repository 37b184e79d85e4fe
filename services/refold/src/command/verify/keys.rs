//! Keys that live in two partitions: what producers leave that disagree on the partitioner.
//!
//! Each of the two rows is the fold of a part of the aggregate's events, and a read finds one of
//! them. Nothing else sees it: each partition by itself is right.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use refold_domain::diff::KeyShare;
use refold_domain::diff::cell_text;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_ports::Registry;
use refold_store_postgres::PgRegistry;
use refold_store_postgres::PgVerifier;
use refold_store_postgres::SessionOptions;

use crate::cli::Failure;
use crate::demo::Comparison;

/// What a key takes while the other partitions are looked through, beside its cell: the map's
/// place, the allocation and the row's place.
const BYTES_PER_KEY: u64 = 96;

/// Keys that are named.
const NAMED: usize = 100;

/// Where a row is: its partition, and the offset of its last event.
type Place = (i32, i64);

/// Looks for keys with rows in two partitions, class by class where they do not fit `memory`
/// bytes. Each partition is read in a snapshot of its own, at its own mark.
///
/// # Errors
/// When a partition has no table yet, or the database is away.
pub(super) async fn apart(
    session: &SessionOptions,
    spec: &ProjectionSpec,
    memory: u64,
) -> Result<Comparison, Failure> {
    let registry = PgRegistry::new(session);
    let version = registry.version(&spec.label()).await?;
    let marks = registry.marks(version.id).await?;
    let rows: u64 = marks.iter().map(|mark| mark.rows).sum();
    let classes = (rows * BYTES_PER_KEY).div_ceil(memory.max(1)).max(1);
    let verifier = PgVerifier::new(session);
    let mut found = Found::default();
    for class in 0..classes {
        let share = KeyShare::new(class, classes);
        let mut seen = HashMap::new();
        for partition in (0..version.log.partitions).map(Partition) {
            let export = verifier.open_export(spec, partition).await?;
            found.offsets.insert(partition.0, export.next().0);
            let read = export.read(|row| {
                if share.has(row.key) {
                    found.see(spec, &mut seen, row.key, (partition.0, row.off.0));
                }
            });
            read.await?;
        }
    }
    Ok(found.into_comparison())
}

#[derive(Default)]
struct Found {
    keys: u64,
    twice: u64,
    named: Vec<String>,
    offsets: BTreeMap<i32, i64>,
}

impl Found {
    fn see(
        &mut self,
        spec: &ProjectionSpec,
        seen: &mut HashMap<Box<[u8]>, Place>,
        key: &[u8],
        place: Place,
    ) {
        match seen.entry(key.into()) {
            Entry::Vacant(vacant) => {
                vacant.insert(place);
                self.keys += 1;
            }
            Entry::Occupied(first) => {
                self.twice += 1;
                if self.named.len() < NAMED {
                    let key = cell_text(spec.key_type.column_type(), key);
                    let ((one, off), (other, other_off)) = (first.get(), place);
                    self.named.push(format!(
                        "key {key} is in p{one}, its last event there at offset {off}, and in p{other}, \
                         its last event there at offset {other_off}"
                    ));
                }
            }
        }
    }

    fn into_comparison(self) -> Comparison {
        Comparison {
            rows: self.keys + self.twice,
            columns: vec!["key".to_owned()],
            differences: self.twice,
            intended: 0,
            intended_expected: 0,
            offsets: self.offsets,
            samples: self.named,
            scan: None,
            rule: (0, 0),
            log: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use refold_accounts::AccountsV3;
    use refold_projection::CellValue;

    use super::*;

    #[test]
    fn a_key_in_two_partitions_is_named_with_both_and_one_in_one_is_not() {
        let spec = ProjectionSpec::of::<AccountsV3>();
        let cell = |key: i64| {
            let mut cell = Vec::new();
            key.write(&mut cell);
            cell
        };
        let (mut found, mut seen) = (Found::default(), HashMap::new());
        for (key, place) in [(7, (0, 40)), (8, (0, 41)), (9, (1, 3)), (7, (2, 5))] {
            found.see(&spec, &mut seen, &cell(key), place);
        }
        let found = found.into_comparison();
        assert_eq!((found.rows, found.differences), (4, 1));
        assert_eq!(
            found.samples,
            [
                "key 7 is in p0, its last event there at offset 40, and in p2, its last event there at offset 5"
            ]
        );
    }
}
