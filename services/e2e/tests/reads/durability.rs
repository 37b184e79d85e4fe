//! Promotions on a database with a synchronous standby.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;

use refold_e2e::Api;
use refold_e2e::Exit;
use refold_e2e::World;
use refold_e2e::http::Reply;
use refold_local::PostgresOptions;
use refold_local::PostgresServer;
use refold_local::testing;
use refold_local::testing::ScratchDir;
use serde_json::Value;

use super::scene::BOUND;
use super::scene::PAIR;
use super::scene::STREAM;
use super::scene::Until;
use super::scene::api;
use super::scene::row;
use super::scene::two_versions;

/// Makes the primary wait for its standby from the next commit on.
fn synchronous(primary: &PostgresServer) {
    let ask = |sql: &str| primary.psql(sql).expect("the primary answers");
    ask("alter system set synchronous_standby_names = '*'");
    ask("select pg_reload_conf()");
    let told = || ask("show synchronous_standby_names").trim() == "*";
    assert!(testing::wait_until(BOUND, told), "the setting is read");
    // Commits wait once the checkpointer has read it as well, and it reads before it works.
    ask("checkpoint");
    let sync = || ask("select sync_state from pg_stat_replication").trim() == "sync";
    assert!(testing::wait_until(BOUND, sync), "the standby counts");
}

/// The answer of a promotion that is in, with its status.
fn cutover(api: &Api, to: &str, status: u16, durability: &str) -> Value {
    told(&api.cutover(to), status, durability)
}

fn told(reply: &Reply, status: u16, durability: &str) -> Value {
    assert_eq!(reply.status, status, "{reply:?}");
    let answer = reply.json();
    assert_eq!(answer["durability"], durability, "{answer}");
    answer
}

/// Who serves, and since which switch.
fn serving(api: &Api) -> (String, u64) {
    let answer = row(&api.get("/aggregate/1"));
    let version = answer["projection_version"].as_str().expect("a version");
    let generation = answer["generation"].as_u64().expect("a generation");
    (version.to_owned(), generation)
}

/// Promotes while the standby stands still. Nobody is shown the switch while its commit waits.
fn promote_unconfirmed(world: &World, writes: &Api, to: &str, before: &(String, u64)) -> Value {
    let waits = || {
        let sql = "select count(*) from pg_stat_activity
            where wait_event = 'SyncRep' and application_name = 'refold registry'";
        world.cell(sql) == "1"
    };
    thread::scope(|scope| {
        let asked = scope.spawn(|| cutover(writes, to, 202, "pending"));
        let mut seen = 0;
        while !asked.is_finished() {
            let waited = waits();
            let shown = serving(writes);
            // The commit waited before the read and behind it.
            if waited && waits() {
                assert_eq!(&shown, before);
                seen += 1;
            }
        }
        let answer = asked.join().expect("an answer");
        assert!(seen > 0, "no read fell into the wait");
        answer
    })
}

#[test]
fn a_promotion_is_done_when_the_synchronous_standby_shows_it_and_pending_before() {
    let scratch = ScratchDir::new("refold-durability").expect("a directory");
    let servers = PostgresServer::with_standby(scratch.path(), PostgresOptions::default());
    let (primary, standby) = servers.expect("a server and its standby");
    let world = World::at(
        &testing::stack().kafka,
        &primary.dsn(),
        "durability",
        STREAM,
    );
    world.seed();
    let [_live, _candidate] = two_versions(&world, PAIR);
    let writes = api(&world, &[]);
    let behind = api(&world, &["--read-postgres", &standby.dsn()]);
    let serves = || behind.get("/aggregate/1").status == 200;
    assert!(testing::wait_until(BOUND, serves), "the standby has it all");
    synchronous(&primary);

    let (stop, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let until = Until(&stop);
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Acquire) {
                    let read = reads.fetch_add(1, Ordering::AcqRel);
                    row(&writes.get(&format!("/aggregate/{}", 1 + read % 4_000)));
                }
            });
        }
        confirmed_at_once(&writes, &behind);
        pending_until_it_is_resumed(&world, &writes, &behind, &standby);
        // A standby that is gone confirms nothing either.
        standby.stop().expect("its end");
        cutover(&writes, PAIR[1], 202, "pending");
        drop(until);
    });
    let reads = reads.load(Ordering::Acquire);
    println!("{reads} reads on the primary while promotions waited, none failed");
    assert!(reads > 100);
}

/// Whoever was told that it is done finds it on the standby.
fn confirmed_at_once(writes: &Api, behind: &Api) {
    for turn in 0..10_u64 {
        let to = PAIR[(turn as usize + 1) % 2];
        let answer = cutover(writes, to, 200, "replicated");
        assert_eq!(answer["generation"], turn + 2);
        assert_eq!(serving(behind), (to.to_owned(), turn + 2));
    }
}

fn pending_until_it_is_resumed(
    world: &World,
    writes: &Api,
    behind: &Api,
    standby: &PostgresServer,
) {
    let before = serving(writes);
    standby
        .psql("select pg_wal_replay_pause()")
        .expect("a pause");
    let state = || standby.psql("select pg_get_wal_replay_pause_state()");
    let paused = || state().is_ok_and(|state| state.trim() == "paused");
    assert!(testing::wait_until(BOUND, paused), "it stands still");

    let first = promote_unconfirmed(world, writes, PAIR[1], &before);
    assert_eq!(first["changed"], true);
    let waited = first["flip_ms"].as_f64().expect("a time");
    assert!((2_900.0..10_000.0).contains(&waited), "{waited} ms");
    let after = (PAIR[1].to_owned(), before.1 + 1);
    assert_eq!(serving(writes), after);
    assert_eq!(serving(behind), before);

    // Asked again, it is no more confirmed than it was.
    let again = cutover(writes, PAIR[1], 202, "pending");
    assert_eq!(
        (&again["changed"], &again["cutover_id"]),
        (&false.into(), &first["cutover_id"])
    );
    let (version, url) = (format!("--version={}", PAIR[1]), writes.url());
    let told = world.refold(["cutover".to_owned(), version, format!("--api={url}")]);
    assert_eq!(told.exit, Exit::Code(4), "{told:?}");
    assert!(
        told.stderr.contains("no synchronous standby confirmed"),
        "{told:?}"
    );
    assert_eq!(serving(behind), before);

    standby
        .psql("select pg_wal_replay_resume()")
        .expect("no pause");
    let confirmed = cutover(writes, PAIR[1], 200, "replicated");
    assert_eq!(
        (&confirmed["changed"], &confirmed["cutover_id"]),
        (&false.into(), &first["cutover_id"])
    );
    assert_eq!(serving(behind), after);
}
