//! An api that is killed at each step of a promotion.

use std::thread;

use refold_e2e::Api;
use refold_e2e::World;
use refold_e2e::http;
use serde_json::Value;
use serde_json::json;

use super::pooler::read_during;
use super::scene::BOUND;
use super::scene::PAIR;
use super::scene::STREAM;
use super::scene::api;
use super::scene::row;
use super::scene::two_versions;

/// A step, and the lock that a promotion waits for in the middle of it.
struct Step {
    what: &'static str,
    lock: &'static str,
    /// The commit was sent along with what waits, so that the server may carry it out.
    commit_is_sent: bool,
}

const STEPS: [Step; 6] = [
    Step {
        what: "the marks are held still",
        lock: "select 1 from refold.offsets for update",
        commit_is_sent: false,
    },
    Step {
        what: "the barrier is set",
        lock: "lock table refold.barrier_switch in share mode",
        commit_is_sent: false,
    },
    Step {
        what: "the comparison is recorded",
        lock: "lock table refold.barrier_proofs in share mode",
        commit_is_sent: false,
    },
    Step {
        what: "the active row is locked",
        lock: "select 1 from refold.active for update",
        commit_is_sent: false,
    },
    Step {
        what: "the versions are locked",
        lock: "select 1 from refold.versions for no key update",
        commit_is_sent: false,
    },
    Step {
        what: "the promotion is written",
        lock: "lock table refold.promotions in share mode",
        commit_is_sent: true,
    },
];

/// Sessions of api processes that wait for a lock.
const WAITING: &str = "select pid from pg_stat_activity
    where datname = current_database() and application_name = 'refold registry'
        and wait_event_type = 'Lock'";

/// The generation, and how many promotions there are; a barrier that serves no promotion counts
/// for nothing.
fn registry(world: &World) -> (u64, u64) {
    let counted = "select a.generation, (select count(*) from refold.promotions),
            (select count(*) from refold.versions v where v.state = 'active'), v.state
        from refold.active a join refold.versions v on v.id = a.version";
    let row = world.sql(counted).remove(0);
    assert_eq!((row[2].as_str(), row[3].as_str()), ("1", "active"));
    let number = |cell: &String| cell.parse().expect("a number");
    (number(&row[0]), number(&row[1]))
}

/// Kills the api while its promotion waits in the middle of the step; whether the server had
/// been told to commit and did.
fn kill_inside(world: &World, mut victim: Api, step: &Step, to: &str) -> bool {
    let before = registry(world);
    let mut holder = world.session();
    holder
        .ask(&format!("begin; {}", step.lock))
        .expect("a lock");
    let address = victim.address().to_owned();
    let body = json!({ "version": to });
    let asked = thread::spawn(move || http::send(&address, "POST", "/cutover", &[], Some(&body)));
    let mut waiting = Vec::new();
    world.wait(step.what, BOUND, || {
        waiting = world.sql(WAITING);
        !waiting.is_empty()
    });
    victim.process().kill();
    let answer = asked.join().expect("no panic");
    assert!(
        answer.is_err(),
        "{}: it was answered: {answer:?}",
        step.what
    );
    holder.ask("rollback").expect("no lock");
    let pid = &waiting[0][0];
    let gone = format!("select 1 from pg_stat_activity where pid = {pid}");
    world.wait("its session ends", BOUND, || world.sql(&gone).is_empty());
    let after = registry(world);
    let switched = after == (before.0 + 1, before.1 + 1);
    assert!(
        switched || after == before,
        "{}: {before:?}, {after:?}",
        step.what
    );
    assert!(!switched || step.commit_is_sent, "{}", step.what);
    println!("killed while {}: switched {switched}", step.what);
    switched
}

#[test]
fn an_api_killed_at_any_step_of_a_promotion_leaves_it_done_or_undone() {
    let world = World::seeded("crash", STREAM);
    let [_live, _candidate] = two_versions(&world, PAIR);
    let survivors = [api(&world, &[])];
    let reads = read_during(&survivors, |_| {
        for (turn, step) in STEPS.iter().enumerate() {
            let to = PAIR[(turn + 1) % 2];
            let (generation, promotions) = registry(&world);
            let switched = kill_inside(&world, api(&world, &[]), step, to);
            // Whoever asks again is told the truth: once more is not twice.
            let told: Value = row(&survivors[0].cutover(to));
            assert_eq!(told["changed"], !switched, "{}: {told}", step.what);
            assert_eq!(told["generation"], generation + 1, "{}: {told}", step.what);
            assert_eq!(registry(&world), (generation + 1, promotions + 1));
        }
    });
    println!("{reads} reads meanwhile, none failed, none went back");
    assert!(reads > 100);
}
