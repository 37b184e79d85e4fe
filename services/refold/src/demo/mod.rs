//! The whole way on this machine: seed, live, rebuild, catch up, verify,
//! promote under read load, and a printed proof of what was measured.

mod billion;
mod chaos;
mod cutover_proof;
mod figures;
mod fit;
mod processes;
mod proof_cost;
mod scene;
mod seeded_corruptions;
mod thousand_switches;
mod way_back;

use std::time::Duration;
use std::time::Instant;

use refold_domain::version::VersionState;

use crate::cli::Count;
use crate::cli::DemoArgs;
use crate::cli::Failure;
use crate::load::Span;
use crate::run::Projections;

pub(crate) use billion::run as billion;
pub(crate) use chaos::run as chaos;
pub(crate) use cutover_proof::run as cutover_proof;
pub(crate) use figures::Comparison;
pub(crate) use figures::Figures;
pub(crate) use fit::log_bytes;
pub(crate) use processes::Role;
pub(crate) use processes::follow_driver;
pub(crate) use proof_cost::run as proof_cost;
use scene::Scene;
use scene::Staging;
pub(crate) use scene::served;
pub(crate) use scene::start_stack;
pub(crate) use seeded_corruptions::run as seeded_corruptions;
pub(crate) use thousand_switches::run as thousand_switches;
pub(crate) use way_back::run as way_back;

const LIVE: &str = "accounts_v3";
const NEW: &str = "accounts_v4";

/// How long any single step may take before the demo says that it hangs.
const STEP_BOUND: Duration = Duration::from_secs(120);

/// Runs the demo and prints the proof.
///
/// # Errors
/// The step that failed, with the last words of the process that it was waiting for. Differences
/// and failed reads are errors too, after the proof was printed.
pub(crate) async fn run(args: DemoArgs, projections: Projections) -> Result<Figures, Failure> {
    let mut scene = Scene::open(args, Staging::default(), projections).await?;
    let outcome = play(&mut scene).await;
    let closed = scene.close().await;
    let figures = outcome?;
    closed?;
    figures.print(scene.args().json);
    figures.judge()?;
    Ok(figures)
}

async fn play(scene: &mut Scene) -> Result<Figures, Failure> {
    let args = scene.args().clone();
    scene.step(&format!(
        "seed {} events of {} accounts into {} partitions",
        args.stream.events, args.stream.aggregates, args.stream.partitions
    ));
    scene.seed().await?;

    scene.step("start accounts_v3 live and the api");
    scene.start_live(LIVE).await?;
    scene.start_api().await?;
    scene
        .wait_state(LIVE, VersionState::Active, STEP_BOUND)
        .await?;

    scene.step(&format!(
        "read at {}/s, append {} events/s",
        args.read_rate, args.tail_rate
    ));
    scene.start_load();
    scene.start_tail()?;
    scene.wait_tail(STEP_BOUND).await?;
    scene.wait_reads(args.reads.0 / 8).await?;

    scene.step("rebuild accounts_v4 from offset 0 beside it");
    scene.mark(Span::Replay);
    let rebuild = scene.rebuild(NEW, args.kills).await?;
    scene.note(&format!(
        "{} events in {:.1} s, {} events/s, {} SIGKILLs",
        Count(rebuild.events),
        rebuild.seconds,
        Count(rebuild.events_per_second()),
        rebuild.kills
    ));

    scene.step("catch up with the moving tail");
    let began = Instant::now();
    scene
        .wait_state(NEW, VersionState::Ready, STEP_BOUND)
        .await?;
    let catch_up = began.elapsed();

    scene.step("verify accounts_v4 against accounts_v3 and against the known final state");
    let live = scene.verify_against(NEW, LIVE).await?;
    let oracle = scene.verify_expected(NEW).await?;

    scene.step("promote accounts_v4 under read load");
    scene.mark(Span::Cutover);
    let cutover = scene.cutover(NEW, Some(scene::SCAN_AGE)).await?;
    scene.mark(Span::After);
    scene.note(&format!(
        "generation {}, flip {:.1} ms",
        cutover.generation, cutover.flip_ms
    ));
    let so_far = scene.reads();
    scene
        .wait_reads(args.reads.0.max(so_far + args.read_rate.0))
        .await?;
    let load = scene.stop_load().await?;
    Ok(Figures {
        args,
        rebuild,
        catch_up,
        live,
        oracle,
        cutover,
        load,
    })
}
