//! Several processes that share the partitions of a version: Kafka's group coordinator says who
//! works on which, the fence in Postgres who may write.

use std::time::Duration;

use refold_e2e::Dice;
use refold_e2e::Mode;
use refold_e2e::Process;
use refold_e2e::Stream;
use refold_e2e::Topic;
use refold_e2e::World;

const BOUND: Duration = Duration::from_secs(90);
const STREAM: Stream = Stream {
    events: 160_000,
    aggregates: 16_000,
    partitions: 8,
    seed: 31,
    format: "proto",
};
const MEMBERS: usize = 3;
/// The protocol in which the members agree among themselves.
const CLASSIC: &str = "classic";
/// New events a second while the members come and go.
const RATE: u64 = 2_000;
/// Offsets that have to be committed behind each change.
const PROGRESS: i64 = 1_000;

/// Keeps every move of every mark: who moved it, under which epoch, from where to where.
const AUDIT: &str = "
create table public.moves (n bigserial, version bigint, partition int, epoch bigint,
    start_offset bigint, end_offset bigint);
create function public.note_move() returns trigger language plpgsql as $$
begin
    insert into public.moves (version, partition, epoch, start_offset, end_offset)
        values (new.version, new.partition, new.epoch, old.next_offset, new.next_offset);
    return null;
end $$;
create trigger note_move after update of next_offset on refold.offsets
    for each row when (old.next_offset <> new.next_offset) execute function public.note_move();";

/// Moves that do not begin where the one before ended, or are of an epoch that was over.
const BROKEN: &str = "
select count(*) from (
    select start_offset, epoch, lag(end_offset) over w as before, lag(epoch) over w as owner
    from public.moves window w as (partition by version, partition order by n)
) m where start_offset <> coalesce(before, 0) or epoch < owner";

/// Partitions of the topic that a process works on.
fn seats(process: &Process) -> usize {
    let metrics = process.metrics();
    let samples = metrics.map(|m| m.samples("refold_partition_applied_offset", &[]).count());
    samples.unwrap_or_default()
}

/// What a group of processes works on, and how.
#[derive(Clone, Copy)]
struct Group {
    version: &'static str,
    mode: Mode,
    protocol: &'static str,
}

/// A version that is built, by members that agree among themselves.
const BUILT: Group = Group {
    version: "accounts_v4",
    mode: Mode::Replay,
    protocol: CLASSIC,
};

/// The members of a group.
struct Members<'a> {
    world: &'a World,
    group: Group,
    running: Vec<Process>,
}

impl Members<'_> {
    fn join(&mut self) {
        let launch = self.world.projector(self.group.mode, self.group.version);
        let launch = match self.group.mode {
            Mode::Replay => launch.arg("--catch-up"),
            Mode::Live => launch,
        };
        let launch = launch
            .flag("rate-limit", 8_000)
            .flag("group", self.world.topic())
            .flag("group-protocol", self.group.protocol);
        self.running.push(launch.start());
    }

    /// Waits until each member works on something, all together on every partition, and the
    /// version has moved on.
    fn settle(&mut self, what: &str) {
        let (world, version) = (self.world, self.group.version);
        let before = world.applied(version);
        let running = &mut self.running;
        let settled = || {
            for process in running.iter_mut() {
                if let Some(exit) = process.try_exit() {
                    panic!("{what}: ended with {exit:?}: {}", process.stderr().text());
                }
            }
            let shares: Vec<_> = running.iter().map(seats).collect();
            shares.iter().all(|share| *share > 0)
                && shares.iter().sum::<usize>() == STREAM.partitions as usize
                && world.writers(version).len() == STREAM.partitions as usize
                && world.applied(version) > before + PROGRESS
        };
        world.wait(what, BOUND, settled);
    }

    /// One change of the membership.
    fn change(&mut self, dice: &mut Dice) -> &'static str {
        let nth = dice.below(self.running.len() as u64) as usize;
        match dice.below(3) {
            // The broker waits 45 s for a member of its own protocol, and allows no shorter time:
            // there they leave.
            0 if self.group.protocol == CLASSIC => {
                self.running.swap_remove(nth).kill();
                self.join();
                "one is killed and another one joins"
            }
            _ if self.running.len() > MEMBERS => {
                self.running.swap_remove(nth).drain(BOUND);
                "one leaves"
            }
            0 | 1 => {
                self.running.swap_remove(nth).drain(BOUND);
                self.join();
                "one leaves and another one joins"
            }
            _ => {
                self.join();
                "one joins"
            }
        }
    }
}

/// Members come, go and die while a version gets its history and then follows the log.
fn come_and_go(name: &str, group: Group, changes: usize) {
    let mut dice = Dice::printed(name);
    let world = World::seeded(name, STREAM);
    let migrated = world.refold(["list".to_owned()].into_iter().chain(world.store_flags()));
    assert_eq!(migrated.stderr, "");
    world.sql(AUDIT);
    let mut members = Members {
        world: &world,
        group,
        running: Vec::new(),
    };
    for _ in 0..MEMBERS {
        members.join();
    }
    let mut tail = world.tail(RATE, 20 * BOUND).start();
    members.settle("three members share the partitions");
    for nth in 1..=changes {
        let what = members.change(&mut dice);
        members.settle(what);
        println!("{name}: change {nth}: {what}");
    }
    tail.drain(BOUND);
    let topic = Topic::on(world.brokers(), world.topic());
    let end: i64 = (0..STREAM.partitions as i32).map(|p| topic.end(p)).sum();
    world.wait("all of the log is in", BOUND, || {
        world.applied(group.version) == end
    });
    for mut member in members.running {
        member.drain(BOUND);
    }
    world.assert_equals_oracle(group.version);
    assert_eq!(
        world.cell(BROKEN),
        "0",
        "an offset was applied twice, or under an old epoch"
    );
    let moves = world.cell("select count(*) || ' moves under ' || count(distinct (partition, epoch)) || ' tenures' from public.moves");
    println!("{name}: {moves}");
}

#[test]
fn members_of_a_group_come_and_go_and_each_offset_is_applied_once() {
    come_and_go("group", BUILT, 6);
}

#[test]
fn the_broker_may_share_the_partitions_out_as_well() {
    let group = Group {
        protocol: "consumer",
        ..BUILT
    };
    come_and_go("group_by_broker", group, 3);
}

#[test]
fn members_that_serve_come_and_go_and_each_offset_is_applied_once() {
    let group = Group {
        version: "accounts_v3",
        mode: Mode::Live,
        ..BUILT
    };
    come_and_go("group_live", group, 5);
}
