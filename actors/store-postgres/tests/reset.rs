//! A version that is built again on Postgres: nothing of before is left, and nobody of before writes.

mod support;

use std::sync::Arc;

use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_domain::version::VersionId;
use refold_domain::version::VersionState;
use refold_ports::Registry;
use refold_ports::conformance::store::StoreHarness;
use refold_ports::conformance::store::fixtures::PARTITIONS;
use refold_ports::conformance::store::fixtures::WIDE_V1;
use refold_ports::conformance::store::fixtures::WIDE_V2;
use refold_ports::conformance::store::fixtures::WIDE_V2_CHANGED;
use refold_ports::conformance::store::fixtures::writer_of;
use refold_ports::registry::RegistryError;
use refold_ports::registry::ResetRequest;
use refold_ports::sink::Sink;
use refold_ports::sink::StoreError;
use refold_ports::sink::TakeOver;
use refold_store_postgres::PgRegistry;
use refold_store_postgres::PgVerifier;
use refold_store_postgres::ScanOptions;

use support::Postgres;
use support::compared;
use support::count;
use support::one_behind_the_other;
use support::ready;
use support::run;
use support::scan;
use support::waiting;

/// Tables and views of the second version.
const RELATIONS: &str = "select count(*) from pg_class c join refold.versions v
    on c.relname = v.label or c.relname ~ format('^v%s_p', v.id)
    where v.label = 'wide_v2' and c.relkind in ('r', 'v')";

/// Scans that a promotion could rest on.
const SCANS: &str = "select count(*) from refold.versions a, refold.versions b,
    lateral refold.latest_scan(a.id, b.id) s where a.label = 'wide_v1' and b.label = 'wide_v2'";

fn again(version: VersionId, spec: &ProjectionSpec) -> ResetRequest {
    ResetRequest {
        version,
        spec: spec.clone(),
        actor: "test".to_owned(),
        reason: "once more".to_owned(),
    }
}

async fn fail_and_reset(store: &Postgres, version: VersionId, spec: &ProjectionSpec) {
    let registry = store.registry();
    let failed = registry.fail(version, "the fold is wrong").await;
    failed.expect("it is a build");
    let reset = registry.reset(&again(version, spec)).await;
    reset.expect("nobody reads it");
}

fn refusal<T: std::fmt::Debug>(outcome: Result<T, RegistryError>) -> String {
    match outcome {
        Err(RegistryError::Conflict(sentence)) => sentence,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn what_was_built_found_and_scanned_before_a_reset_is_gone() {
    let store = Postgres::fresh().await;
    ready(&store, &WIDE_V1).await;
    let new = ready(&store, &WIDE_V2).await;
    let verifier = PgVerifier::new(&store.options);
    let report = scan(&store, &ScanOptions::default()).await;
    let report = report.expect("a scan");
    let of_pair = (&WIDE_V1, &WIDE_V2);
    let recorded = verifier.recorded_scan(of_pair, None).await;
    assert_eq!(recorded.expect("it is recorded").id, report.id);
    assert_eq!(count(&store, RELATIONS).await, i64::from(PARTITIONS) + 1);
    assert_eq!(count(&store, SCANS).await, 1);

    let found = format!(
        "insert into refold.gaps (version, partition, at_offset, key, expected, found)
             values ({new}, 0, 5, 'an account', 2, 4);
         insert into refold.parked_events (version, partition, at_offset, key, reason)
             values ({new}, 1, 6, 'another one', 'no such event')"
    );
    run(&store, &found).await;
    let put_aside = "select (select count(*) from refold.gaps)
        + (select count(*) from refold.parked_events)";
    assert_eq!(count(&store, put_aside).await, 2);

    fail_and_reset(&store, new, &WIDE_V2).await;
    assert_eq!(count(&store, RELATIONS).await, 0);
    assert_eq!(count(&store, put_aside).await, 0);
    // The same code and the same rows once more: the scan was of the rows of before.
    assert_eq!(ready(&store, &WIDE_V2).await, new);
    assert_eq!(count(&store, RELATIONS).await, i64::from(PARTITIONS) + 1);
    assert_eq!(count(&store, SCANS).await, 0);
    refusal(verifier.recorded_scan(of_pair, None).await);
    run(&store, "update refold.verifications set finished_at = null").await;
    let resumed = ScanOptions {
        resume: Some(report.id),
        ..ScanOptions::default()
    };
    let refused = refusal(scan(&store, &resumed).await);
    assert!(refused.contains("was reset since"), "{refused}");
    let report = scan(&store, &ScanOptions::default()).await;
    assert_eq!(report.expect("a scan").findings(), 0);
    assert_eq!(count(&store, SCANS).await, 1);
    let told = "select count(*) from refold.audit where action = 'reset' and subject = 'wide_v2'
        and details ->> 'reason' = 'once more' and (details ->> 'tables')::int = 2";
    assert_eq!(count(&store, told).await, 1);
}

#[tokio::test]
async fn a_reset_waits_for_whoever_may_still_read_the_version() {
    let store = Postgres::fresh().await;
    let new = ready(&store, &WIDE_V2).await;
    let reader = store.client().await;
    let old = "begin isolation level repeatable read; select count(*) from public.wide_v2";
    reader.batch_execute(old).await.expect("a reader");
    let registry = store.registry();
    let failed = registry.fail(new, "the fold is wrong").await;
    failed.expect("it is a build");
    let refused = refusal(registry.reset(&again(new, &WIDE_V2)).await);
    assert!(refused.contains("older than the failure"), "{refused}");
    assert_eq!(count(&store, RELATIONS).await, i64::from(PARTITIONS) + 1);
    reader.batch_execute("commit").await.expect("it ends");
    let reset = registry.reset(&again(new, &WIDE_V2)).await;
    reset.expect("nobody reads it");
}

/// A take-over has looked at the version before the reset, and comes to the mark behind it: to one
/// that there was, and to one that it makes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_take_over_by_the_code_of_before_is_refused_behind_a_reset() {
    for partition in [Partition(0), Partition(1)] {
        let store = Postgres::fresh().await;
        let writer = writer_of(&store, &WIDE_V2, 0).await.expect("a mark");
        let version = writer.lease().version;
        drop(writer);
        let resetter = store.client().await;
        let reset = format!(
            "begin; update refold.versions set state = 'failed' where id = {version};
             select refold.reset_version({version}, 'other code', 'bigint', '[]', null, 'test', 'it')"
        );
        resetter.batch_execute(&reset).await.expect("a reset");
        let sink = Arc::new(store.direct_sink());
        let late = tokio::spawn(async move {
            let wanted = TakeOver::from_anyone(version, &WIDE_V2, partition, Offset(0));
            sink.take_over(wanted)
                .await
                .map(|writer| writer.lease().epoch)
        });
        waiting(&store, 1).await;
        resetter.batch_execute("commit").await.expect("it is reset");
        match late.await.expect("no panic") {
            Err(StoreError::Refused(reason)) => {
                assert!(reason.contains("other code"), "{reason}");
            }
            other => panic!("{partition} went to the code of before: {other:?}"),
        }
        let owned = "select count(*) from refold.offsets where owner_pid is not null";
        assert_eq!(count(&store, owned).await, 0, "{partition}");
    }
}

/// The other way about: the take-over has made its mark, and the reset waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_that_is_made_while_a_version_is_reset_is_reset_as_well() {
    let store = Postgres::fresh().await;
    let writer = writer_of(&store, &WIDE_V2, 0).await.expect("a mark");
    let version = writer.lease().version;
    drop(writer);
    let taker = store.client().await;
    let take = format!(
        "begin; select refold.take_over({version}, 1, '{}', 0, '\\x01')",
        WIDE_V2.code_hash()
    );
    taker.batch_execute(&take).await.expect("a take-over");
    let registry = PgRegistry::new(&store.options);
    let reset =
        tokio::spawn(async move { registry.reset(&again(version, &WIDE_V2_CHANGED)).await });
    waiting(&store, 1).await;
    taker.batch_execute("commit").await.expect("it is taken");
    reset.await.expect("no panic").expect("it is reset");
    let marks = store.registry().marks(version).await.expect("marks");
    let epochs: Vec<_> = marks.iter().map(|mark| mark.epoch).collect();
    assert_eq!(epochs, [2, 2]);
    let begun = "select count(*) from refold.offsets where sums <> '' or owner_pid is not null";
    assert_eq!(count(&store, begun).await, 0);
}

/// Both wait for the version's row, in the order in which they came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_switch_and_a_reset_at_once_one_is_refused() {
    for switch_first in [true, false, true, false] {
        let store = Postgres::fresh().await;
        let old = ready(&store, &WIDE_V1).await;
        let new = ready(&store, &WIDE_V2).await;
        let registry = PgRegistry::new(&store.options);
        let first = registry.activate_first(old, "test", None).await;
        first.expect("the first version becomes active");
        let order = compared(&registry, (old, &WIDE_V1), (new, &WIDE_V2)).await;
        let (one, other) = (registry.clone(), registry.clone());
        let switch = async move { one.promote(&order, &WIDE_V1, &WIDE_V2).await };
        let reset = async move { other.reset(&again(new, &WIDE_V2)).await };

        let hold = format!("select 1 from refold.versions where id = {new} for update");
        let (switch, reset) =
            one_behind_the_other(&store, &hold, switch_first, switch, reset).await;
        let switched = switch.as_ref().is_ok_and(|promotion| promotion.changed);
        let done = (switched, reset.is_ok());
        assert_eq!(done, (switch_first, !switch_first), "{switch:?}, {reset:?}");
        let active = registry.active("wide").await.expect("an answer");
        let serving = active.map(|a| (a.version, a.generation));
        let state = registry.version("wide_v2").await.expect("a version").state;
        let wanted = match switch_first {
            true => (Some((new, 2)), VersionState::Active),
            false => (Some((old, 1)), VersionState::Building),
        };
        assert_eq!((serving, state), wanted);
    }
}
