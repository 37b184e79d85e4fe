//! A broker that lacks the end of a partition becomes its leader.

use refold_e2e::Mode;
use refold_e2e::Process;
use refold_e2e::Topic;
use refold_e2e::World;
use refold_local::KafkaCluster;
use refold_local::KafkaExtras;
use refold_local::testing;
use refold_local::testing::ScratchDir;

use super::BOUND;
use super::SMALL;
use super::garbage::events_from;
use super::garbage::parameters;

/// The partition that loses records, and one that loses none.
const LOSES: u32 = 0;
const SOUND: u32 = 1;

/// Who leads the first one, and who follows, as their numbers and as their places.
const LEADER: (i32, usize) = (1, 0);
const FOLLOWER: (i32, usize) = (2, 1);

/// A follower is left behind soon, and may lead all the same.
fn settings() -> KafkaExtras {
    let settings = [
        ("min.insync.replicas", "1"),
        ("unclean.leader.election.enable", "true"),
        ("unclean.leader.election.interval.ms", "1000"),
        ("replica.lag.time.max.ms", "2000"),
        ("broker.session.timeout.ms", "3000"),
        ("broker.heartbeat.interval.ms", "500"),
    ];
    KafkaExtras {
        settings: settings
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        ..KafkaExtras::default()
    }
}

fn mark(world: &World, partition: u32) -> i64 {
    let marks = world.marks("accounts_v3");
    marks.get(partition as usize).map_or(0, |mark| mark.next)
}

/// All rows of a partition, as one sum.
fn rows(world: &World, partition: u32) -> String {
    let leaf = &world.leaves("accounts_v3")[partition as usize];
    world.cell(&format!(
        "select md5(string_agg(t::text, '|' order by t.key)) from {leaf} t"
    ))
}

/// Waits until a process says that the partition stands in front of something.
fn halts(world: &World, process: &Process) -> String {
    let name = format!("[-]accounts_v3/p{LOSES} ");
    let mut why = None;
    world.wait("the partition halts", BOUND, || {
        let told = process.get("/readyz?verbose").map(|(_, body)| body);
        let told = told.unwrap_or_default();
        why = told
            .lines()
            .find(|l| l.starts_with(&name))
            .map(str::to_owned);
        why.is_some()
    });
    why.unwrap_or_default()
}

#[test]
fn records_that_an_unclean_election_takes_away_halt_their_partition_and_nothing_is_mixed() {
    let scratch = ScratchDir::new("refold-unclean").expect("a directory");
    let cluster = KafkaCluster::start_with(scratch.path(), 3, &settings()).expect("a cluster");
    let dsn = testing::fresh_database("unclean").expect("a database");
    let world = World::at(&cluster.bootstrap(), &dsn, "unclean", SMALL);
    let params = parameters();
    // By the one that is always there.
    let bootstrap = cluster.bootstrap();
    let sound = bootstrap.split(',').nth(2).expect("three brokers");
    let topic = Topic::on(sound, world.topic());
    let others: &[i32] = &[3, FOLLOWER.0];
    topic.create_on(&[&[LEADER.0, FOLLOWER.0], others, others, others]);
    for partition in 0..SMALL.partitions {
        topic.write(&events_from(&params, partition, 0, 200));
    }
    let mut live = world.start(Mode::Live, "accounts_v3", "active");
    world.wait("all is applied", BOUND, || {
        world.applied("accounts_v3") == 800
    });

    cluster.pause_node(FOLLOWER.1).expect("a follower");
    world.wait("the follower is left behind", BOUND, || {
        topic.replicas(LOSES as i32) == (LEADER.0, vec![LEADER.0])
    });
    topic.write(&events_from(&params, LOSES, 200, 50));
    world.wait("they are applied", BOUND, || mark(&world, LOSES) == 250);
    let before = rows(&world, LOSES);
    cluster.kill_node(LEADER.1).expect("the leader");
    cluster.resume_node(FOLLOWER.1).expect("the follower");
    world.wait("the follower leads", BOUND, || {
        topic.replicas(LOSES as i32).0 == FOLLOWER.0
    });
    assert_eq!(topic.end(LOSES as i32), 200, "fifty records are gone");

    let why = halts(&world, &live);
    assert!(why.contains("200"), "{why}");
    topic.write(&events_from(&params, SOUND, 200, 20));
    world.wait("the others go on", BOUND, || mark(&world, SOUND) == 220);

    // Others come where the lost ones were, and behind them.
    topic.write(&events_from(&params, LOSES, 220, 80));
    assert_eq!(topic.end(LOSES as i32), 280);
    live.terminate();
    live.exit(BOUND);
    let again = world.projector(Mode::Live, "accounts_v3").start();
    let why = halts(&world, &again);
    assert!(why.contains("249"), "{why}");
    assert_eq!(mark(&world, LOSES), 250);
    assert_eq!(rows(&world, LOSES), before, "nothing is mixed");
    topic.write(&events_from(&params, SOUND, 220, 10));
    world.wait("the others go on", BOUND, || mark(&world, SOUND) == 230);
}
