//! A failover to a standby that lacks commits: everything goes on from what the standby has.

use std::time::Duration;

use refold_e2e::Api;
use refold_e2e::Mode;
use refold_e2e::Process;
use refold_e2e::Stream;
use refold_e2e::Topic;
use refold_e2e::World;
use refold_local::PostgresOptions;
use refold_local::PostgresServer;
use refold_local::testing;
use refold_local::testing::ScratchDir;

const STREAM: Stream = Stream {
    events: 40_000,
    aggregates: 4_000,
    partitions: 4,
    seed: 17,
    format: "proto",
};
const BOUND: Duration = Duration::from_secs(60);
const RATE: u64 = 2_000;
/// Commits that the standby does not get are of so many events at least.
const LOST: i64 = 4_000;
const VERSIONS: [&str; 2] = ["accounts_v3", "accounts_v4"];

/// Where to find whichever of both servers takes writes.
fn either(one: &PostgresServer, other: &PostgresServer) -> String {
    let place = |server: &PostgresServer| {
        let dsn = server.dsn();
        let (_, place) = dsn.split_once('@').expect("a user");
        let (place, database) = place.split_once('/').expect("a database");
        (place.to_owned(), database.to_owned())
    };
    let ((one, database), (other, _)) = (place(one), place(other));
    let user = "postgresql://refold";
    format!("{user}@{one},{other}/{database}?target_session_attrs=read-write")
}

/// Lets a standby go on with what it has, and no further.
fn cut_off(primary: &PostgresServer, standby: &PostgresServer) {
    for sql in [
        "alter system set primary_conninfo = ''",
        "select pg_reload_conf()",
    ] {
        standby.psql(sql).expect("the standby answers");
    }
    let streams = || primary.psql("select count(*) from pg_stat_replication");
    let is_cut = || streams().is_ok_and(|count| count.trim() == "0");
    assert!(testing::wait_until(BOUND, is_cut), "the standby is cut off");
}

/// Events below the marks of both versions, as a server has them.
fn applied(server: &PostgresServer) -> i64 {
    let sum = server.psql("select sum(next_offset) from refold.offsets");
    let sum = sum.expect("a sum");
    sum.trim().parse().expect("a number")
}

fn projectors(world: &World) -> [Process; 2] {
    [
        world.start(Mode::Live, VERSIONS[0], "active"),
        world.start(Mode::Replay, VERSIONS[1], "ready"),
    ]
}

#[test]
fn projectors_go_on_exactly_once_from_a_standby_that_lacks_their_last_commits() {
    let scratch = ScratchDir::new("refold-failover").expect("a directory");
    let servers = PostgresServer::with_standby(scratch.path(), PostgresOptions::default());
    let (primary, standby) = servers.expect("a server and its standby");
    let both = either(&primary, &standby);
    let world = World::at(&testing::stack().kafka, &both, "failover", STREAM);
    world.seed();
    let mut projectors = projectors(&world);
    let api = Api::of(world.api_launch().start());
    let mut tail = world.tail(RATE, 10 * BOUND).start();
    let topic = Topic::on(world.brokers(), world.topic());
    let begun = applied(&primary);
    let passes = |server: &PostgresServer, beyond| {
        assert!(
            testing::wait_until(BOUND, || applied(server) > beyond),
            "beyond {beyond}"
        );
    };
    passes(&standby, begun);

    cut_off(&primary, &standby);
    let kept = applied(&standby);
    passes(&primary, kept + LOST);
    // Seen from the old server marks are about to move back; on the standby none may.
    let after = world.moved_to(&standby.dsn());
    drop(world);
    primary.crash().expect("a crash");
    standby.psql("select pg_promote()").expect("a new primary");
    passes(&standby, kept + LOST);
    assert_eq!(api.get("/aggregate/1").status, 200, "reads go on as well");

    tail.drain(BOUND);
    let end: i64 = (0..STREAM.partitions as i32).map(|p| topic.end(p)).sum();
    passes(&standby, 2 * end - 1);
    for projector in &mut projectors {
        assert_eq!(projector.try_exit(), None, "{}", projector.stderr().text());
        projector.drain(BOUND);
    }
    for version in VERSIONS {
        after.assert_equals_oracle(version);
    }
    println!(
        "{kept} events of {} were on the standby when it took over",
        2 * end
    );
}
