//! What a rebuild costs a server that has other work: transaction numbers, dead rows, and
//! snapshots that hold its vacuum back.

use std::time::Duration;

use refold_e2e::Launch;
use refold_e2e::Mode;
use refold_e2e::Stream;
use refold_e2e::World;
use refold_local::PostgresOptions;
use refold_local::PostgresServer;
use refold_local::testing;
use refold_local::testing::ScratchDir;

use super::BOUND;

const STREAM: Stream = Stream {
    events: 200_000,
    aggregates: 20_000,
    partitions: 4,
    seed: 42,
    format: "proto",
};
const VERSION: &str = "accounts_v3";
/// The same fold under another number.
const TWIN: &str = "accounts_v103";
/// Transactions of a projector's start: it looks whether the control tables are its own, and
/// registers the version.
const OF_A_START: i64 = 2;
/// Transactions of a partition besides those that move its mark: it is taken over, and when it
/// is the last one to be built, or one of several at once, the version is made ready.
const OF_A_PARTITION: i64 = 2;

/// Notes at each partition that a comparison has finished how many sessions of the product hold
/// a snapshot, besides the one that says so.
const WATCH_SNAPSHOTS: &str = "
create table public.held (partitions int, snapshots bigint);
create function public.note_snapshots() returns trigger language plpgsql as $$
begin
    insert into public.held
        select (select count(*) from refold.scan_partitions p where p.scan = new.scan), count(*)
        from pg_stat_activity a
        where a.backend_xmin is not null and a.pid <> pg_backend_pid()
            and a.application_name <> 'refold-e2e';
    return null;
end $$;
create trigger note_snapshots after insert on refold.scan_partitions
    for each row execute function public.note_snapshots()";

/// A server that nobody else uses, and that gives out no number by itself.
struct Scene {
    server: PostgresServer,
    world: World,
}

/// What a replay has used.
#[derive(Debug)]
struct Used {
    /// Transaction numbers.
    numbers: i64,
    /// Transactions that moved a mark, by the projector's own count.
    commits: i64,
    /// Rows that they wrote, by the projector's own count.
    rows: i64,
}

impl Scene {
    /// Transaction numbers that the server has given out. The question takes none.
    fn numbers(&self) -> i64 {
        let next = self
            .server
            .psql("select pg_snapshot_xmax(pg_current_snapshot())");
        next.expect("a number").trim().parse().expect("a number")
    }

    fn replay(&self, flags: &[(&str, u64)]) -> Used {
        let begun = self.numbers();
        let launch = self.world.projector(Mode::Replay, VERSION);
        let launch = flags
            .iter()
            .fold(launch, |launch, (flag, value)| launch.flag(flag, value));
        let mut replay = launch.start();
        replay.succeed(BOUND);
        Used {
            numbers: self.numbers() - begun,
            commits: replay.last_count("commits"),
            rows: replay.last_count("rows"),
        }
    }

    /// Rows inserted, updated, deleted and dead in all tables of the version.
    fn rows(&self) -> [i64; 4] {
        let leaves = self.world.leaves(VERSION);
        assert_eq!(leaves.len(), STREAM.partitions as usize);
        let sums = self.world.sql(&format!(
            "select sum(n_tup_ins), sum(n_tup_upd), sum(n_tup_del), sum(n_dead_tup), count(*)
             from pg_stat_user_tables
             where relid in ('{}'::regclass)",
            leaves.join("'::regclass, '")
        ));
        let number = |i: usize| sums[0][i].parse().expect("a number");
        assert_eq!(number(4), i64::from(STREAM.partitions), "{sums:?}");
        [0, 1, 2, 3].map(number)
    }
}

#[test]
fn a_rebuild_takes_a_transaction_number_a_batch_and_leaves_dead_only_what_it_updates() {
    let scratch = ScratchDir::new("refold-footprint").expect("a directory");
    // A vacuum takes numbers, and dead rows away.
    let options = PostgresOptions {
        settings: vec![("autovacuum".to_owned(), "off".to_owned())],
        ..PostgresOptions::default()
    };
    let server = PostgresServer::start(scratch.path(), options).expect("a server");
    let kafka = &testing::stack().kafka;
    let world = World::at(kafka, &server.dsn(), "footprint", STREAM);
    world.seed();
    let listed = world.refold([vec!["list".to_owned()], world.store_flags()].concat());
    assert_eq!(listed.stderr, "");
    let scene = Scene { server, world };
    let (aggregates, partitions) = (STREAM.aggregates as i64, i64::from(STREAM.partitions));
    let around = partitions * OF_A_PARTITION + OF_A_START;

    // A load is one transaction a partition.
    let bulk = scene.replay(&[]);
    println!("bulk: {bulk:?}");
    assert_eq!((bulk.commits, bulk.rows), (partitions, aggregates));
    assert!(bulk.numbers <= bulk.commits + around, "{bulk:?}");
    assert_eq!(scene.rows(), [aggregates, 0, 0, 0]);

    // What has come since goes in by batches.
    let mut tail = scene.world.tail(20_000, Duration::from_secs(1)).start();
    tail.succeed(BOUND);
    let apply = scene.replay(&[("batch", 500)]);
    let [inserted, updated, deleted, dead] = scene.rows();
    println!("apply: {apply:?}, {updated} rows updated, {dead} dead");
    assert!(apply.commits > 4 * partitions, "{apply:?}");
    assert!(apply.numbers <= apply.commits + around, "{apply:?}");
    assert_eq!((inserted + updated, deleted), (aggregates + apply.rows, 0));
    assert!(dead <= updated, "{dead} of {updated}");

    snapshots_end_with_their_partition(&scene);
    scene.world.assert_equals_oracle(VERSION);
}

/// A comparison holds a snapshot for one partition, and never over to the next.
fn snapshots_end_with_their_partition(scene: &Scene) {
    let world = &scene.world;
    world.replay(TWIN);
    world.sql(WATCH_SNAPSHOTS);
    let launch = Launch::new(["verify", "--json", "--workers=1"])
        .flag("version", TWIN)
        .flag("against", VERSION);
    let flags = [world.stream_flags(), world.log_flags(), world.store_flags()].concat();
    launch.args(flags).start().succeed(BOUND);
    let held = world.sql("select partitions, snapshots from public.held order by 1");
    let none: Vec<_> = (1..=STREAM.partitions)
        .map(|done| vec![done.to_string(), "0".to_owned()])
        .collect();
    assert_eq!(held, none, "partitions done, snapshots open");
}
