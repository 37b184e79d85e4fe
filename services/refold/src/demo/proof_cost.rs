//! `bench proof-cost`: what the proof takes, and that it finds nothing where nothing is,
//! while both versions go on with a moving tail.
//!
//! At the end the sums are compared as often and the tables once while the log stands still, and
//! the database itself compares these with EXCEPT in both directions: what a scan would have to beat.

mod finer;

use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use refold_bench::spread::Spread;
use refold_domain::diff::comparable_columns;
use refold_domain::version::VersionState;
use refold_ports::Registry;
use refold_store_postgres::PgVerifier;
use refold_store_postgres::ScanOptions;
use refold_store_postgres::ScanReport;
use serde_json::Value;
use serde_json::json;

use self::finer::FinerBarrier;
use super::LIVE;
use super::NEW;
use super::scene::Experiment;
use super::scene::Scene;
use crate::cli::BenchProofCostArgs;
use crate::cli::Count;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::command::verify::except_sql;
use crate::connect::query;
use crate::machine;
use crate::run::Projections;
use crate::run::find;

/// How long one step may take before it counts as hung.
const BOUND: Duration = Duration::from_secs(600);

/// Between two looks at a barrier.
const LOOK: Duration = Duration::from_millis(1);

/// What one barrier took, in milliseconds.
struct Barrier {
    /// From its choice until every partition of both versions had passed it.
    reached: f64,
    /// The comparison of the sums alone.
    compared: f64,
}

/// Comparisons of the checksums.
struct Compared {
    barriers: Vec<Barrier>,
    /// What as many comparisons took that had [`finer::FINE_BUCKETS`], in milliseconds.
    finer: Vec<f64>,
    /// Sums of a partition that these had.
    finer_sums: usize,
}

/// The scans by one number of workers.
struct Scans {
    workers: usize,
    reports: Vec<ScanReport>,
}

/// Runs it and writes `result.json`.
///
/// # Errors
/// The step that failed. A finding is an exit code, after the result was written.
pub(crate) async fn run(
    args: BenchProofCostArgs,
    projections: Projections,
) -> Result<ExitCode, Failure> {
    let out = args.common.create_out()?;
    let experiment = Experiment {
        stream: &args.stream,
        common: &args.common,
        codec: &args.codec,
        tail_rate: args.tail_rate,
        read_rate: Count(0),
    };
    let mut scene = experiment.open(projections.clone()).await?;
    let outcome = play(&args, &mut scene, &projections).await;
    let result = scene.conclude(outcome, &out).await?;
    match result["false_findings"] == json!(0) && result["except_rows"] == json!(0) {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::from(Kind::Differences.code())),
    }
}

async fn play(
    args: &BenchProofCostArgs,
    scene: &mut Scene,
    projections: &Projections,
) -> Result<Value, Failure> {
    scene.step("seed, build both versions, and let the log grow");
    scene.seed().await?;
    scene.start_live(LIVE).await?;
    scene.wait_state(LIVE, VersionState::Active, BOUND).await?;
    scene.start_tail()?;
    scene.wait_tail(BOUND).await?;
    scene.rebuild(NEW, 0).await?;
    scene.wait_state(NEW, VersionState::Ready, BOUND).await?;

    scene.step(&format!("compare the checksums {} times", args.barriers));
    let finer = finer_barrier(args, scene, projections).await?;
    let moving = compare_sums(args.barriers, scene, projections, &finer).await?;
    scene.step("scan both tables");
    let mut scans: Vec<_> = args
        .workers
        .iter()
        .map(|workers| Scans {
            workers: *workers,
            reports: Vec::new(),
        })
        .collect();
    for run in 0..args.common.runs {
        // Turn about, so that what the machine does meanwhile falls on all alike.
        let first = run % scans.len().max(1);
        scans.rotate_left(first);
        for scans in &mut scans {
            scene.check_roles()?;
            let report = scan(scene, projections, scans.workers).await?;
            scene.note(&format!(
                "{} workers: {} keys in {:.2} s, {} findings",
                scans.workers,
                Count(report.rows()),
                report.seconds,
                report.findings()
            ));
            scans.reports.push(report);
        }
    }
    scans.sort_by_key(|scans| scans.workers);
    scene.stop_tail().await?;
    scene.step("compare the checksums as often, standing still");
    let standing = compare_sums(args.barriers, scene, projections, &finer).await?;
    scene.step("let the database compare them with EXCEPT, both ways, standing still");
    let (except_rows, except_seconds) = except(scene, projections).await?;
    let still = scan(
        scene,
        projections,
        args.workers.iter().copied().max().unwrap_or(1),
    )
    .await?;
    let result = to_json(
        args,
        (&moving, &standing),
        &scans,
        (except_rows, except_seconds, &still),
    );
    Ok(result)
}

async fn compare_sums(
    times: usize,
    scene: &mut Scene,
    projections: &Projections,
    finer: &FinerBarrier,
) -> Result<Compared, Failure> {
    let mut compared = Compared {
        barriers: Vec::new(),
        finer: Vec::new(),
        finer_sums: finer.sums(),
    };
    for _ in 0..times {
        scene.check_roles()?;
        compared.barriers.push(barrier(scene, projections).await?);
        compared.finer.push(finer.compare(scene).await?);
    }
    Ok(compared)
}

/// The columns that both versions have and that must be equal.
fn compared_columns(projections: &Projections) -> Result<Vec<&'static str>, Failure> {
    let (old, new) = (find(projections, LIVE)?, find(projections, NEW)?);
    let columns = comparable_columns(old.spec(), new.spec());
    columns.map_err(|error| Failure::usage(error.to_string()))
}

async fn finer_barrier(
    args: &BenchProofCostArgs,
    scene: &mut Scene,
    projections: &Projections,
) -> Result<FinerBarrier, Failure> {
    let size = (args.stream.partitions, compared_columns(projections)?.len());
    FinerBarrier::write(scene, find(projections, NEW)?.spec(), size).await
}

async fn barrier(scene: &mut Scene, projections: &Projections) -> Result<Barrier, Failure> {
    let (old, new) = (find(projections, LIVE)?, find(projections, NEW)?);
    let (old, new) = (old.spec(), new.spec());
    let columns = compared_columns(projections)?;
    let registry = scene.registry().await?;
    let (from, to) = (
        registry.version(LIVE).await?.id,
        registry.version(NEW).await?.id,
    );
    let began = Instant::now();
    let set = registry.set_barrier(from, to).await?;
    while !registry.barrier_progress(set.id).await?.is_complete() {
        if began.elapsed() > BOUND {
            return Err(Failure::new(Kind::TimedOut, "a barrier was not reached"));
        }
        tokio::time::sleep(LOOK).await;
    }
    let reached = began.elapsed();
    let began = Instant::now();
    let proof = registry
        .compare_at_barrier(set.id, old, new, &columns)
        .await?;
    let compared = began.elapsed();
    if let Some(first) = proof.differences.first() {
        let sentence = format!(
            "the checksums differ in {} of {}",
            first.column, first.partition
        );
        return Err(Failure::new(Kind::Differences, sentence));
    }
    Ok(Barrier {
        reached: reached.as_secs_f64() * 1_000.0,
        compared: compared.as_secs_f64() * 1_000.0,
    })
}

async fn scan(
    scene: &Scene,
    projections: &Projections,
    workers: usize,
) -> Result<ScanReport, Failure> {
    let (old, new) = (find(projections, LIVE)?, find(projections, NEW)?);
    let options = ScanOptions {
        workers,
        ..ScanOptions::default()
    };
    let verifier = PgVerifier::new(&scene.session()?);
    let report = verifier.scan_pair(old.spec(), new.spec(), &options, None);
    Ok(report.await?)
}

/// Rows that EXCEPT found in either direction, and the seconds that it took.
async fn except(scene: &Scene, projections: &Projections) -> Result<(u64, f64), Failure> {
    let (old, new) = (find(projections, LIVE)?, find(projections, NEW)?);
    let sql = except_sql(old.spec(), new.spec())?;
    let began = Instant::now();
    let answer = query(scene.postgres(), &sql).await?;
    let rows = answer.lines().filter(|line| !line.trim().is_empty());
    Ok((rows.count() as u64, began.elapsed().as_secs_f64()))
}

/// The goal for a comparison of [`finer::FINE_BUCKETS`], in milliseconds.
const GOAL_MS: f64 = 100.0;

impl Compared {
    fn to_json(&self) -> Value {
        let of = |value: fn(&Barrier) -> f64| spread(self.barriers.iter().map(value).collect());
        json!({
            "barrier_reached_ms": of(|barrier| barrier.reached),
            "compared_ms": of(|barrier| barrier.compared),
            "finer": {
                "buckets": finer::FINE_BUCKETS,
                "sums_per_partition": self.finer_sums,
                "compared_ms": spread(self.finer.clone()),
                "at_or_over_100_ms": self.finer.iter().filter(|ms| **ms >= GOAL_MS).count(),
            },
        })
    }
}

fn spread(values: Vec<f64>) -> Option<Value> {
    Spread::of(&values).map(|s| json!({"min": s.min, "median": s.median, "max": s.max}))
}

fn to_json(
    args: &BenchProofCostArgs,
    (moving, standing): (&Compared, &Compared),
    scans: &[Scans],
    (except_rows, except_seconds, still): (u64, f64, &ScanReport),
) -> Value {
    let reports = || scans.iter().flat_map(|scans| &scans.reports);
    let held = reports().flat_map(|report| &report.partitions);
    let by_workers = scans.iter().map(|scans| {
        let rates = scans.reports.iter();
        let rates = rates.map(|r| r.rows() as f64 / r.seconds).collect();
        let snapshots = scans.reports.iter().flat_map(|r| &r.partitions);
        json!({
            "workers": scans.workers,
            "keys_per_second": spread(rates),
            "longest_snapshot_seconds": snapshots.map(|p| p.seconds).fold(0.0, f64::max),
        })
    });
    let (tried, accepted) = still.rule_tried();
    json!({
        "schema": "refold.bench-proof-cost/1",
        "events": args.stream.events.0,
        "partitions": args.stream.partitions,
        "tail_rate": args.tail_rate.0,
        "barriers": moving.barriers.len(),
        "sums": moving.to_json(),
        "scans": by_workers.collect::<Vec<_>>(),
        "rows_compared": reports().map(ScanReport::rows).sum::<u64>(),
        "false_findings": reports().map(ScanReport::findings).sum::<u64>(),
        "partition_held_ms": spread(held.map(|p| p.held_ms).collect()),
        "still": {
            "keys": still.rows(),
            "seconds": still.seconds,
            "expected": still.expected(),
            "rule_tried": tried,
            "rule_accepted": accepted,
            "sums": standing.to_json(),
        },
        "except_rows": except_rows,
        "except_seconds": except_seconds,
        "except_seconds_per_scan_second": except_seconds / still.seconds,
        "machine": machine::describe(),
        "revision": machine::revision(),
    })
}
