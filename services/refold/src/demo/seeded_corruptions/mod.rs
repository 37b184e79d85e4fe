//! `bench seeded-corruptions`: damage of every kind, done to random rows, and whether the
//! proof finds it, and which of its layers does.
//!
//! A checker that finds everything may also find what is not there: it looks at sound tables
//! too, while both versions go on with a moving tail.

mod checker;
mod inject;
mod kinds;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use refold_domain::version::VersionState;
use refold_ports::Registry;
use serde_json::Value;
use serde_json::json;

use self::checker::Checker;
use self::checker::Found;
use self::inject::Ground;
use self::kinds::KINDS;
use super::LIVE;
use super::NEW;
use super::scene::Experiment;
use super::scene::Scene;
use crate::bench::report::write;
use crate::cli::BenchSeededCorruptionsArgs;
use crate::cli::Count;
use crate::cli::Failure;
use crate::cli::Kind as FailureKind;
use crate::machine;
use crate::run::Projections;
use crate::run::find;

/// How long one step may take before it counts as hung.
const BOUND: Duration = Duration::from_secs(600);

/// Between two looks at the marks.
const LOOK: Duration = Duration::from_millis(50);

/// What came of one piece of damage.
struct Trial {
    kind: &'static str,
    told: String,
    found: Found,
}

/// What came of all.
#[derive(Default)]
struct Outcome {
    clean_runs: u64,
    clean_rows: u64,
    false_findings: Vec<String>,
    trials: Vec<Trial>,
    seconds: f64,
}

/// Runs it and writes `result.json` and `table.txt`.
///
/// # Errors
/// The step that failed. Damage that was not found, and a finding where there is none, are an
/// exit code, after the result was written.
pub(crate) async fn run(
    args: BenchSeededCorruptionsArgs,
    projections: Projections,
) -> Result<ExitCode, Failure> {
    let out = args.common.create_out()?;
    let pair = (find(&projections, LIVE)?, find(&projections, NEW)?);
    let experiment = Experiment {
        stream: &args.stream,
        common: &args.common,
        codec: &args.codec,
        tail_rate: args.tail_rate,
        read_rate: Count(0),
    };
    let mut scene = experiment.open(projections).await?;
    let checker = Checker {
        registry: scene.registry().await?,
        session: scene.session()?,
        log: scene.log(),
        old: Arc::clone(&pair.0),
        new: Arc::clone(&pair.1),
    };
    let outcome = play(&args, &mut scene, &checker).await;
    let closed = scene.close().await;
    let outcome = outcome?;
    closed?;
    let result = outcome.to_json(&args);
    write(&out.join("result.json"), &format!("{result:#}\n"))?;
    let table = outcome.table();
    write(&out.join("table.txt"), &table)?;
    print!("{table}");
    println!("{result}");
    let missed = outcome.trials.iter().any(|t| t.found.layers().is_empty());
    match !missed && outcome.false_findings.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::from(FailureKind::Differences.code())),
    }
}

async fn play(
    args: &BenchSeededCorruptionsArgs,
    scene: &mut Scene,
    checker: &Checker,
) -> Result<Outcome, Failure> {
    let began = Instant::now();
    scene.step("seed, build both versions, and let the log grow");
    scene.seed().await?;
    scene.start_live(LIVE).await?;
    scene.wait_state(LIVE, VersionState::Active, BOUND).await?;
    scene.start_tail()?;
    scene.wait_tail(BOUND).await?;
    scene.rebuild(NEW, 0).await?;
    scene.wait_state(NEW, VersionState::Ready, BOUND).await?;
    let mut outcome = Outcome::default();
    scene.step(&format!("look at sound tables {} times", args.clean_runs));
    for _ in 0..args.clean_runs {
        scene.check_roles()?;
        let found = checker.check().await?;
        outcome.clean_runs += 1;
        outcome.clean_rows += found.rows;
        let findings = [found.sums, found.scan, found.log].concat();
        outcome.false_findings.extend(findings);
    }
    scene.stop_tail().await?;
    frozen(scene, checker).await?;
    let ground = Ground {
        postgres: scene.postgres().to_owned(),
        session: scene.session()?,
        old: Arc::clone(&checker.old),
        new: Arc::clone(&checker.new),
        partitions: args.stream.partitions,
    };
    scene.step(&format!(
        "do damage of {} kinds, {} times each, by the dice of seed {}",
        KINDS.len(),
        args.times,
        args.damage_seed
    ));
    let mut dice = fastrand::Rng::with_seed(args.damage_seed);
    let mut order: Vec<_> = (0..args.times).flat_map(|_| KINDS.iter()).collect();
    dice.shuffle(&mut order);
    for kind in order {
        scene.check_roles()?;
        let damage = ground.inject(kind, &mut dice).await?;
        let found = checker.check().await?;
        scene.note(&format!("{}: layers {:?}", damage.told, found.layers()));
        outcome.trials.push(Trial {
            kind: kind.name,
            told: damage.told.clone(),
            found,
        });
        ground.undo(damage).await?;
    }
    // What was undone is sound again, or the trials after it proved nothing.
    let found = checker.check().await?;
    outcome.clean_runs += 1;
    outcome.clean_rows += found.rows;
    let findings = [found.sums, found.scan, found.log].concat();
    outcome.false_findings.extend(findings);
    outcome.seconds = began.elapsed().as_secs_f64();
    Ok(outcome)
}

/// Waits until both versions stand still at one vector.
async fn frozen(scene: &mut Scene, checker: &Checker) -> Result<(), Failure> {
    let deadline = Instant::now() + BOUND;
    let mut before = Vec::new();
    loop {
        scene.check_roles()?;
        let mut vectors = Vec::new();
        for projection in [&checker.old, &checker.new] {
            let label = projection.spec().label();
            let id = checker.registry.version(&label).await?.id;
            let marks = checker.registry.marks(id).await?;
            vectors.push(marks.into_iter().map(|mark| mark.next).collect::<Vec<_>>());
        }
        if vectors == before && vectors[0] == vectors[1] {
            return Ok(());
        }
        if Instant::now() > deadline {
            let sentence = "the two versions did not come to stand at one vector";
            return Err(Failure::new(FailureKind::TimedOut, sentence));
        }
        before = vectors;
        tokio::time::sleep(LOOK).await;
    }
}

impl Outcome {
    fn found_by(&self, layer: u8) -> usize {
        let found = self.trials.iter();
        found
            .filter(|trial| trial.found.layers().contains(&layer))
            .count()
    }

    fn to_json(&self, args: &BenchSeededCorruptionsArgs) -> Value {
        let found = self.trials.iter().filter(|t| !t.found.layers().is_empty());
        let trials = self.trials.iter().map(|trial| {
            json!({
                "kind": trial.kind,
                "what": trial.told,
                "layers": trial.found.layers(),
                "sums": trial.found.sums,
                "scan": trial.found.scan,
                "log": trial.found.log,
            })
        });
        json!({
            "schema": "refold.bench-seeded-corruptions/1",
            "kinds": KINDS.len(),
            "injected": self.trials.len(),
            "found": found.count(),
            "found_by_layer": {
                "sums": self.found_by(1),
                "scan": self.found_by(2),
                "log": self.found_by(3),
            },
            "clean_runs": self.clean_runs,
            "clean_rows_compared": self.clean_rows,
            "false_findings": self.false_findings.len(),
            "false_findings_told": self.false_findings,
            "damage_seed": args.damage_seed,
            "events": args.stream.events.0,
            "rows": args.stream.aggregates.0,
            "tail_rate": args.tail_rate.0,
            "seconds": self.seconds,
            "trials": trials.collect::<Vec<_>>(),
            "machine": machine::describe(),
            "revision": machine::revision(),
        })
    }

    /// By kind, how often it was done and how often each layer found it.
    fn table(&self) -> String {
        let mut out = format!(
            "{:<20} {:>5} {:>6} {:>5} {:>5} {:>5}\n",
            "kind", "done", "found", "sums", "scan", "log"
        );
        for kind in &KINDS {
            let of_kind: Vec<_> = self.trials.iter().filter(|t| t.kind == kind.name).collect();
            let by = |layer: u8| {
                let found = of_kind.iter();
                found.filter(|t| t.found.layers().contains(&layer)).count()
            };
            let found = of_kind.iter().filter(|t| !t.found.layers().is_empty());
            out.push_str(&format!(
                "{:<20} {:>5} {:>6} {:>5} {:>5} {:>5}\n",
                kind.name,
                of_kind.len(),
                found.count(),
                by(1),
                by(2),
                by(3)
            ));
        }
        out.push_str(&format!(
            "{} looks at sound tables, {} findings\n",
            self.clean_runs,
            self.false_findings.len()
        ));
        out
    }
}
