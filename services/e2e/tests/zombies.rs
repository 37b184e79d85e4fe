//! Two projectors for the same version and partitions: whichever came last writes, the other
//! one says so and stops, wherever it was stopped in between.

use std::time::Duration;
use std::time::Instant;

use refold_e2e::Backend;
use refold_e2e::Exit;
use refold_e2e::Mode;
use refold_e2e::Process;
use refold_e2e::Psql;
use refold_e2e::Stream;
use refold_e2e::World;

const VERSION: &str = "accounts_v4";
const BOUND: Duration = Duration::from_secs(60);
/// A stopped owner may hold its successor up for no longer than this.
const TAKE_OVER: Duration = Duration::from_secs(6);
/// Shows what a projector does about a lost session, which is no news for an operator.
const TALKATIVE: &str = "info,opentelemetry_sdk=warn,refold_system=debug";
/// The advisory lock that copies wait for.
const GATE: i64 = 7_305_011;

fn stream() -> Stream {
    Stream {
        events: 200_000,
        aggregates: 20_000,
        ..Stream::default()
    }
}

/// The sum of all epochs: each take-over adds one.
fn epochs(world: &World) -> i64 {
    world.marks(VERSION).iter().map(|mark| mark.epoch).sum()
}

/// Starts a second projector and waits until it owns all partitions; tells how long that took.
fn successor(world: &World, args: &[&str]) -> Process {
    let (owned, started) = (epochs(world), Instant::now());
    let launch = world.projector(Mode::Replay, VERSION);
    let second = args
        .iter()
        .fold(launch, |launch, arg| launch.arg(*arg))
        .start();
    world.wait(
        "the second projector owns all partitions",
        TAKE_OVER,
        || epochs(world) >= owned + 8,
    );
    println!("taken over within {:?} of the start", started.elapsed());
    second
}

/// The zombie goes on, notices, says so and stops. Where it was stopped in the middle of a
/// transaction of `partition`, that one ends with the fence or a dead session.
fn assert_fenced_off(world: &World, mut zombie: Process, partition: Option<i32>) {
    let before = zombie.stderr().all().len();
    zombie.resume();
    let (code, sentence) = zombie.refuse(BOUND);
    println!("the first said: {sentence}");
    assert_eq!(code, 1, "{sentence}");
    assert!(sentence.contains("fenced off"), "{sentence}");
    world.watch().assert_none_moved_back();
    let Some(partition) = partition else { return };
    let said = zombie.stderr().all().split_off(before);
    let of_partition = format!("partition=p{partition} ");
    let lost = said
        .iter()
        .filter(|line| line.contains(&of_partition))
        .find(|line| line.contains("held back") || line.contains("belongs to epoch"));
    let lost = lost.unwrap_or_else(|| panic!("nothing ended the transaction: {said:#?}"));
    println!("its transaction: {lost}");
}

/// Waits until the writer of one partition is where `there` says, and stops the process.
fn stop_where(
    world: &World,
    process: &mut Process,
    what: &str,
    there: impl Fn(&Backend) -> bool,
) -> Backend {
    let mut found = None;
    world.wait(what, BOUND, || {
        if let Some(exit) = process.try_exit() {
            panic!("ended with {exit:?}: {}", process.stderr().text());
        }
        found = world
            .writers(VERSION)
            .into_iter()
            .find(|writer| there(writer));
        found.is_some()
    });
    process.stop();
    found.expect("a writer")
}

/// The same session, after its process was stopped.
fn again(world: &World, backend: &Backend) -> Backend {
    let now = world.writers(VERSION);
    let same = now.into_iter().find(|writer| writer.pid == backend.pid);
    same.expect("the session is there while its process is stopped")
}

#[test]
fn of_two_projectors_one_writes_and_the_other_says_so_and_stops() {
    let world = World::seeded("two_writers", stream());
    let mut first = world.projector(Mode::Live, VERSION).start();
    let events = world.stream().events as i64;
    world.wait("the first is at the end", BOUND, || {
        world.applied(VERSION) == events
    });

    let mut second = world.projector(Mode::Live, VERSION).start();
    let (code, sentence) = first.refuse(BOUND);
    assert_eq!(code, 1, "{sentence}");
    assert!(sentence.contains("fenced off"), "{sentence}");
    assert!(
        sentence.contains("taken over by another process"),
        "{sentence}"
    );
    println!("the first said: {sentence}");

    let owned = epochs(&world);
    world
        .tail(20_000, Duration::from_secs(1))
        .start()
        .succeed(BOUND);
    world.wait("the second wrote what is new", BOUND, || {
        let lag = second
            .metrics()
            .map(|m| m.sum("refold_partition_lag_events", &[]));
        world.applied(VERSION) > events && lag.is_some_and(|lag| lag < 0.5)
    });
    assert_eq!(epochs(&world), owned, "the partitions went to and fro");
    let written = second
        .metrics()
        .map(|m| m.sum("refold_events_applied_total", &[]));
    assert_eq!(written, Some((world.applied(VERSION) - events) as f64));

    second.drain(BOUND);
    assert_eq!(
        second.last_count("applied"),
        world.applied(VERSION) - events
    );
    world.assert_equals_oracle(VERSION);
}

#[test]
fn of_two_projectors_started_at_once_each_partition_has_one_writer() {
    let world = World::seeded("at_once", stream());
    let start = || {
        world
            .projector(Mode::Replay, VERSION)
            .flag("rate-limit", 100_000)
            .start()
    };
    let mut both = [start(), start()];
    for process in &mut both {
        match process.exit(BOUND) {
            Exit::Code(0) => {}
            exit => {
                let said = process.stderr().with("refold: ").pop().unwrap_or_default();
                assert_eq!(exit, Exit::Code(1), "{said}");
                assert!(said.contains("fenced off"), "{said}");
                println!("one said: {said}");
            }
        }
    }
    let lost = both.each_mut().map(|p| p.try_exit() == Some(Exit::Code(1)));
    assert!(lost.contains(&true), "both say that they wrote everything");
    assert_eq!(world.applied(VERSION), world.stream().events as i64);
    world.assert_equals_oracle(VERSION);
}

#[test]
fn a_projector_stopped_inside_its_transaction_loses_it_to_its_successor() {
    let world = World::seeded("zombie_apply", stream());
    world.replay(VERSION);
    world
        .tail(60_000, Duration::from_secs(2))
        .start()
        .succeed(BOUND);
    let leaf = world.leaves(VERSION).swap_remove(3);
    let slow = |launch: refold_e2e::Launch| launch.flag("batch", 250).flag("rate-limit", 20_000);

    let launch = slow(world.projector(Mode::Replay, VERSION));
    let mut first = launch.env("REFOLD_LOG", TALKATIVE).start();
    let mark = || world.marks(VERSION)[3].next;
    let begun = mark();
    world.wait("the first writes", BOUND, || mark() > begun);

    // A lock on the table holds a batch between its fence and its rows.
    let mut holder: Psql = world.session();
    let hold = format!("begin; lock table {leaf} in exclusive mode");
    holder.ask(&hold).expect("the table is locked");
    let held = stop_where(
        &world,
        &mut first,
        "a batch waits for the table",
        |writer| writer.partition == 3 && writer.has_xid && writer.wait == "Lock:relation",
    );
    holder.ask("rollback").expect("the table is free");
    world.wait("its rows are in, its commit is not", BOUND, || {
        again(&world, &held).state == "idle in transaction"
    });
    assert!(again(&world, &held).is_inside_transaction());

    let mut second = successor(&world, &[]);
    assert_fenced_off(&world, first, Some(held.partition));
    second.succeed(BOUND);
    world.assert_equals_oracle(VERSION);
}

#[test]
fn a_projector_stopped_between_two_batches_writes_no_further_one() {
    let world = World::seeded("zombie_fence", stream());
    world.replay(VERSION);
    world
        .tail(60_000, Duration::from_secs(2))
        .start()
        .succeed(BOUND);
    let launch = world.projector(Mode::Replay, VERSION);
    let first = launch.flag("batch", 250).flag("rate-limit", 10_000).start();
    let begun = world.applied(VERSION);
    world.wait("the first writes", BOUND, || world.applied(VERSION) > begun);
    first.stop();

    let mut second = successor(&world, &[]);
    second.succeed(BOUND);
    let (applied, owned) = (world.applied(VERSION), epochs(&world));
    assert_fenced_off(&world, first, None);
    assert_eq!((world.applied(VERSION), epochs(&world)), (applied, owned));
    world.assert_equals_oracle(VERSION);
}

/// A trigger on every new table of the read model, which makes its copy wait at the first row
/// for as long as somebody holds the gate.
const GATED_COPIES: &str = "
create function public.pass_gate() returns trigger language plpgsql as $$
begin
    perform set_config('lock_timeout', '0', true);
    perform pg_advisory_xact_lock_shared(GATE);
    return new;
end $$;
create function public.add_gate() returns event_trigger language plpgsql as $$
declare
    leaf text;
begin
    for leaf in select c.object_identity from pg_event_trigger_ddl_commands() c
        where c.schema_name = 'rm' and c.object_type = 'table'
    loop
        execute format('create trigger gate before insert on %s
            for each row execute function public.pass_gate()', leaf);
    end loop;
end $$;
create event trigger gated_copies on ddl_command_end when tag in ('CREATE TABLE')
    execute function public.add_gate();";

#[test]
fn a_projector_stopped_inside_its_copy_loses_it_to_its_successor() {
    let world = World::seeded("zombie_copy", stream());
    world.sql(&GATED_COPIES.replace("GATE", &GATE.to_string()));
    let mut gate = world.session();
    gate.ask(&format!("select pg_advisory_lock({GATE})"))
        .expect("the gate");

    let launch = world.projector(Mode::Replay, VERSION);
    let mut first = launch.env("REFOLD_LOG", TALKATIVE).start();
    let held = stop_where(&world, &mut first, "a copy waits at the gate", |writer| {
        writer.is_inside_copy() && writer.wait == "Lock:advisory"
    });
    let now = again(&world, &held);
    assert!(
        now.is_inside_copy() && now.is_inside_transaction(),
        "{now:?}"
    );
    println!("stopped inside: {}", now.query);

    let mut second = successor(&world, &[]);
    let gone = |writer: &Backend| writer.pid != held.pid;
    assert!(
        world.writers(VERSION).iter().all(gone),
        "the copy is still open"
    );
    gate.ask(&format!("select pg_advisory_unlock({GATE})"))
        .expect("the gate");
    assert_fenced_off(&world, first, Some(held.partition));
    second.succeed(BOUND);
    world.assert_equals_oracle(VERSION);
}
