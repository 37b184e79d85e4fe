//! What a scan records: each partition once, with everything that was found in it.

mod support;

use refold_ports::conformance::store::fixtures::PARTITIONS;
use refold_ports::conformance::store::fixtures::WIDE_V1;
use refold_ports::conformance::store::fixtures::WIDE_V2;
use refold_ports::registry::RegistryError;
use refold_store_postgres::PgVerifier;
use refold_store_postgres::ScanOptions;
use refold_store_postgres::ScanReport;

use support::Postgres;
use support::count;
use support::eventually;
use support::new_leaf;
use support::ready;
use support::run;
use support::scan;

/// Scans that are not finished.
const OPEN: &str = "select count(*) from refold.verifications where finished_at is null";

/// What the latest scan found that speaks against the new version, while it runs as well.
const FINDINGS: &str = "select coalesce(max(s.findings), -1) from refold.versions a,
    refold.versions b, lateral refold.latest_scan(a.id, b.id) s
    where a.label = 'wide_v1' and b.label = 'wide_v2'";

fn one_worker() -> ScanOptions {
    ScanOptions {
        workers: 1,
        ..ScanOptions::default()
    }
}

/// A database with both versions at rest.
async fn both_ready() -> Postgres {
    let store = Postgres::fresh().await;
    ready(&store, &WIDE_V1).await;
    ready(&store, &WIDE_V2).await;
    store
}

/// Has a scan fail at the last partition, whose table is there again afterwards; what resumes it.
async fn stopped(store: &Postgres) -> ScanOptions {
    let leaf = new_leaf(store, PARTITIONS - 1).await;
    run(store, &format!("alter table {leaf} rename to away")).await;
    let failed = scan(store, &one_worker()).await;
    failed.expect_err("a leaf is away");
    let name = leaf.trim_start_matches("rm.");
    run(store, &format!("alter table rm.away rename to {name}")).await;
    let id = "select id::text from refold.verifications where finished_at is null";
    let row = store.client().await.query_one(id, &[]).await;
    ScanOptions {
        resume: Some(row.expect("one scan").get(0)),
        ..one_worker()
    }
}

fn refusal(outcome: Result<ScanReport, RegistryError>) -> String {
    match outcome {
        Err(RegistryError::Conflict(sentence)) => sentence,
        other => panic!("not refused: {other:?}"),
    }
}

/// What a disk does that is slow for longer than a session may wait for a lock (2 s).
const SLOW_RECORD: &str = "
    create sequence refold.slowed;
    create function refold.slow() returns trigger language plpgsql as
        $$ begin perform nextval('refold.slowed'), pg_sleep(2.2); return new; end $$;
    create trigger slow before insert on refold.scan_partitions
        for each row execute function refold.slow()";

#[tokio::test]
async fn workers_that_finish_at_one_moment_do_not_wait_for_each_other() {
    let store = both_ready().await;
    run(&store, SLOW_RECORD).await;
    let options = ScanOptions {
        workers: 2,
        ..ScanOptions::default()
    };
    let report = scan(&store, &options).await.expect("a scan");
    assert_eq!(report.partitions.len(), PARTITIONS as usize);
    let slowed = count(&store, "select last_value from refold.slowed").await;
    assert_eq!(slowed, i64::from(PARTITIONS), "every record was slow");
}

#[tokio::test]
async fn a_scan_that_was_stopped_goes_on_behind_what_it_finished() {
    let store = both_ready().await;
    let again = stopped(&store).await;
    assert_eq!(count(&store, OPEN).await, 1);
    let report = scan(&store, &again).await.expect("the rest");
    assert_eq!(Some(&report.id), again.resume.as_ref());
    assert_eq!(report.partitions.len(), PARTITIONS as usize);
    assert_eq!(count(&store, OPEN).await, 0);
    let totals = "select count(*) from refold.verifications s where (differences, rows, expected) =
        (select sum(differences), sum(rows), sum(expected) from refold.scan_partitions where scan = s.id)";
    assert_eq!(count(&store, totals).await, 1);
    let verifier = PgVerifier::new(&store.options);
    let recorded = verifier.recorded_scan((&WIDE_V1, &WIDE_V2), None).await;
    let recorded = recorded.expect("a finished scan");
    assert_eq!(recorded.partitions, report.partitions);

    let finished = refusal(scan(&store, &again).await);
    assert!(finished.contains("is finished"), "{finished}");
    let unknown = ScanOptions {
        resume: Some("x".to_owned()),
        ..again
    };
    let refused = refusal(scan(&store, &unknown).await);
    assert!(refused.contains("not the id of a scan"), "{refused}");
}

#[tokio::test]
async fn a_scan_that_runs_shows_what_it_found_so_far_and_one_that_found_nothing_is_none_yet() {
    let store = both_ready().await;
    let sound = stopped(&store).await;
    assert_eq!(count(&store, FINDINGS).await, -1);
    scan(&store, &sound).await.expect("the rest");
    assert_eq!(count(&store, FINDINGS).await, 0);

    let leaf = new_leaf(&store, 0).await;
    let break_one =
        format!("update {leaf} set total = total + 1 where key = (select min(key) from {leaf})");
    run(&store, &break_one).await;
    let broken = stopped(&store).await;
    assert_eq!(count(&store, OPEN).await, 1);
    // The key, and the column that does not add up.
    assert_eq!(count(&store, FINDINGS).await, 2);
    let report = scan(&store, &broken).await.expect("the rest");
    assert_eq!(report.findings(), 2);
    assert_eq!(count(&store, FINDINGS).await, 2);
}

/// Has whoever records a partition wait at a gate, and counts who came there.
const GATE: &str = "
    create table public.gate (open boolean);
    create sequence public.arrived;
    create function public.wait() returns trigger language plpgsql as $$
    begin
        perform nextval('public.arrived');
        while not exists (select 1 from public.gate) loop
            perform pg_sleep(0.005);
        end loop;
        return new;
    end $$;
    create trigger wait before insert on refold.scan_partitions
        for each row execute function public.wait()";

#[tokio::test]
async fn of_two_that_resume_one_scan_each_partition_takes_one() {
    let store = both_ready().await;
    let again = stopped(&store).await;
    run(&store, GATE).await;
    let open_for_two = async {
        let arrived = "select case when is_called then last_value else 0 end from public.arrived";
        eventually("both have compared the last partition", async || {
            count(&store, arrived).await == 2
        })
        .await;
        run(&store, "insert into public.gate values (true)").await;
    };
    let (left, right, ()) = tokio::join!(scan(&store, &again), scan(&store, &again), open_for_two);
    let (done, other) = match left {
        Ok(report) => (report, right),
        Err(_) => (right.expect("one goes on"), left),
    };
    assert_eq!(done.partitions.len(), PARTITIONS as usize);
    let refused = refusal(other);
    assert!(refused.contains("somebody else"), "{refused}");
    assert_eq!(count(&store, OPEN).await, 0);
}

#[tokio::test]
async fn a_scan_that_lacks_a_partition_cannot_be_finished() {
    let store = both_ready().await;
    let again = stopped(&store).await;
    // Behind the back of the one that goes on.
    let lose = "
        create function public.lose() returns trigger language plpgsql as $$
        begin delete from refold.scan_partitions where partition = 0; return null; end $$;
        create trigger lose after insert on refold.scan_partitions
            for each row execute function public.lose()";
    run(&store, lose).await;
    let refused = refusal(scan(&store, &again).await);
    assert!(refused.contains("finish the scan"), "{refused}");
    assert_eq!(count(&store, OPEN).await, 1);
    assert_eq!(count(&store, FINDINGS).await, -1);
}
