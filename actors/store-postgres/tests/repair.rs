//! Rows that are put right on Postgres: whole, with their sums, and beside nobody.

mod support;

use refold_domain::fold::WitnessRow;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::conformance::store::fixtures::WIDE_V1;
use refold_ports::conformance::store::fixtures::int_cell;
use refold_ports::conformance::store::fixtures::loaded;
use refold_ports::registry::RegistryError;
use refold_store_postgres::PgRepairer;
use refold_store_postgres::PgVerifier;
use refold_store_postgres::RepairOrder;
use refold_store_postgres::RowChange;
use refold_store_postgres::Wanted;

use support::Postgres;
use support::count;
use support::eventually;
use support::run;

/// Rows of the partition, which are also its offsets.
const HISTORY: i64 = 40;
const FIRST: Partition = Partition(0);

/// A table whose writer is gone, its name, and its right rows.
async fn table(store: &Postgres) -> (String, Vec<Wanted>) {
    let loaded = loaded(store, &WIDE_V1, 0, HISTORY).await;
    drop(loaded.expect("a partition is loaded"));
    let owned =
        "select count(*) from refold.offsets o join pg_stat_activity a on a.pid = o.owner_pid";
    eventually("the writer is gone", async || {
        count(store, owned).await == 0
    })
    .await;
    let id = count(
        store,
        "select id from refold.versions where label = 'wide_v1'",
    )
    .await;
    let keys: Vec<_> = (0..HISTORY + 1).map(int_cell).collect();
    let (at, rows) = look(store, &keys).await;
    assert_eq!((at, rows.len()), (Offset(HISTORY), HISTORY as usize));
    let of = |key: &Vec<u8>| rows.iter().find(|row| row.key == *key).cloned();
    let wanted = keys.iter().map(|key| (key.clone(), of(key)));
    (format!("rm.v{id}_p0"), wanted.collect())
}

async fn look(store: &Postgres, keys: &[Vec<u8>]) -> (Offset, Vec<WitnessRow>) {
    let repairer = PgRepairer::new(&store.options);
    let looked = repairer.look(&WIDE_V1, FIRST, keys);
    looked.await.expect("a snapshot")
}

async fn repair(
    store: &Postgres,
    at: i64,
    wanted: &[Wanted],
) -> Result<Vec<RowChange>, RegistryError> {
    let order = RepairOrder {
        partition: FIRST,
        at: Offset(at),
        wanted,
        actor: "a test",
    };
    let repairer = PgRepairer::new(&store.options);
    repairer.repair(&WIDE_V1, &order).await
}

/// Whether the rows on disk add up to the sums of the mark.
async fn ties(store: &Postgres) -> bool {
    let verifier = PgVerifier::new(&store.options);
    let export = verifier.open_export(&WIDE_V1, FIRST).await;
    let report = export.expect("a snapshot").read(|_| ()).await;
    report.expect("an export").sums_agree()
}

fn refused(outcome: Result<Vec<RowChange>, RegistryError>) -> String {
    match outcome {
        Err(RegistryError::Conflict(sentence)) => sentence,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn rows_that_were_changed_removed_and_added_are_what_they_were() {
    let store = Postgres::fresh().await;
    let (leaf, wanted) = table(&store).await;
    run(
        &store,
        &format!("update {leaf} set total = total + 1 where key in (3, 4)"),
    )
    .await;
    run(
        &store,
        &format!("update {leaf} set key = {HISTORY} where key = 9"),
    )
    .await;
    run(
        &store,
        &format!("update {leaf} set off = off - 1 where key = 11"),
    )
    .await;
    let epoch = "select epoch from refold.offsets where partition = 0";
    let before = count(&store, epoch).await;
    let changes = repair(&store, HISTORY, &wanted).await.expect("a repair");
    let keys: Vec<_> = changes.iter().map(|change| change.key.clone()).collect();
    assert_eq!(keys, [3, 4, 9, 11, HISTORY].map(int_cell));
    assert_eq!(changes[2].before, None);
    assert_eq!(changes[4].after, None);
    let keys: Vec<_> = wanted.iter().map(|(key, _)| key.clone()).collect();
    let (at, mut rows) = look(&store, &keys).await;
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    let mut right: Vec<_> = wanted.iter().filter_map(|(_, row)| row.clone()).collect();
    right.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!((at, rows), (Offset(HISTORY), right));
    assert!(ties(&store).await);
    // Whoever wrote before is fenced off; a repair that finds nothing leaves no trace.
    assert!(count(&store, epoch).await > before);
    let before = count(&store, epoch).await;
    assert_eq!(repair(&store, HISTORY, &wanted).await, Ok(vec![]));
    assert_eq!(count(&store, epoch).await, before);
    assert_eq!(
        count(&store, "select count(*) from refold.repairs").await,
        5
    );
}

#[tokio::test]
async fn nothing_is_changed_beside_an_owner_or_behind_a_mark_that_moved() {
    let store = Postgres::fresh().await;
    let (leaf, wanted) = table(&store).await;
    let harm = format!("update {leaf} set total = total + 1 where key = 3");
    run(&store, &harm).await;
    let moved = refused(repair(&store, HISTORY - 1, &wanted).await);
    assert!(moved.contains("a projector went on"), "{moved}");
    let taken = support::owner(&store, &WIDE_V1, FIRST).await;
    let owned = refused(repair(&store, HISTORY, &wanted).await);
    assert!(owned.contains("stop it"), "{owned}");
    assert!(owned.contains("refold writer"), "{owned}");
    drop(taken);
    assert!(!ties(&store).await);
    assert_eq!(
        count(&store, "select count(*) from refold.repairs").await,
        0
    );
}

#[tokio::test]
async fn new_sums_do_not_hide_what_else_is_wrong() {
    let store = Postgres::fresh().await;
    let (leaf, wanted) = table(&store).await;
    run(&store, &format!("update {leaf} set total = total + 1")).await;
    let one: Vec<_> = wanted[3..4].to_vec();
    let refused = refused(repair(&store, HISTORY, &one).await);
    assert!(refused.contains("of total"), "{refused}");
    assert!(!ties(&store).await);
    let changes = repair(&store, HISTORY, &wanted).await.expect("all of them");
    assert_eq!(changes.len(), HISTORY as usize);
    assert!(ties(&store).await);
}
