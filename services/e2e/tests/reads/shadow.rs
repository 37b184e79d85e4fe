//! A candidate that is asked as well.

use std::time::Duration;
use std::time::Instant;

use refold_e2e::Api;
use refold_e2e::World;
use serde_json::Value;

use super::scene::BOUND;
use super::scene::PAIR;
use super::scene::STREAM;
use super::scene::api;
use super::scene::row;
use super::scene::two_versions;

/// Longest time of a read that waits for nobody. A locked candidate holds its own for a second.
const PROMPT: Duration = Duration::from_millis(500);

fn found(api: &Api, version: &str) -> Value {
    row(&api.get(&format!("/projections/{version}/shadow")))
}

fn count(found: &Value, result: &str) -> u64 {
    found[result].as_u64().expect("a count")
}

fn wait_for(world: &World, api: &Api, version: &str, what: &str, holds: impl Fn(&Value) -> bool) {
    let mut last = Value::Null;
    world.wait(what, BOUND, || {
        last = found(api, version);
        holds(&last)
    });
    println!("{what}: {last}");
}

#[test]
fn a_wrong_row_of_the_candidate_is_seen_by_reads_that_do_not_wait_for_it() {
    let world = World::seeded("shadow", STREAM);
    let [_live, _candidate] = two_versions(&world, PAIR);
    let version = PAIR[1];
    let api = api(&world, &["--shadow", version, "--shadow-share", "100%"]);
    let all = 50;
    for key in 1..=all {
        row(&api.get(&format!("/aggregate/{key}")));
    }
    wait_for(&world, &api, version, "all are equal", |f| {
        count(f, "equal") == all
    });

    // One row is changed behind everybody's back.
    let leaf = {
        let partition = row(&api.get("/aggregate/7"))["partition"].clone();
        format!("rm.v{}_p{partition}", world.version_id(version))
    };
    world.sql(&format!(
        "update {leaf} set balance = balance + 1 where key = 7"
    ));
    row(&api.get("/aggregate/7"));
    wait_for(&world, &api, version, "the wrong row is found", |f| {
        count(f, "differs") >= 1
    });
    let differing = &found(&api, version)["differing"][0];
    assert_eq!(differing["aggregate_id"], "7", "{differing}");
    assert_eq!(differing["kind"], "unexpected", "{differing}");
    let detail = differing["detail"].as_str().unwrap_or_default();
    assert!(detail.starts_with("balance is "), "{detail}");

    // Nothing waits for a candidate whose tables are locked.
    let mut locker = world.session();
    let tables = world.leaves(version).join(", ");
    let lock = format!("begin; lock table {tables} in access exclusive mode");
    locker.ask(&lock).expect("the locks");
    let slowest = (0..600).map(|turn| {
        let asked = Instant::now();
        row(&api.get(&format!("/aggregate/{}", 1 + turn % 100)));
        asked.elapsed()
    });
    let slowest = slowest.max().unwrap_or_default();
    println!("slowest of 600 reads beside a locked candidate: {slowest:?}");
    assert!(slowest < PROMPT, "{slowest:?}");
    wait_for(&world, &api, version, "what is too much is dropped", |f| {
        count(f, "dropped") > 0
    });
    locker.ask("rollback").expect("the end of the locks");
    let equal = count(&found(&api, version), "equal");
    wait_for(&world, &api, version, "it goes on behind the locks", |f| {
        row(&api.get("/aggregate/8"));
        count(f, "equal") > equal
    });
}

#[test]
fn a_difference_that_is_meant_is_expected_and_a_version_behind_is_not_judged() {
    let world = World::seeded("shadow_rule", STREAM);
    let pair = ["accounts_v3", "accounts_v4"];
    let [_live, candidate] = two_versions(&world, pair);
    let api = api(&world, &["-shadow", pair[1], "-shadow-share", "100%"]);
    let differ = world.sql(
        "select a.aggregate_id from accounts_v3 a join accounts_v4 b using (aggregate_id)
         where a.balance <> b.balance order by 1 limit 20",
    );
    assert!(
        differ.len() > 3,
        "the log has too few reversals: {differ:?}"
    );
    for key in &differ {
        row(&api.get(&format!("/aggregate/{}", key[0])));
    }
    let expected = differ.len() as u64;
    wait_for(&world, &api, pair[1], "all are expected", |f| {
        count(f, "expected") == expected
    });
    candidate.stop();
    let mut tail = world.tail(1_000, Duration::from_secs(2)).start();
    tail.succeed(BOUND);
    let ahead = || {
        let all = world.applied(pair[0]);
        all > STREAM.events as i64 && all > world.applied(pair[1])
    };
    world.wait("the serving version is ahead", BOUND, ahead);
    // Those that have an event above the candidate's mark.
    let moved = world.sql(
        "select a.aggregate_id from accounts_v3 a join accounts_v4 b using (aggregate_id)
         where a.applied_offset > b.applied_offset order by 1 limit 20",
    );
    for key in &moved {
        row(&api.get(&format!("/aggregate/{}", key[0])));
    }
    let late = moved.len() as u64;
    assert!(late > 3, "{moved:?}");
    wait_for(&world, &api, pair[1], "none of them is judged", |f| {
        count(f, "not_caught_up") >= late
    });
    assert_eq!(count(&found(&api, pair[1]), "differs"), 0);
    candidate.resume();
}
