//! Verification on Postgres: rows compared at one offset while both versions go on.

mod support;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_ports::conformance::store::fixtures::PARTITIONS;
use refold_ports::conformance::store::fixtures::Picture;
use refold_ports::conformance::store::fixtures::WIDE_V1;
use refold_ports::conformance::store::fixtures::WIDE_V2;
use refold_ports::conformance::store::fixtures::WIDE_V3;
use refold_ports::conformance::store::fixtures::int_cell;
use refold_ports::conformance::store::fixtures::loaded;
use refold_ports::conformance::store::fixtures::writer_of;
use refold_ports::registry::RegistryError;
use refold_ports::sink::PartitionWriter;
use refold_ports::sink::StoreError;
use refold_store_postgres::PgVerifier;
use refold_store_postgres::ScanOptions;
use tokio::task::JoinHandle;

use support::Postgres;
use support::count;
use support::eventually;
use support::new_leaf;
use support::run;
use support::scan;

/// Rows of each partition's history, which are also its first offsets.
const HISTORY: i64 = 40;

/// Rows of a history that takes many pages.
const LONG: i64 = 8_000;

/// How long a writer waits before it sends a batch again.
const BACK_OFF: Duration = Duration::from_millis(5);

struct Written {
    writer: Box<dyn PartitionWriter>,
    picture: Picture,
    rows: i64,
    next: i64,
}

impl Written {
    async fn load(store: &Postgres, spec: &ProjectionSpec, partition: i32, rows: i64) -> Self {
        let loaded = loaded(store, spec, partition, rows).await;
        let (writer, picture) = loaded.expect("a partition is loaded");
        Self {
            writer,
            picture,
            rows,
            next: rows,
        }
    }

    /// Applies the events of `[next, to)`, cut and repeated as a projector does it.
    async fn apply(&mut self, to: i64) {
        let mut to = to;
        loop {
            let mut after = self.picture.clone();
            for off in self.next..to {
                let key = int_cell(off * 7 % self.rows);
                after.put(&key, off, off, off).expect("a row");
            }
            let batch = after.batch(self.next, to).expect("a batch");
            match self.writer.commit(&batch).await {
                Ok(_) => {
                    (self.picture, self.next) = (after, to);
                    return;
                }
                Err(StoreError::CutAt { at }) => to = at.0,
                // A projector backs off as well; a busy loop would starve the other side.
                Err(StoreError::Retry(_)) => tokio::time::sleep(BACK_OFF).await,
                Err(error) => panic!("the writer met {error}"),
            }
        }
    }

    /// Goes on in steps of up to `step` events, as far as the log goes, until it is told to stop.
    fn follow(mut self, step: i64, log: &Arc<Log>) -> JoinHandle<Self> {
        let log = Arc::clone(log);
        tokio::spawn(async move {
            while !log.stop.load(Ordering::Acquire) {
                let end = log.end.load(Ordering::Acquire);
                if self.next == end {
                    // Whoever is at the tail brings the next events.
                    log.end.fetch_max(end + 5, Ordering::AcqRel);
                }
                let to = (self.next + step).min(log.end.load(Ordering::Acquire));
                self.apply(to).await;
            }
            self
        })
    }
}

/// A log that grows at its tail.
struct Log {
    end: AtomicI64,
    stop: AtomicBool,
}

async fn both_loaded(store: &Postgres) -> Vec<(Written, Written)> {
    both_loaded_with(store, HISTORY).await
}

async fn both_loaded_with(store: &Postgres, rows: i64) -> Vec<(Written, Written)> {
    let mut pairs = Vec::new();
    for partition in 0..PARTITIONS {
        let old = Written::load(store, &WIDE_V1, partition, rows).await;
        let new = Written::load(store, &WIDE_V2, partition, rows).await;
        pairs.push((old, new));
    }
    pairs
}

#[tokio::test]
async fn a_quiet_pair_is_compared_without_holding_anything() {
    let store = Postgres::fresh().await;
    both_loaded(&store).await;
    let report = scan(&store, &ScanOptions::default()).await;
    let report = report.expect("a scan");
    assert_eq!(report.findings(), 0, "{report:?}");
    assert_eq!(
        report.rows(),
        (HISTORY * i64::from(PARTITIONS)).unsigned_abs()
    );
    assert_eq!(report.offset_sum(), HISTORY * i64::from(PARTITIONS));
    assert!(report.partitions.iter().all(|p| p.held_ms == 0.0));
    let recorded = "select count(*) from refold.verifications
        where differences = 0 and finished_at is not null and rows > 0";
    assert_eq!(count(&store, recorded).await, 1);
    let scanned = "select count(*) from refold.versions a, refold.versions b,
        lateral refold.latest_scan(a.id, b.id) s
        where a.label = 'wide_v2' and b.label = 'wide_v1' and s.findings = 0 and s.age_seconds >= 0";
    assert_eq!(count(&store, scanned).await, 1);
    run(
        &store,
        "update refold.versions set code_hash = 'changed' where label = 'wide_v2'",
    )
    .await;
    assert_eq!(
        count(&store, scanned).await,
        0,
        "a scan by other code proves nothing"
    );
}

#[tokio::test]
async fn a_partition_that_does_not_fit_is_read_class_by_class() {
    let store = Postgres::fresh().await;
    both_loaded(&store).await;
    let leaf = new_leaf(&store, 0).await;
    run(
        &store,
        &format!("update {leaf} set total = total + 1 where key = 9"),
    )
    .await;
    let narrow = ScanOptions {
        memory: 4_096,
        workers: 1,
        ..ScanOptions::default()
    };
    let report = scan(&store, &narrow).await.expect("a scan");
    let first = &report.partitions[0];
    assert!(first.passes > 2, "{first:?}");
    assert_eq!(first.keys(), HISTORY.unsigned_abs());
    assert_eq!((first.unexpected, first.untied.len()), (1, 1));
    assert_eq!(first.rows_old, HISTORY.unsigned_abs());
}

#[tokio::test]
async fn versions_that_go_on_are_compared_at_one_offset_each() {
    compare_while_they_go_on(HISTORY, None, 5).await;
}

#[tokio::test]
async fn a_scan_that_keeps_to_a_rate_meets_every_row_once_while_they_move() {
    compare_while_they_go_on(LONG, Some(100_000), 2).await;
}

/// Scans both versions, of `rows` in each partition, so many times while both are written.
async fn compare_while_they_go_on(rows: i64, rate: Option<u64>, times: usize) {
    let store = Postgres::fresh().await;
    let (mut logs, mut followers) = (Vec::new(), Vec::new());
    for (old, new) in both_loaded_with(&store, rows).await {
        let log = Arc::new(Log {
            end: AtomicI64::new(rows),
            stop: AtomicBool::new(false),
        });
        // Steps that rarely meet, so that equal marks have to be made.
        followers.push(old.follow(3, &log));
        followers.push(new.follow(7, &log));
        logs.push(log);
    }
    let patient = ScanOptions {
        // The machine may be busy with other tests.
        hold: Duration::from_secs(60),
        rate,
        ..ScanOptions::default()
    };
    for _ in 0..times {
        let report = scan(&store, &patient).await.expect("a scan");
        assert_eq!(report.findings(), 0, "{report:?}");
        for partition in &report.partitions {
            assert!(partition.at >= rows);
            assert_eq!(partition.rows_old, rows.unsigned_abs());
            assert_eq!(partition.rows_new, rows.unsigned_abs());
        }
    }
    assert_eq!(count(&store, "select count(*) from refold.parks").await, 0);
    let before = count(&store, "select min(next_offset) from refold.offsets").await;
    let moved = "select min(next_offset) from refold.offsets";
    while count(&store, moved).await <= before {
        tokio::task::yield_now().await;
    }
    for log in logs {
        log.stop.store(true, Ordering::Release);
    }
    for follower in followers {
        follower.await.expect("a projector ends well");
    }
}

#[tokio::test]
async fn a_scan_that_keeps_to_a_rate_asks_for_pages_and_not_for_whole_leaves() {
    let store = Postgres::fresh().await;
    both_loaded_with(&store, LONG).await;
    let (wrong, leaf) = (LONG / 2, new_leaf(&store, 0).await);
    let change = format!("update {leaf} set total = total + 1 where key = {wrong}");
    run(&store, &change).await;
    let scans = "select sum(seq_scan)::bigint from pg_stat_user_tables where schemaname = 'rm'";
    let read = "select sum(seq_tup_read)::bigint from pg_stat_user_tables where schemaname = 'rm'";
    let before = (count(&store, scans).await, count(&store, read).await);
    let rate = 100_000;
    let options = ScanOptions {
        rate: Some(rate),
        workers: 1,
        ..ScanOptions::default()
    };
    let report = scan(&store, &options).await.expect("a scan");
    let keys: Vec<_> = report.partitions.iter().flat_map(|p| &p.found).collect();
    assert_eq!(keys.len(), 1, "{report:?}");
    assert_eq!(keys[0].key, wrong.to_string());
    let rows = LONG * i64::from(PARTITIONS);
    assert_eq!(report.rows(), rows.unsigned_abs());
    // Both sides are read, and a bucket holds a hundredth of a second's rows.
    let least = (2 * rows) as f64 / rate as f64 - 0.01;
    assert!(report.seconds >= least, "{} of {least} s", report.seconds);
    // A session that ended has counted what it read.
    let counted = async || count(&store, read).await - before.1 >= 2 * rows;
    eventually("the rows are counted", counted).await;
    // Those who loaded a leaf may be counted late; a scan for each portion would be far more.
    let whole = count(&store, scans).await - before.0;
    assert!(
        whole <= 2 * i64::from(PARTITIONS),
        "{whole} scans of a whole leaf"
    );
}

#[tokio::test]
async fn a_row_that_was_changed_behind_the_projector_is_found_and_named() {
    let store = Postgres::fresh().await;
    both_loaded(&store).await;
    let leaf = new_leaf(&store, 1).await;
    run(
        &store,
        &format!("update {leaf} set total = total + 1 where key = 17"),
    )
    .await;
    let report = scan(&store, &ScanOptions::default()).await.expect("a scan");
    let partition = &report.partitions[1];
    assert_eq!(partition.unexpected, 1);
    assert_eq!(partition.found[0].key, "17");
    assert!(
        partition.found[0].detail.starts_with("total is "),
        "{report:?}"
    );
    assert_eq!(partition.untied, ["wide_v2.total"]);
    assert_eq!(report.findings(), 2);
    run(
        &store,
        &format!("update {leaf} set total = total - 1 where key = 17"),
    )
    .await;
    run(&store, &format!("delete from {leaf} where key = 3")).await;
    let report = scan(&store, &ScanOptions::default()).await.expect("a scan");
    let partition = &report.partitions[1];
    assert_eq!((partition.unexpected, partition.only_old), (0, 1));
    assert_eq!(partition.untied[0], "wide_v2: number of rows");
    let latest = "select s.findings from refold.versions a, refold.versions b,
        lateral refold.latest_scan(a.id, b.id) s where a.label = 'wide_v2' and b.label = 'wide_v1'";
    assert_eq!(count(&store, latest).await, report.findings().cast_signed());
    let verifier = PgVerifier::new(&store.options);
    // The sums came in with the events: they show that the disk says something else.
    let export = verifier.open_export(&WIDE_V2, Partition(1)).await;
    let report = export.expect("a snapshot").read(|_| ()).await;
    assert!(!report.expect("an export").sums_agree());
    let export = verifier.open_export(&WIDE_V2, Partition(0)).await;
    let report = export.expect("a snapshot").read(|_| ()).await;
    assert!(report.expect("an export").sums_agree());
}

#[tokio::test]
async fn a_version_that_nobody_moves_is_named_and_nothing_stays_held() {
    let store = Postgres::fresh().await;
    let mut pairs = both_loaded(&store).await;
    let (old, _) = &mut pairs[0];
    old.apply(HISTORY + 5).await;
    let options = ScanOptions {
        hold: Duration::from_millis(50),
        ..ScanOptions::default()
    };
    let refused = scan(&store, &options).await;
    let Err(RegistryError::Conflict(sentence)) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        sentence.starts_with("wide_v2 stands at 40 in p0"),
        "{sentence}"
    );
    assert_eq!(count(&store, "select count(*) from refold.parks").await, 0);
    old.apply(HISTORY + 9).await;
}

#[tokio::test]
async fn a_verifier_that_dies_frees_its_partition_when_its_lease_ends() {
    let store = Postgres::fresh().await;
    let mut pairs = both_loaded(&store).await;
    let (old, _) = &mut pairs[0];
    old.apply(HISTORY + 5).await;
    let options = ScanOptions {
        hold: Duration::from_secs(1),
        ..ScanOptions::default()
    };
    let verifier = PgVerifier::new(&store.options);
    let verifying = tokio::spawn(async move {
        let run = verifier.scan_pair(&WIDE_V1, &WIDE_V2, &options, None);
        run.await
    });
    while count(&store, "select count(*) from refold.parks").await == 0 {
        tokio::task::yield_now().await;
    }
    verifying.abort();
    // Refused while the lease lives, then through; the old mark is where it was parked.
    old.apply(HISTORY + 9).await;
    assert_eq!(old.writer.lease().next, Offset(HISTORY + 9));
    assert_eq!(count(&store, "select count(*) from refold.parks").await, 2);
}

#[tokio::test]
async fn an_export_holds_every_row_of_its_mark_and_ties_the_sums_to_them() {
    let store = Postgres::fresh().await;
    let mut written = Written::load(&store, &WIDE_V1, 0, HISTORY).await;
    written.apply(HISTORY + 30).await;
    written.picture.delete(&int_cell(3), 99, HISTORY + 30);
    written.apply(HISTORY + 31).await;
    let verifier = PgVerifier::new(&store.options);
    let export = verifier.open_export(&WIDE_V1, Partition(0)).await;
    let export = export.expect("a snapshot");
    assert_eq!(export.next(), Offset(HISTORY + 31));
    let mut found = Vec::new();
    // The snapshot is taken: what is written now is not in it.
    written.apply(HISTORY + 50).await;
    let report = export.read(|row| {
        let seq = 8i32
            .to_be_bytes()
            .into_iter()
            .chain(row.applied_seq.to_be_bytes());
        let off = 8i32
            .to_be_bytes()
            .into_iter()
            .chain(row.off.0.to_be_bytes());
        let mut cells = [row.key, row.cells].concat();
        cells.extend(seq.chain(off));
        found.push(cells);
    });
    let report = report.await.expect("an export");
    assert!(report.sums_agree());
    assert_eq!(report.rows, report.stored.rows());
    assert_eq!(report.rows as usize, found.len());
    assert_eq!(report.next, Offset(HISTORY + 31));
}

#[tokio::test]
async fn what_cannot_be_compared_is_refused_with_a_sentence() {
    let store = Postgres::fresh().await;
    both_loaded(&store).await;
    let verifier = PgVerifier::new(&store.options);
    let options = ScanOptions::default();
    let unknown = verifier.scan_pair(&WIDE_V1, &WIDE_V3, &options, None).await;
    assert!(
        matches!(unknown, Err(RegistryError::Conflict(_))),
        "{unknown:?}"
    );
    for partition in 0..PARTITIONS {
        let writer = writer_of(&store, &WIDE_V3, partition).await;
        writer.expect("a building version");
    }
    let loading = verifier.scan_pair(&WIDE_V2, &WIDE_V3, &options, None).await;
    let Err(RegistryError::Conflict(sentence)) = loading else {
        panic!("{loading:?}");
    };
    assert!(sentence.contains("still being loaded"), "{sentence}");
}
