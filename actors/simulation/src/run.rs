//! One seed from beginning to end.

use std::io;
use std::time::Duration;

use refold_domain::version::VersionState;
use refold_ports::LogSource as _;
use refold_ports::Registry as _;
use refold_ports::registry::VersionRow;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::author::Author;
use crate::branch::Branches;
use crate::judge;
use crate::keeper::Keeper;
use crate::ledger;
use crate::mutation::Mutation;
use crate::operator::Operator;
use crate::panics;
use crate::plan::Blemish;
use crate::reader::Reader;
use crate::switch;
use crate::world::Finding;
use crate::world::World;
use crate::world::pass;

/// Makes a runtime of one thread whose clock stands still while anybody has something to do.
pub type MakeRuntime = fn() -> io::Result<Runtime>;

/// After the last fault no version stands still for this long before everything is in.
const SETTLES: Duration = Duration::from_secs(900);

/// What is begun is done in the end.
const LIVELY: &str = "everything comes to an end when no more faults come";
/// No code panics by itself.
const CALM: &str = "nothing panics";

/// What came of a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The seed.
    pub seed: u64,
    /// A hash of everything that happened, in order.
    pub hash: u64,
    /// How many things happened.
    pub steps: u64,
    /// Faults that were injected.
    pub faults: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// The branches that were taken.
    pub branches: Branches,
    /// What must not be, first things first.
    pub findings: Vec<Finding>,
    /// The last steps.
    pub last: Vec<String>,
}

/// Simulates a seed, with a bug planted or without. `shown` prints every step.
///
/// # Errors
/// When the runtime cannot be made.
pub fn simulate(
    make_runtime: MakeRuntime,
    seed: u64,
    mutation: Option<Mutation>,
    shown: bool,
) -> io::Result<Ended> {
    panics::watch();
    panics::take();
    let runtime = make_runtime()?;
    let ended = runtime.block_on(async {
        let world = World::new(seed, mutation, shown);
        live(&world).await;
        for text in panics::take() {
            world.find(CALM, text);
        }
        let trace = world.trace();
        let (hash, steps, last) = (trace.hash(), trace.lines(), trace.last());
        drop(trace);
        let simulated = world.now();
        let seen = world.seen();
        Ended {
            seed,
            hash,
            steps,
            faults: seen.faults,
            simulated,
            branches: seen.branches.clone(),
            findings: seen.findings.clone(),
            last,
        }
    });
    // What is still running ends where it stands.
    runtime.shutdown_background();
    Ok(ended)
}

/// Lives through trouble, then through peace.
async fn live(world: &World) {
    let mut author = Author::new(world.clone());
    author.write_history();
    let mut busy = JoinSet::new();
    busy.spawn(author.run());
    for _ in 0..world.plan.operators {
        busy.spawn(Operator::new(world.clone()).run());
    }
    let mut lasting = JoinSet::new();
    for _ in 0..2 {
        lasting.spawn(Reader::new(world.clone()).run());
    }
    let versions = ledger::VERSIONS
        .into_iter()
        .filter(|number| *number != ledger::WRONG || world.plan.builds_wrong);
    for number in versions {
        let keeper = Keeper {
            world: world.clone(),
            number,
        };
        let wait = match number {
            1 => Duration::ZERO,
            2 => world.chance.time(Duration::from_secs(120)),
            _ => world.chance.time(Duration::from_secs(900)),
        };
        lasting.spawn(async move {
            pass(wait).await;
            keeper.run().await;
        });
    }
    while world.now() < world.plan.trouble {
        pass(Duration::from_secs(10)).await;
        if world.is_broken() {
            return;
        }
    }
    world.heal();
    while let Some(ended) = busy.join_next().await {
        if ended.is_err() || world.is_broken() {
            return;
        }
    }
    settle(world).await;
    if !world.is_broken() {
        promote_in_peace(world).await;
    }
    if !world.is_broken() {
        judge_all(world).await;
    }
}

/// Waits until every version that is projected holds the whole log.
async fn settle(world: &World) {
    let mut stands = (0, world.now());
    loop {
        let Some(late) = first_late(world).await else {
            return world.note(format_args!("settled"));
        };
        if world.is_broken() {
            return;
        }
        let sum = world
            .seen()
            .applied
            .values()
            .map(|applied| applied.to.0)
            .sum();
        if stands.0 != sum {
            stands = (sum, world.now());
        }
        if world.now() - stands.1 >= SETTLES {
            return world.find(LIVELY, late);
        }
        pass(Duration::from_secs(5)).await;
    }
}

async fn projected(world: &World) -> Vec<VersionRow> {
    let versions = world.store.versions().await.unwrap_or_default();
    let of_interest = versions.into_iter().filter(|row| row.state.is_projected());
    of_interest.collect()
}

/// What is not in yet, in one sentence.
async fn first_late(world: &World) -> Option<String> {
    for row in projected(world).await {
        let mut halts = false;
        for partition in world.partitions() {
            let low = world.log.watermarks(partition).await.ok()?.low;
            let next = world.store.place(row.id, partition).map(|place| place.next);
            let Some(next) = next else {
                return Some(format!("{} has no mark for {partition}", row.label));
            };
            let poison = world.seen().truth.poison_of(partition);
            // A mark stands behind the last record, whatever lies between it and the poison.
            let in_front = |at| next <= at && !world.seen().truth.has_any(partition, (next, at));
            let stands = next < low || poison.is_some_and(in_front);
            halts |= next < low || poison.is_some();
            let has_more = world.seen().truth.has_more(partition, next);
            if has_more && !stands {
                return Some(format!("{} {partition} stands at {next}", row.label));
            }
        }
        if row.state == VersionState::Building && !halts {
            return Some(format!("{} is not ready", row.label));
        }
    }
    let serves = world.store.active(ledger::NAME).await.ok().flatten();
    let spoilt = matches!(world.plan.blemish, Blemish::Poison | Blemish::Truncation);
    (serves.is_none() && !spoilt).then(|| "no version serves".to_owned())
}

/// Switches to the other version and back: with nothing in its way, a switch succeeds.
async fn promote_in_peace(world: &World) {
    if world.plan.blemish != Blemish::None {
        return;
    }
    // The wrong fold can serve: when it was promoted the log held nothing yet that tells it from
    // the right one. What differs since then holds every way back, as it must.
    let serving = world.store.active(ledger::NAME).await.ok().flatten();
    let wrong = world.store.version(&ledger::label(ledger::WRONG)).await;
    if serving.is_some_and(|row| wrong.is_ok_and(|wrong| wrong.id == row.version)) {
        return;
    }
    let operator = Operator::new(world.clone());
    for number in [2, 1, 2] {
        let row = world.store.version(&ledger::label(number)).await;
        let able = |row: &VersionRow| row.state.is_readable();
        if !row.as_ref().is_ok_and(able) {
            continue;
        }
        if let Err(why) = operator.promote_in_peace(number).await {
            return world.find(LIVELY, format!("v{number} is not promoted: {why}"));
        }
    }
}

async fn judge_all(world: &World) {
    for row in projected(world).await {
        for partition in world.partitions() {
            judge::judge_place(world, (row.id, partition));
        }
    }
    switch::one_active(world).await;
}
