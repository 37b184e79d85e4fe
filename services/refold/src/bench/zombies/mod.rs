//! `bench zombies`: a projector stops itself (SIGSTOP) at a failpoint, another one takes over, and
//! the first goes on (SIGCONT): it has to meet the fence, a dead session or the registry's word,
//! and to write nothing more.
//!
//! Every point is met on both write paths and in both modes, each round in a database of its own
//! that is copied from one of two: an empty one, and one with a part of the log loaded. The
//! database keeps every state that a mark has had, so that no write goes unseen, and at the end
//! of each round every row is compared with the known final state.

mod ending;
mod history;
mod plan;
mod round;

use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use refold_bench::table::csv;
use refold_store_postgres::SessionOptions;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use self::ending::Ending;
use self::plan::Plan;
use self::plan::plans;
use self::round::BATCH;
use self::round::Round;
use self::round::Stage;
use super::report::write;
use super::site::Manner;
use super::site::SeededLog;
use super::site::Site;
use crate::cli::BenchZombiesArgs;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::connect;
use crate::machine;
use crate::run::Projections;

const NAME: &str = "zombies";

/// A stopped owner may hold its successor up for no longer than this, the successor's start
/// included.
const TAKE_OVER_BOUND: Duration = Duration::from_secs(6);

/// Share of each partition's events that is left for batches.
const LEFT: f64 = 0.6;

/// Batches that a partition must have, so that each plan's point is reached and something is left
/// to the successor.
const LEAST_BATCHES: f64 = 10.0;

/// Rounds that could not be played after which it is the machine that is broken.
const MOST_UNPLAYED: usize = 5;

const COLUMNS: [&str; 16] = [
    "round",
    "path",
    "mode",
    "point",
    "partition",
    "nth",
    "continued",
    "ended_by",
    "exit_code",
    "take_over_seconds",
    "stopped_seconds",
    "end_seconds",
    "marks_moved_back",
    "older_epoch_writes",
    "differences",
    "broken",
];

/// Plays all rounds, and writes `result.json` and `rounds.csv`.
///
/// # Errors
/// Flags that make no experiment, and what the stack or the disk refuses.
pub(crate) async fn run(
    args: BenchZombiesArgs,
    projections: &Projections,
) -> Result<ExitCode, Failure> {
    if args.rounds == 0 || args.partitions < 1 {
        let sentence = "-rounds and -partitions must be at least 1";
        return Err(Failure::usage(sentence));
    }
    let out = args.common.create_out()?;
    let site = Site::open(&args.common, NAME, projections).await?;
    let outcome = play_all(&args, &site).await;
    let held = matches!(&outcome, Ok(played) if played.holds());
    // A round that broke the promise leaves its logs in the stack's directory.
    site.close(held).await?;
    let played = outcome?;
    let rows: Vec<_> = played.rounds.iter().map(row).collect();
    write(&out.join("rounds.csv"), &csv(&COLUMNS, &rows))?;
    let result = played.result(&args);
    write(&out.join("result.json"), &format!("{result:#}\n"))?;
    println!("{result}");
    match held {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::from(Kind::Differences.code())),
    }
}

/// All rounds.
struct Played {
    rounds: Vec<Round>,
    /// Why rounds could not be played to their end.
    unplayed: Vec<String>,
    seconds: f64,
}

async fn play_all(args: &BenchZombiesArgs, site: &Site) -> Result<Played, Failure> {
    let began = Instant::now();
    let log = SeededLog::of(args.events.0, &args.codec).over(args.partitions);
    site.seed(&log).await?;
    let stage = prepare(site, &log).await?;
    let seed = args.common.order_seed;
    println!("{} rounds, seed {seed}", args.rounds);
    let mut played = Played {
        rounds: Vec::new(),
        unplayed: Vec::new(),
        seconds: 0.0,
    };
    for plan in plans(args.rounds, args.partitions, seed) {
        match stage.round(&plan).await {
            Ok(round) => {
                tell(&round);
                played.rounds.push(round);
            }
            Err(failure) => {
                let told = format!("{}: {}", name(&plan), failure.sentence);
                println!("{told}");
                played.unplayed.push(told);
            }
        }
        if played.unplayed.len() >= MOST_UNPLAYED {
            break;
        }
    }
    site.drop_database(&stage.loaded)?;
    site.drop_database(&stage.empty)?;
    played.seconds = began.elapsed().as_secs_f64();
    Ok(played)
}

/// Makes the two databases that rounds begin with.
async fn prepare<'a>(site: &'a Site, log: &'a SeededLog) -> Result<Stage<'a>, Failure> {
    let empty = site.create_database()?;
    let session = SessionOptions::parse(&empty)
        .map_err(|error| Failure::error("read the database's address", error))?;
    drop(connect::registry(&session).await?);
    let loaded = site.create_database()?;
    let manner = Manner::one(&[format!("--leave-share={LEFT}")]);
    site.replay_into(log, &manner, &loaded).await?;
    let marks = history::read(&site.query(&loaded, history::MARKS)?)?;
    let left = |next: i64| next as f64 * LEFT / (1.0 - LEFT);
    let fewest = marks.iter().map(|(_, mark)| left(mark.next));
    if fewest.fold(f64::INFINITY, f64::min) < LEAST_BATCHES * BATCH as f64 {
        let sentence = format!(
            "a partition holds too few events for {LEAST_BATCHES} batches of {BATCH}: take more \
             events or fewer partitions"
        );
        return Err(Failure::usage(sentence));
    }
    for database in [&empty, &loaded] {
        site.query(database, history::KEEP)?;
    }
    Ok(Stage {
        site,
        log,
        empty,
        loaded,
    })
}

fn name(plan: &Plan) -> String {
    let cell = plan.cell;
    format!(
        "round {}: {} {} {}, continued {}",
        plan.number,
        cell.path.word(),
        cell.mode.word(),
        plan.failpoint(),
        plan.moment.word()
    )
}

fn tell(round: &Round) {
    println!(
        "{}: taken over within {:.2} s; the first ended by {} after {:.2} s, {} differences{}",
        name(&round.plan),
        round.take_over,
        round.ending.word(),
        round.end,
        round.differences,
        round
            .broken
            .iter()
            .map(|sentence| format!("; BROKEN: {sentence}"))
            .collect::<String>(),
    );
}

fn row(round: &Round) -> Vec<String> {
    let (plan, cell) = (&round.plan, round.plan.cell);
    let seconds = |value: f64| format!("{value:.3}");
    vec![
        plan.number.to_string(),
        cell.path.word().to_owned(),
        cell.mode.word().to_owned(),
        cell.point.to_owned(),
        plan.partition.to_string(),
        plan.nth.to_string(),
        plan.moment.word().to_owned(),
        round.ending.word().to_owned(),
        round.code.to_string(),
        seconds(round.take_over),
        seconds(round.stopped),
        seconds(round.end),
        round.audit.moved_back.to_string(),
        round.audit.older_epoch.to_string(),
        round.differences.to_string(),
        round.broken.join("; "),
    ]
}

impl Played {
    fn holds(&self) -> bool {
        self.unplayed.is_empty() && self.rounds.iter().all(|round| round.broken.is_empty())
    }

    fn result(&self, args: &BenchZombiesArgs) -> Value {
        let rounds = &self.rounds;
        let sum = |count: fn(&Round) -> u64| rounds.iter().map(count).sum::<u64>();
        let broken = rounds.iter().filter(|round| !round.broken.is_empty());
        let broken =
            broken.map(|round| format!("{}: {}", name(&round.plan), round.broken.join("; ")));
        let broken: Vec<_> = broken.chain(self.unplayed.iter().cloned()).collect();
        let mut points: Vec<_> = rounds.iter().map(|round| round.plan.cell.point).collect();
        points.sort_unstable();
        points.dedup();
        let cells: Vec<_> = plan::cells();
        let met = |cell: &&plan::Cell| rounds.iter().any(|round| round.plan.cell == **cell);
        let mut result = json!({
            "schema": "refold.bench-zombies/1",
            "rounds": rounds.len(),
            "points": points.len(),
            "cells": cells.iter().filter(met).count(),
            "exit_not_zero": sum(|round| u64::from(round.code != 0)),
            "take_over_seconds": spread(rounds.iter().map(|round| round.take_over)),
            "take_over_bound_seconds": TAKE_OVER_BOUND.as_secs(),
            "end_seconds": spread(rounds.iter().map(|round| round.end)),
            "marks_moved_back": sum(|round| round.audit.moved_back),
            "older_epoch_writes": sum(|round| round.audit.older_epoch),
            "differences": sum(|round| round.differences),
            "broken": broken,
            "seed": args.common.order_seed,
            "events": args.events.0,
            "partitions": args.partitions,
            "seconds": self.seconds,
            "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
            "machine": machine::describe(),
            "revision": machine::revision(),
        });
        for ending in Ending::ALL {
            let so = rounds.iter().filter(|round| round.ending == ending);
            result[ending.word()] = json!(so.count());
        }
        result
    }
}

/// The median, the 99th percentile and the maximum; nothing of no values.
fn spread(values: impl Iterator<Item = f64>) -> Value {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    // The nearest rank: a value that was seen.
    let at = |share: f64| {
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied()
    };
    let named = [("p50", at(0.5)), ("p99", at(0.99)), ("max", at(1.0))];
    let named = named
        .into_iter()
        .map(|(name, value)| (name.to_owned(), json!(value)));
    Value::Object(named.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_tells_values_that_were_seen() {
        let told = spread((1..=200).map(f64::from));
        assert_eq!(told, json!({ "p50": 100.0, "p99": 198.0, "max": 200.0 }));
        assert_eq!(spread(std::iter::empty())["max"], Value::Null);
    }
}
