//! `chaos run`: a private stack, a version that is built and follows the log beside the one that
//! serves, faults one after the other, and the demo's proof at the end.
//!
//! ```text
//! plan ─> strike: the fault, until it is over ─> gate: every version has committed so much more
//!                      crew (projectors) <── proxies ──> broker, Postgres
//! ```
//! One fault at a time: what is measured behind one is its own. Projectors reach broker and database
//! by proxies; the tail, the api and the runner do not, so that a fault of a connection is
//! never one of the run itself.

mod crew;
mod detour;
mod gate;
mod proof;
mod report;
mod stall;
mod strike;

use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use refold_chaos::Phase;
use refold_chaos::Pick;
use refold_chaos::Plan;
use refold_chaos::Scenario;
use refold_domain::version::VersionState;
use refold_local::Stack;

use self::crew::Crew;
use self::detour::Detour;
use self::gate::Expected;
use self::gate::Gate;
use self::gate::MarkWatch;
use self::proof::Proof;
use self::report::Report;
use self::report::Struck;
use super::LIVE;
use super::NEW;
use super::scene::Scene;
use super::scene::Staging;
use crate::cli::ChaosRunArgs;
use crate::cli::Count;
use crate::cli::DemoArgs;
use crate::cli::Failure;
use crate::cli::Format;
use crate::cli::Kind;
use crate::cli::StreamArgs;
use crate::load::Span;
use crate::run::Projections;

/// How long a step without faults may take.
const STEP_BOUND: Duration = Duration::from_secs(180);

/// Between two looks at the marks.
const LOOK: Duration = Duration::from_millis(20);

/// Faults between two lines of progress.
const TELL_EVERY: usize = 10;

/// Runs a scenario and prints the report.
///
/// # Errors
/// A scenario that cannot be run, and the step that failed. A gate that was not passed, a
/// difference and a wrong answer are an exit code, after the report was printed.
pub(crate) async fn run(args: ChaosRunArgs, projections: Projections) -> Result<ExitCode, Failure> {
    let path = args.scenario.display();
    let text = std::fs::read_to_string(&args.scenario)
        .map_err(|error| Failure::usage(format!("{path}: {error}")))?;
    let scenario =
        Scenario::parse(&text).map_err(|error| Failure::usage(format!("{path}: {error}")))?;
    let stream = stream(&scenario);
    // What the generator refuses is refused before anything is started.
    crate::command::seed::params(&stream, Format::Proto)?;
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out)
            .map_err(|error| Failure::usage(format!("-out {}: {error}", out.display())))?;
    }
    let mut chaos = Chaos::open(&args, scenario, stream, projections).await?;
    let outcome = chaos.play().await;
    let closed = chaos.close().await;
    let mut report = outcome?;
    report.name = args
        .scenario
        .file_stem()
        .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    if let Some(out) = &args.out {
        report.keep(out)?;
    }
    report.print(args.json);
    closed?;
    Ok(report.exit_code())
}

fn stream(scenario: &Scenario) -> StreamArgs {
    StreamArgs {
        events: Count(scenario.events),
        aggregates: Count(scenario.aggregates),
        partitions: scenario.partitions.cast_signed(),
        zipf: 1.1,
        seed: scenario.seed,
    }
}

/// A run.
struct Chaos {
    scenario: Scenario,
    scene: Scene,
    detour: Detour,
    crew: Crew,
    watch: MarkWatch,
    plan: Plan,
    began: Instant,
    struck: Vec<Struck>,
    failed_gate: bool,
    /// What kept a fault from being injected, or from ending as it must: none comes after it.
    broken: Option<String>,
}

impl Chaos {
    async fn open(
        args: &ChaosRunArgs,
        scenario: Scenario,
        stream: StreamArgs,
        projections: Projections,
    ) -> Result<Self, Failure> {
        let dir = args.stack_dir.clone().unwrap_or_else(|| {
            std::env::temp_dir().join(format!("refold-chaos-{}", std::process::id()))
        });
        let found = Stack::find(&dir).map_err(|e| Failure::usage(format!("-stack-dir: {e}")))?;
        if found.is_some() {
            let dir = dir.display();
            return Err(Failure::usage(format!(
                "-stack-dir {dir} holds a stack already: a chaos run harms only what it has started \
                 itself; name another directory, or remove the stack with: cargo x stack down --purge --dir {dir}"
            )));
        }
        let detour = Detour::open().await?;
        let staging = Staging {
            kafka_extras: detour.kafka_extras(),
            console: args.out.as_ref().map(|out| out.join("output.txt")),
            ..Staging::default()
        };
        let demo = DemoArgs {
            stream,
            codec: "lz4".to_owned(),
            format: Format::Proto,
            tail_rate: Count(scenario.rate),
            read_rate: Count(scenario.reads),
            reads: Count(0),
            kills: 0,
            rate_limit: Count(scenario.build_rate),
            stack_dir: Some(dir.clone()),
            json: true,
            brokers: None,
            postgres: None,
        };
        let mut scene = Scene::open(demo, staging, projections).await?;
        detour.lead(&mut scene)?;
        let registry = scene.registry().await?;
        Ok(Self {
            plan: Plan::new(&scenario),
            crew: Crew::new(dir.join("failpoints")),
            watch: MarkWatch::new(registry),
            scenario,
            scene,
            detour,
            began: Instant::now(),
            struck: Vec::new(),
            failed_gate: false,
            broken: None,
        })
    }

    async fn play(&mut self) -> Result<Report, Failure> {
        self.set_out().await?;
        self.build().await?;
        let live = Instant::now();
        self.live(live).await?;
        let live_seconds = live.elapsed();
        self.scene.mark(Span::After);
        let proof = Proof::of(self).await?;
        let load = self.scene.stop_load().await?;
        Ok(Report {
            name: String::new(),
            scenario: self.scenario.clone(),
            struck: std::mem::take(&mut self.struck),
            failed_gate: self.failed_gate,
            broken: self.broken.take(),
            seconds: self.began.elapsed(),
            live_seconds,
            unasked_restarts: self.crew.unasked(),
            moved_back: self.watch.moved_back(),
            peak_memory_bytes: self.crew.peak_bytes(),
            proof,
            load,
        })
    }

    /// The log, the serving version, the reads, and events that keep coming.
    async fn set_out(&mut self) -> Result<(), Failure> {
        let scenario = &self.scenario;
        self.scene.step(&format!(
            "seed {} events of {} accounts into {} partitions",
            Count(scenario.events),
            Count(scenario.aggregates),
            scenario.partitions
        ));
        self.scene.seed().await?;
        self.scene.step("start accounts_v3 live and the api");
        self.crew
            .start(&self.scene, LIVE, &self.flags(&["--mode=live"]))?;
        self.scene.start_api().await?;
        self.wait_state(LIVE, VersionState::Active).await?;
        self.scene.step(&format!(
            "read at {}/s, append {} events/s",
            Count(self.scenario.reads),
            Count(self.scenario.rate)
        ));
        self.scene.start_load();
        self.scene.start_tail()?;
        self.scene.wait_tail(STEP_BOUND).await?;
        self.began = Instant::now();
        Ok(())
    }

    /// A projector's flags.
    fn flags(&self, mode: &[&str]) -> Vec<String> {
        let scenario = &self.scenario;
        let mut flags: Vec<_> = mode.iter().map(|flag| (*flag).to_owned()).collect();
        flags.push(format!("--memory={}MiB", scenario.memory_mib));
        if scenario.async_commit {
            flags.push("--async-commit".to_owned());
        }
        flags
    }

    /// Builds the new version, faults on the way.
    async fn build(&mut self) -> Result<(), Failure> {
        self.scene.step(&format!(
            "build accounts_v4 at {} events/s, {} faults on the way",
            Count(self.scenario.build_rate),
            self.scenario.build_faults
        ));
        self.scene.mark(Span::Replay);
        let rate_limit = format!("--rate-limit={}", self.scenario.build_rate);
        let mode = self.flags(&["--mode=replay", "--catch-up", &rate_limit]);
        self.crew.start(&self.scene, NEW, &mode)?;
        self.wait_owned(NEW).await?;
        for _ in 0..self.scenario.build_faults {
            if self.state(NEW).await == Some(VersionState::Ready) {
                self.scene
                    .note("built before all faults of the build were injected");
                break;
            }
            if !self.next(Phase::Build).await? {
                return Ok(());
            }
        }
        self.wait_state(NEW, VersionState::Ready).await?;
        self.scene.mark(Span::Cutover);
        // A promotion wants a scan of both tables.
        self.scene.verify_against(NEW, LIVE).await.map(drop)
    }

    /// Both versions follow the log; faults until there were enough for long enough.
    async fn live(&mut self, began: Instant) -> Result<(), Failure> {
        let (faults, seconds) = (self.scenario.faults as usize, self.scenario.seconds);
        self.scene.step(&format!(
            "both versions follow the log: {faults} faults and {seconds} s at least"
        ));
        let before = self.struck.len();
        let enough = |struck: usize| {
            struck - before >= faults && began.elapsed() >= Duration::from_secs(seconds)
        };
        while !self.failed_gate && self.broken.is_none() && !enough(self.struck.len()) {
            if !self.next(Phase::Live).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// One fault with its gate. `false` when nothing more is to come.
    async fn next(&mut self, phase: Phase) -> Result<bool, Failure> {
        let Some(pick) = self.plan.next(phase) else {
            return Ok(false);
        };
        self.pass(pick.pause).await?;
        let failed_before = self.scene.failed_reads();
        let strike = match self.strike(&pick, phase).await {
            Ok(strike) => strike,
            Err(failure) => return Ok(self.end_with(&pick, &failure)),
        };
        let passed = self.gate(phase, strike.lifted).await?;
        let injected = strike.injected;
        let struck = Struck {
            number: self.struck.len() + 1,
            kind: pick.kind,
            phase,
            target: pick.target,
            at: injected.saturating_duration_since(self.began),
            lasted: strike.lifted.saturating_duration_since(injected),
            recovery: passed,
            failed_reads: self.scene.failed_reads() - failed_before,
            detail: strike.detail.clone(),
        };
        self.tell(&struck, &pick);
        self.struck.push(struck);
        if passed.is_none() {
            self.failed_gate = true;
            return Ok(false);
        }
        match self.finish(strike).await {
            Ok(()) => Ok(true),
            Err(failure) => Ok(self.end_with(&pick, &failure)),
        }
    }

    /// Notes what went wrong with a fault; what was run so far is still proven.
    fn end_with(&mut self, pick: &Pick, failure: &Failure) -> bool {
        let sentence = format!("{}: {failure}", pick.kind);
        self.scene.note(&sentence);
        self.broken = Some(sentence);
        self.detour.heal();
        false
    }

    fn tell(&self, struck: &Struck, pick: &Pick) {
        let gate = match struck.recovery {
            Some(took) => format!("gate passed in {:.2} s", took.as_secs_f64()),
            None => format!(
                "GATE NOT PASSED: {} offsets of each version, each partition among them, were not \
                 committed in {} s",
                Count(self.scenario.gate_offsets),
                self.scenario.gate_seconds
            ),
        };
        let number = struck.number;
        self.scene.note(&format!(
            "{number:>4} {:<24} {} lasted {:.2} s, {gate}",
            pick.kind,
            struck.detail,
            struck.lasted.as_secs_f64()
        ));
        if number.is_multiple_of(TELL_EVERY) {
            self.scene.note(&format!(
                "{number} faults in {:.0} s, {} reads, {} failed, {} restarts that nobody asked for",
                self.began.elapsed().as_secs_f64(),
                Count(self.scene.reads()),
                Count(self.scene.failed_reads()),
                self.crew.unasked()
            ));
        }
    }

    /// Waits for the gate of a fault that is over; how long it took, `None` when it took too long.
    async fn gate(&mut self, phase: Phase, lifted: Instant) -> Result<Option<Duration>, Failure> {
        let offsets = self.scenario.gate_offsets.cast_signed();
        let new = match phase {
            Phase::Build => Expected::Sum,
            Phase::Live => Expected::EveryPartition,
        };
        let expected = [(LIVE, Expected::EveryPartition), (NEW, new)];
        let bound = Duration::from_secs(self.scenario.gate_seconds);
        let mut gate: Option<Gate> = None;
        let mut last = None;
        while lifted.elapsed() < bound {
            self.check()?;
            if let Some(marks) = self.watch.look().await {
                match &gate {
                    None => gate = Some(Gate::from(marks)),
                    Some(gate) if gate.is_passed(&marks, &expected, offsets) => {
                        return Ok(Some(lifted.elapsed()));
                    }
                    Some(_) => last = Some(marks),
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        self.tell_stall(gate.as_ref().map(Gate::marks), last.as_ref())
            .await;
        Ok(None)
    }

    /// Lets time pass, and looks after the processes.
    async fn pass(&mut self, time: Duration) -> Result<(), Failure> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.check()?;
            tokio::time::sleep(LOOK.min(time)).await;
        }
        Ok(())
    }

    /// Starts projectors again that ended by themselves; fails when anything else ended.
    fn check(&mut self) -> Result<(), Failure> {
        self.crew.tend(&self.scene)?;
        self.scene.check_roles()
    }

    /// Waits until every partition of a version has an owner.
    async fn wait_owned(&mut self, version: &str) -> Result<(), Failure> {
        let partitions = self.scenario.partitions as usize;
        let watch = "every partition has an owner";
        let deadline = Instant::now() + STEP_BOUND;
        loop {
            self.check()?;
            let marks = self.watch.look().await;
            if marks.is_some_and(|marks| marks.owned(version) == partitions) {
                return Ok(());
            }
            self.past(deadline, &format!("{watch} of {version}"))?;
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn wait_state(&mut self, version: &str, state: VersionState) -> Result<(), Failure> {
        let deadline = Instant::now() + STEP_BOUND;
        loop {
            self.check()?;
            if self.state(version).await == Some(state) {
                return Ok(());
            }
            self.past(deadline, &format!("{version} is {state}"))?;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The state of a version; `None` as well while the database does not tell.
    async fn state(&mut self, version: &str) -> Option<VersionState> {
        self.scene.state(version).await.ok().flatten()
    }

    fn past(&self, deadline: Instant, what: &str) -> Result<(), Failure> {
        if Instant::now() < deadline {
            return Ok(());
        }
        let seconds = STEP_BOUND.as_secs();
        Err(Failure::new(
            Kind::TimedOut,
            format!("not in {seconds} s: {what}"),
        ))
    }

    async fn close(&mut self) -> Result<(), Failure> {
        self.detour.heal();
        let ended = self.crew.end().await;
        let closed = self.scene.close().await;
        ended.and(closed)
    }
}
