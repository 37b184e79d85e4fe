//! The billion: the demo's way at the largest size that the disk holds, phase by phase, each
//! written down when it is done, so that a run that was stopped goes on.

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use refold_bench::disk::bytes_below;
use refold_domain::version::VersionState;
use serde_json::Value;
use serde_json::json;

use super::LIVE;
use super::NEW;
use super::figures::Comparison;
use super::fit;
use super::fit::Sampling;
use super::scene::Scene;
use super::scene::Staging;
use crate::bench::Phases;
use crate::cli::BenchBillionArgs;
use crate::cli::Count;
use crate::cli::DemoArgs;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::cli::word;
use crate::load::Span;
use crate::machine;
use crate::run::Projections;

/// Most events of the sample by which the whole is judged.
const SAMPLE: u64 = 10_000_000;

/// Runs it, or goes on with it.
///
/// # Errors
/// The step that failed; what was finished before stays, and the same command goes on from there.
pub(crate) async fn run(
    args: BenchBillionArgs,
    projections: Projections,
) -> Result<ExitCode, Failure> {
    let out = args.common.create_out()?;
    let mut phases = Phases::open(&out.join("state.json"), &plan(&args))?;
    let dir = args.common.dir("billion");
    std::fs::create_dir_all(&dir)
        .map_err(|error| Failure::usage(format!("-stack-dir {}: {error}", dir.display())))?;
    if !phases.has("sample") {
        let sample = sample(&args, &dir).await?;
        phases.finish("sample", sample)?;
    }
    check_fit(&args, &dir, &phases)?;
    let mut scene = Scene::open(demo_args(&args, &dir), staging(&args), projections).await?;
    let outcome = play(&args, &mut scene, &mut phases).await;
    let done = outcome.is_ok();
    if done && !args.common.keep {
        scene.let_go();
    }
    let closed = scene.close().await;
    outcome?;
    closed?;
    let result = result(&args, &phases);
    write(&out.join("result.json"), &result)?;
    println!("{result}");
    phases.remove()?;
    let clean = ["differences_oracle", "failed_reads"]
        .iter()
        .all(|name| result[name] == json!(0));
    match clean {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::from(Kind::Differences.code())),
    }
}

fn write(path: &Path, value: &Value) -> Result<(), Failure> {
    let text = format!("{value:#}\n");
    std::fs::write(path, text)
        .map_err(|error| Failure::error(&format!("write {}", path.display()), error))
}

/// What makes two runs the same one.
fn plan(args: &BenchBillionArgs) -> Value {
    let stream = &args.stream;
    json!({
        "events": stream.events.0,
        "aggregates": stream.aggregates.0,
        "partitions": stream.partitions,
        "zipf": stream.zipf,
        "seed": stream.seed,
        "codec": args.codec,
        "format": word(args.format),
        "wal": args.common.wal_level().name(),
        "revision": machine::revision(),
    })
}

fn demo_args(args: &BenchBillionArgs, dir: &Path) -> DemoArgs {
    DemoArgs {
        stream: args.stream.clone(),
        codec: args.codec.clone(),
        format: args.format,
        tail_rate: args.tail_rate,
        read_rate: args.read_rate,
        reads: args.reads,
        kills: 0,
        rate_limit: Count(0),
        stack_dir: Some(dir.to_path_buf()),
        json: true,
        brokers: None,
        postgres: None,
    }
}

fn staging(args: &BenchBillionArgs) -> Staging {
    Staging {
        topic: Some(format!("billion-{}", args.stream.seed)),
        wal_level: args.common.wal_level(),
        keep: true,
        projector_flags: args.common.engine_flags(),
        console: Some(args.common.out.join("output.txt")),
        look: Duration::from_millis(if args.stream.events.0 > 50_000_000 {
            200
        } else {
            20
        }),
        keep_free: args.keep_free.0,
        ..Staging::default()
    }
}

async fn sample(args: &BenchBillionArgs, dir: &Path) -> Result<Value, Failure> {
    let stream = &args.stream;
    let events = stream.events.0.min(SAMPLE);
    let share = stream.aggregates.0 as f64 / stream.events.0.max(1) as f64;
    let aggregates = ((events as f64 * share) as u64).max(1);
    eprintln!("measure what {} events take on the disk", Count(events));
    let flags = [
        format!("--partitions={}", stream.partitions),
        format!("--zipf={}", stream.zipf),
        format!("--seed={}", stream.seed),
        format!("--format={}", word(args.format)),
    ];
    let what = Sampling {
        dir: dir.join("sample"),
        stream: &flags,
        size: (events, aggregates),
        codec: &args.codec,
        versions: &[LIVE, NEW],
        wal_level: args.common.wal_level(),
    };
    let sample = fit::sample(&what).await?;
    serde_json::to_value(sample).map_err(|error| Failure::error("keep the sample", error))
}

fn check_fit(args: &BenchBillionArgs, dir: &Path, phases: &Phases) -> Result<(), Failure> {
    if phases.has("seed") {
        return Ok(());
    }
    let sample = serde_json::from_value(phases.get("sample").clone())
        .map_err(|error| Failure::error("read the sample", error))?;
    let there = bytes_below(dir, &|_: &Path| true);
    let room = fit::room(dir, (args.keep_free.0, args.log_limit.0), there)?;
    let size = (args.stream.events.0, args.stream.aggregates.0);
    fit::check(&sample, size, &room)
}

async fn play(
    args: &BenchBillionArgs,
    scene: &mut Scene,
    phases: &mut Phases,
) -> Result<(), Failure> {
    if !phases.has("seed") {
        seed(args, scene, phases).await?;
    }
    scene.step("start accounts_v3 live and the api");
    scene.start_live(LIVE).await?;
    scene.start_api().await?;
    if phases.has("switch") {
        scene.start_catching_up(NEW)?;
    } else if scene.state(NEW).await? == Some(VersionState::Active) {
        // Killed between the switch and the line that tells of it: its figures are lost.
        let sentence = "accounts_v4 serves already, but what its switch took was not written down: \
             remove the state file and the stack's directory and start afresh";
        return Err(Failure::new(Kind::Refused, sentence));
    } else {
        activate(args, scene, phases).await?;
        switch(args, scene, phases).await?;
    }
    if !phases.has("oracle") {
        scene.step("compare every aggregate of accounts_v4 with the known final state");
        let began = Instant::now();
        let found = scene.verify_expected(NEW).await?;
        let mut figures = comparison(&found);
        figures["seconds"] = json!(began.elapsed().as_secs_f64());
        phases.finish("oracle", figures)?;
    }
    Ok(())
}

async fn seed(
    args: &BenchBillionArgs,
    scene: &mut Scene,
    phases: &mut Phases,
) -> Result<(), Failure> {
    let stream = &args.stream;
    scene.step(&format!(
        "seed {} events of {} accounts into {} partitions, {}",
        stream.events, stream.aggregates, stream.partitions, args.codec
    ));
    let began = Instant::now();
    scene.seed().await?;
    let seconds = began.elapsed().as_secs_f64();
    let bytes = fit::log_bytes(&args.common.dir("billion"), scene.topic());
    let per_event = bytes as f64 / stream.events.0.max(1) as f64;
    scene.note(&format!(
        "{} bytes, {per_event:.1} an event, in {seconds:.0} s",
        Count(bytes)
    ));
    let figures = json!({
        "seconds_of_the_last_start": seconds,
        "log_bytes": bytes,
        "bytes_per_event": per_event,
    });
    phases.finish("seed", figures)
}

/// How long a step over the whole log may take before it counts as hung.
fn bound(args: &BenchBillionArgs) -> Duration {
    Duration::from_secs(300 + args.stream.events.0 / 100_000)
}

async fn activate(
    args: &BenchBillionArgs,
    scene: &mut Scene,
    phases: &mut Phases,
) -> Result<(), Failure> {
    let began = Instant::now();
    scene
        .wait_state(LIVE, VersionState::Active, bound(args))
        .await?;
    let seconds = began.elapsed().as_secs_f64();
    scene.note(&format!("accounts_v3 serves after {seconds:.1} s"));
    if !phases.has("live") {
        phases.finish("live", json!({ "seconds": seconds }))?;
    }
    Ok(())
}

/// From the first read to the last: rebuild, catch up, verify, promote.
async fn switch(
    args: &BenchBillionArgs,
    scene: &mut Scene,
    phases: &mut Phases,
) -> Result<(), Failure> {
    scene.step(&format!(
        "read at {}/s, append {} events/s",
        args.read_rate, args.tail_rate
    ));
    scene.start_load();
    scene.start_tail()?;
    scene.wait_tail(bound(args)).await?;
    let before = scene.reads();
    scene.wait_reads(before + args.reads.0 / 8).await?;
    rebuild(args, scene, phases).await?;

    scene.step("scan both tables");
    scene.verify_against(NEW, super::LIVE).await?;
    // The rows are compared with the known final state afterwards, when no reader waits for the disk.
    scene.step("promote accounts_v4 under read load");
    scene.mark(Span::Cutover);
    let cutover = scene.cutover(NEW, None).await?;
    scene.mark(Span::After);
    scene.note(&format!(
        "generation {}, flip {:.1} ms",
        cutover.generation, cutover.flip_ms
    ));
    let wanted = scene.reads() + args.read_rate.0 * 10;
    scene.wait_reads(args.reads.0.max(wanted)).await?;
    let load = scene.stop_load().await?;
    scene.stop_tail().await?;
    for failed in &load.failures {
        scene.note(&format!("failed read: {failed:?}"));
    }
    scene.note(&format!(
        "{} reads, {} failed",
        Count(load.reads),
        load.failed
    ));
    let figures = json!({
        "flip_ms": cutover.flip_ms,
        "generation": cutover.generation,
        "switch_offsets": cutover.offsets,
        "load": load.to_json(),
    });
    phases.finish("switch", figures)
}

async fn rebuild(
    args: &BenchBillionArgs,
    scene: &mut Scene,
    phases: &mut Phases,
) -> Result<(), Failure> {
    if phases.has("rebuild") {
        scene.start_catching_up(NEW)?;
        return scene
            .wait_state(NEW, VersionState::Ready, bound(args))
            .await;
    }
    scene.step("rebuild accounts_v4 from offset 0 beside it");
    scene.mark(Span::Replay);
    let begun_before = phases.note_start("rebuild")?;
    let rebuild = scene.rebuild(NEW, 0).await?;
    scene.note(&format!(
        "{} events in {:.1} s, {} events/s; {}",
        Count(rebuild.events),
        rebuild.seconds,
        Count(rebuild.events_per_second()),
        rebuild.spent.bound()
    ));
    scene.step("catch up with the moving tail");
    let began = Instant::now();
    scene
        .wait_state(NEW, VersionState::Ready, bound(args))
        .await?;
    let figures = json!({
        "events": rebuild.events,
        "seconds": rebuild.seconds,
        // A rebuild that was stopped on the way goes on from what it had committed: its
        // seconds are then those of the last start only, and no figure of a whole rebuild.
        "stopped_on_the_way": begun_before,
        "events_per_second": rebuild.events_per_second(),
        "peak_memory_bytes": rebuild.peak_memory_bytes,
        "core_seconds": rebuild.spent,
        "bound": rebuild.spent.bound(),
        "stages": rebuild.stages,
        "catch_up_seconds": began.elapsed().as_secs_f64(),
        "disk": disk(args, scene),
    });
    phases.finish("rebuild", figures)
}

/// What everything takes on the disk now.
fn disk(args: &BenchBillionArgs, scene: &Scene) -> Value {
    let all = |_: &Path| true;
    let dir: PathBuf = args.common.dir("billion");
    let below = |dir: Option<PathBuf>| dir.map(|dir| bytes_below(&dir, &all));
    json!({
        "log_bytes": fit::log_bytes(&dir, scene.topic()),
        "table_bytes": below(scene.stack().map(fit::tables_dir)),
        "wal_bytes": below(scene.stack().map(fit::wal_dir)),
        "free_bytes": machine::free_disk_bytes(&dir).ok(),
    })
}

fn comparison(found: &Comparison) -> Value {
    json!({
        "rows_compared": found.rows,
        "columns": found.columns,
        "differences": found.differences,
        "intended_differences": found.intended,
        "intended_differences_expected": found.intended_expected,
        "samples": found.samples,
    })
}

fn result(args: &BenchBillionArgs, phases: &Phases) -> Value {
    let (seed, rebuild) = (phases.get("seed"), phases.get("rebuild"));
    let (switch, oracle) = (phases.get("switch"), phases.get("oracle"));
    json!({
        "schema": "refold.bench-billion/1",
        "events": rebuild["events"],
        "rows": oracle["rows_compared"],
        "seconds": rebuild["seconds"],
        "events_per_second": rebuild["events_per_second"],
        "bytes_per_event": seed["bytes_per_event"],
        "peak_memory_bytes": rebuild["peak_memory_bytes"],
        "catch_up_seconds": rebuild["catch_up_seconds"],
        "flip_ms": switch["flip_ms"],
        "reads": switch["load"]["reads"],
        "failed_reads": switch["load"]["failed_reads"],
        "rows_compared": oracle["rows_compared"],
        "differences_oracle": oracle["differences"],
        "stopped_on_the_way": rebuild["stopped_on_the_way"],
        "bound": rebuild["bound"],
        "core_seconds": rebuild["core_seconds"],
        "stages": rebuild["stages"],
        "disk": rebuild["disk"],
        "sample": phases.get("sample"),
        "seed_phase": seed,
        "live_phase": phases.get("live"),
        "switch": switch,
        "oracle": oracle,
        "plan": plan(args),
        "engine": args.common.engine,
        "tail_rate": args.tail_rate.0,
        "read_rate": args.read_rate.0,
        "machine": machine::describe(),
        "revision": machine::revision(),
    })
}
