//! `bench way-back`: the new version serves for a while, under reads and a moving tail, and then
//! the one before is promoted again, through the same gates. It went on all the time, so what it
//! serves then is the log's state of now and not that of the switch.

use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use super::LIVE;
use super::NEW;
use super::figures::Comparison;
use super::figures::Cutover;
use super::scene::Experiment;
use super::scene::SCAN_AGE;
use super::scene::Scene;
use crate::cli::BenchWayBackArgs;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::load::Span;
use crate::machine;
use crate::run::Projections;

/// Between two looks at the processes while nothing is asked of them.
const LOOK: Duration = Duration::from_millis(500);

/// Reads behind the last switch, in seconds of the load.
const BEHIND: u64 = 5;

/// Runs it and writes `result.json`.
///
/// # Errors
/// The step that failed. Differences and failed reads are an exit code, after the result was
/// written.
pub(crate) async fn run(
    args: BenchWayBackArgs,
    projections: Projections,
) -> Result<ExitCode, Failure> {
    let out = args.common.create_out()?;
    let experiment = Experiment {
        stream: &args.stream,
        common: &args.common,
        codec: &args.codec,
        tail_rate: args.tail_rate,
        read_rate: args.read_rate,
    };
    let mut scene = experiment.open(projections).await?;
    let outcome = play(&args, &mut scene).await;
    let result = scene.conclude(outcome, &out).await?;
    match result["held"] == json!(true) {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::from(Kind::Differences.code())),
    }
}

/// A switch, and the comparison of both versions on whose ground it was made.
struct Switch {
    compared: Comparison,
    cutover: Cutover,
}

impl Switch {
    /// Compares both versions, and promotes one of them.
    async fn to(scene: &mut Scene, version: &str) -> Result<Self, Failure> {
        scene.step(&format!(
            "compare both versions and promote {version} under read load"
        ));
        let compared = scene.verify_against(NEW, LIVE).await?;
        scene.mark(Span::Cutover);
        let cutover = scene.cutover(version, Some(SCAN_AGE)).await?;
        scene.mark(Span::After);
        Ok(Self { compared, cutover })
    }

    /// Whether the versions differed where they are meant to, and nowhere else.
    fn is_clean(&self) -> bool {
        self.compared.differences == 0 && self.compared.intended == self.compared.intended_expected
    }

    fn offset_sum(&self) -> i64 {
        self.cutover.offsets.values().sum()
    }

    fn to_json(&self) -> Value {
        json!({
            "rows_compared": self.compared.rows,
            "differences": self.compared.differences,
            "intended_differences": self.compared.intended,
            "intended_differences_expected": self.compared.intended_expected,
            "generation": self.cutover.generation,
            "flip_ms": self.cutover.flip_ms,
            "offset_sum": self.offset_sum(),
        })
    }
}

async fn play(args: &BenchWayBackArgs, scene: &mut Scene) -> Result<Value, Failure> {
    let rebuild = scene.build_both(LIVE, NEW).await?;
    let there = Switch::to(scene, NEW).await?;
    scene.step(&format!("let it serve for {:?}", args.traffic));
    let (reads, began) = (scene.reads(), Instant::now());
    while began.elapsed() < args.traffic {
        scene.check_roles()?;
        tokio::time::sleep(LOOK).await;
    }
    let (reads, seconds) = (scene.reads() - reads, began.elapsed().as_secs_f64());
    let back = Switch::to(scene, LIVE).await?;
    let wanted = scene.reads() + args.read_rate.0 * BEHIND;
    scene.wait_reads(wanted).await?;
    let load = scene.stop_load().await?;
    scene.step("hold both versions against the known final state");
    let live = scene.verify_expected(LIVE).await?;
    let new = scene.verify_expected(NEW).await?;
    let differences = live.differences + new.differences;
    let appended = back.offset_sum() - there.offset_sum();
    let held = differences == 0
        && [&there, &back].iter().all(|switch| switch.is_clean())
        && load.failed == 0
        && appended > 0;
    Ok(json!({
        "schema": "refold.bench-way-back/1",
        "held": held,
        "events": rebuild.events,
        "seconds_between": seconds,
        "events_between": appended,
        "reads_between": reads,
        "there": there.to_json(),
        "back": back.to_json(),
        "rows_live": live.rows,
        "rows_new": new.rows,
        "differences_oracle": differences,
        "load": load.to_json(),
        "machine": machine::describe(),
        "revision": machine::revision(),
    }))
}
