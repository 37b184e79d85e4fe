//! The end of a version: a build that is given up, and one that served before.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;

use refold_e2e::Answer;
use refold_e2e::Api;
use refold_e2e::Exit;
use refold_e2e::Mode;
use refold_e2e::World;
use serde_json::json;

use super::scene::BOUND;
use super::scene::PAIR;
use super::scene::STREAM;
use super::scene::Until;
use super::scene::api;
use super::scene::row;
use super::scene::switch;
use super::scene::two_versions;

fn abort(world: &World, version: &str, more: &[&str]) -> Answer {
    let flags = ["abort", "-version", version].map(str::to_owned);
    let more = more.iter().map(|flag| (*flag).to_owned());
    world.refold(flags.into_iter().chain(more).chain(world.store_flags()))
}

fn tables(world: &World, id: i64) -> i64 {
    let sql = format!(
        "select count(*) from pg_class where relnamespace = 'rm'::regnamespace
         and relname ~ '^v{id}_p[0-9]+'"
    );
    world.cell(&sql).parse().expect("a number")
}

/// Readers of each api.
const READERS: usize = 4;

/// Reads of what serves until the flag is set, none of which may fail.
pub(crate) fn read_until(api: &Api, stop: &AtomicBool, reads: &AtomicU64) {
    while !stop.load(Ordering::Acquire) {
        let read = reads.fetch_add(1, Ordering::AcqRel);
        row(&api.get(&format!("/aggregate/{}", 1 + read % STREAM.aggregates)));
    }
}

/// An api that goes on when this is dropped: who waits for it waits no longer then.
struct Paused<'a>(&'a Api);

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.resume();
    }
}

/// A build that is in the middle of its history.
fn building(world: &World, version: &str) -> refold_e2e::Process {
    let launch = world.projector(Mode::Replay, version);
    let projector = launch.arg("--catch-up").flag("rate-limit", 2_000).start();
    let is = || world.marks(version).len() == STREAM.partitions as usize;
    world.wait("the build has begun", BOUND, is);
    projector
}

#[test]
fn a_build_that_is_given_up_over_http_stops_its_projector_and_goes() {
    let world = World::seeded("abort_http", STREAM);
    let _live = world.start(Mode::Live, PAIR[0], "active");
    let version = PAIR[1];
    let mut build = building(&world, version);
    let id = world.version_id(version);
    let api = api(&world, &["--retire-grace", "1s"]);
    let path = format!("/projections/{version}");
    let etag = api
        .get("/projections")
        .header("etag")
        .expect("a tag")
        .to_owned();
    let tag = [("If-Match", etag.as_str())];
    let end = |path: &str, confirm: &str, headers: &[(&str, &str)]| {
        api.delete(&format!("{path}?confirm={confirm}"), headers)
    };
    assert_eq!(
        end(&path, version, &[]).problem("if_match_required")["status"],
        428
    );
    assert_eq!(
        end(&path, "yes", &tag).problem("not_confirmed")["status"],
        409
    );
    let stale = end(&path, version, &[("If-Match", "\"gen-99\"")]);
    assert_eq!(stale.problem("generation_changed")["status"], 412);
    let unknown = end("/projections/accounts_v9", "accounts_v9", &tag);
    assert_eq!(unknown.problem("version_not_found")["status"], 404);
    let serving = end(&format!("/projections/{}", PAIR[0]), PAIR[0], &tag);
    assert_eq!(serving.problem("conflict")["status"], 409);
    assert_eq!(build.try_exit(), None, "refusals stop nobody");

    let ended = end(&path, version, &tag);
    assert_eq!(ended.status, 202, "{ended:?}");
    assert_eq!(ended.header("location"), Some(path.as_str()));
    let (code, sentence) = build.refuse(BOUND);
    println!("its projector said: {sentence} ({code})");
    assert!(sentence.contains("not projected"), "{sentence}");
    let dropped = || world.state(version).as_deref() == Some("dropped");
    world.wait("it is dropped", BOUND, dropped);
    assert_eq!(tables(&world, id), 0);
    assert_eq!(row(&api.get(&path))["state"], "dropped");
    let again = end(&path, version, &tag);
    assert_eq!(
        (again.status, &again.json()["state"]),
        (202, &json!("dropped"))
    );
    assert_eq!(api.cutover(version).status, 409);
    row(&api.get("/aggregate/1"));
}

#[test]
fn a_build_is_given_up_by_a_command_that_refuses_what_is_no_build() {
    let world = World::seeded("abort_command", STREAM);
    let _live = world.start(Mode::Live, PAIR[0], "active");
    let version = PAIR[1];
    let mut build = building(&world, version);
    let refused = |answer: Answer, code: i32, part: &str| {
        assert_eq!(answer.exit, Exit::Code(code), "{answer:?}");
        assert!(answer.stderr.contains(part), "{answer:?}");
    };
    refused(abort(&world, version, &[]), 3, "To go on: refold abort");
    refused(
        abort(&world, version, &["-confirm", PAIR[0]]),
        3,
        "To go on",
    );
    refused(
        abort(&world, "accounts_v9", &["-confirm", "accounts_v9"]),
        1,
        "does not exist",
    );
    refused(
        abort(&world, PAIR[0], &["-confirm", PAIR[0]]),
        3,
        "serves reads",
    );
    let stale = ["-confirm", version, "-if-generation", "9"];
    refused(abort(&world, version, &stale), 3, "generation 1, not 9");
    assert_eq!(build.try_exit(), None, "refusals stop nobody");

    let done = abort(
        &world,
        version,
        &["-confirm", version, "-if-generation", "1"],
    );
    assert_eq!(done.exit, Exit::Code(0), "{done:?}");
    assert!(done.stdout.contains("dropped"), "{done:?}");
    let (_, sentence) = build.refuse(BOUND);
    assert!(sentence.contains("not projected"), "{sentence}");
    assert_eq!(world.state(version).as_deref(), Some("dropped"));
}

#[test]
fn what_served_before_goes_under_its_readers_and_there_is_no_way_back() {
    let world = World::seeded("retire_http", STREAM);
    let [mut old, _new] = two_versions(&world, PAIR);
    let id = world.version_id(PAIR[0]);
    let apis = [api(&world, &["--retire-grace", "1s"]), api(&world, &[])];
    switch(&apis[0], PAIR, 1);
    let served = abort(&world, PAIR[0], &["-confirm", PAIR[0]]);
    assert_eq!(served.exit, Exit::Code(3), "{served:?}");
    assert!(served.stderr.contains("served before"), "{served:?}");
    let (stop, reads) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; 2]);
    let count = |of: usize| reads[of].load(Ordering::Acquire);
    thread::scope(|scope| {
        let until = Until(&stop);
        for (api, reads) in apis.iter().zip(&reads) {
            for _ in 0..READERS {
                scope.spawn(|| read_until(api, &stop, reads));
            }
        }
        let all_read = || count(0).min(count(1)) > 100;
        world.wait("both are read from", BOUND, all_read);
        let tag = apis[1]
            .get("/projections")
            .header("etag")
            .map(str::to_owned);
        let tag = tag.expect("a tag");
        let path = format!("/projections/{0}?confirm={0}", PAIR[0]);
        // The reads of the second one stand still wherever they are, until the tables are gone.
        apis[1].pause();
        let paused = Paused(&apis[1]);
        let ended = apis[0].delete(&path, &[("If-Match", &tag)]);
        assert_eq!(ended.status, 202, "{ended:?}");
        let (_, sentence) = old.refuse(BOUND);
        assert!(sentence.contains("not projected"), "{sentence}");
        let dropped = || world.state(PAIR[0]).as_deref() == Some("dropped");
        world.wait("it is dropped", BOUND, dropped);
        let before = [count(0), count(1)];
        drop(paused);
        let read_on = || (0..2).all(|of| count(of) > before[of] + 100);
        world.wait("both are read from again", BOUND, read_on);
        drop(until);
    });
    let reads = [count(0), count(1)];
    println!("{reads:?} reads while it went, none failed");
    assert_eq!(tables(&world, id), 0);
    let back = apis[0].cutover(PAIR[0]);
    assert_eq!(back.problem("conflict")["status"], 409);
    row(&apis[1].get("/aggregate/1"));
}
