//! `bench thousand-switches`: promotions and rollbacks in a row under read load, over the api like
//! anybody else's: each behind its own barrier and its own comparison of the checksums, with a scan
//! of both tables that is a minute old at most, and no gate forced.
//!
//! Before every switch the same one is asked for as a dry run, which goes through the same barrier,
//! the same gates and the same transaction, and is rolled back. What reads lose to those is the
//! noise that what they lose to switches is held against.
//!
//! The switches are spread over the reads: one right after another would leave no read that meets
//! none of them, and so nothing to compare with.

mod scans;
mod switches;

use std::num::NonZeroU64;
use std::process::ExitCode;
use std::time::Duration;

use refold_domain::version::VersionState;
use serde_json::Value;
use serde_json::json;

use super::LIVE;
use super::NEW;
use super::scene::Experiment;
use super::scene::Scene;
use crate::bench::report::write;
use crate::cli::BenchThousandSwitchesArgs;
use crate::cli::Count;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::connect::query;
use crate::load::Overlap;
use crate::load::Readers;
use crate::load::SessionsPlan;
use crate::load::SessionsReport;
use crate::load::around;
use crate::machine;
use crate::run::Projections;

use scans::Scanned;
use scans::Scans;
use switches::Switches;

/// How long one step of the way to the first switch may take before it counts as hung.
const BOUND: Duration = Duration::from_secs(600);

/// Between two looks at how far the reads are.
const LOOK: Duration = Duration::from_millis(10);

/// The share of the time by which the last switch is due, however few reads were made.
const TIME_SHARE: f64 = 0.8;

/// Cycles between two lines of progress.
const TELL_EVERY: u64 = 50;

/// Requests of one cycle: two switches, and a dry run before each.
const ASKS: u64 = 4;

/// Writes `min_wal_size` of log, in messages of a MiB that nobody reads.
const FILL_THE_LOG: &str = "select count(pg_logical_emit_message(false, 'refold', repeat(md5(n::text), 32768))) \
    from generate_series(1, (select setting::bigint from pg_settings where name = 'min_wal_size')) n";

/// What must be zero.
const CLEAN: [&str; 6] = [
    "failed_reads",
    "torn_reads",
    "backward_reads",
    "scan_findings",
    "differences_oracle",
    "differences_oracle_live",
];

/// Runs it and writes `result.json`, `switches.csv`, `around.csv` and `failed-reads.txt`.
///
/// # Errors
/// The step that failed. A read that noticed a switch, a difference and a cycle that was not done
/// are an exit code, after the result was written.
pub(crate) async fn run(
    args: BenchThousandSwitchesArgs,
    projections: Projections,
) -> Result<ExitCode, Failure> {
    if args.readers == 0 || args.cycles.0 == 0 || args.stream.aggregates.0 == 0 {
        let sentence = "-readers, -cycles and -aggregates must be above 0";
        return Err(Failure::usage(sentence));
    }
    let out = args.common.create_out()?;
    let experiment = Experiment {
        stream: &args.stream,
        common: &args.common,
        codec: &args.codec,
        tail_rate: args.tail_rate,
        read_rate: Count(0),
    };
    let mut scene = experiment.open(projections).await?;
    let outcome = play(&args, &mut scene).await;
    let closed = scene.close().await;
    let measured = outcome?;
    let (switches, report) = (&measured.switches, &measured.reads);
    let (real, sham) = (switches.intervals(true), switches.intervals(false));
    let split = Overlap::of(&report.reads, real, sham);
    let mut result = measured.to_json(&split);
    result["sessions"] = json!(args.readers);
    result["read_rate"] = json!(args.read_rate.0);
    result["background_nice"] = json!(args.background_nice);
    write(&out.join("switches.csv"), &measured.switches.csv())?;
    write(&out.join("around.csv"), &measured.around(&split))?;
    write(
        &out.join("failed-reads.txt"),
        &failed_reads(&measured.reads),
    )?;
    write(&out.join("result.json"), &format!("{result:#}\n"))?;
    println!("{result}");
    closed?;
    let clean = CLEAN.iter().all(|name| result[*name] == json!(0));
    match clean && result["cycles"] == json!(args.cycles.0) {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::from(Kind::Differences.code())),
    }
}

/// A line of every failed read that was kept: when, what and why.
fn failed_reads(report: &SessionsReport) -> String {
    let failures = report.failures.iter();
    let lines = failures.map(|failure| {
        let at = failure.at.as_secs_f64();
        format!("{at:.3} {} {}\n", failure.uri, one_line(&failure.reason))
    });
    lines.collect()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

async fn play(args: &BenchThousandSwitchesArgs, scene: &mut Scene) -> Result<Measured, Failure> {
    both_built(args, scene).await?;
    scene.step("let the database's log be one that runs for long");
    age_the_log(scene).await?;
    scene.step(&format!(
        "scan both tables, and again every {} s",
        args.scan_every
    ));
    let every = Duration::from_secs(args.scan_every);
    let scans = Scans::start(scene, every, args.scan_rate.0).await?;
    if args.background_nice > 0 {
        scene.step("let the broker, the tail, both projectors and the scans give way");
        scene.let_give_way(args.background_nice).await?;
    }
    scene.step(&format!(
        "{} cycles of accounts_v4 and back, {} sessions reading",
        args.cycles, args.readers
    ));
    let readers = Readers::start(SessionsPlan {
        api: scene.api().to_owned(),
        sessions: args.readers,
        aggregates: args.stream.aggregates.0,
        seed: args.stream.seed,
        rate: NonZeroU64::new(args.read_rate.0),
    });
    let run = Run {
        args,
        readers: &readers,
        scans: &scans,
    };
    let mut switches = Switches::default();
    if run.cycle(scene, &mut switches).await? {
        run.read_on(scene).await?;
    }
    let seconds = readers.elapsed().as_secs_f64();
    let reads = readers.stop().await?;
    let scanned = scans.stop(scene).await?;
    scene.step("stop appending, and hold both versions against the known final state");
    scene.stop_tail().await?;
    let new = scene.verify_expected(NEW).await?;
    let live = scene.verify_expected(LIVE).await?;
    Ok(Measured {
        switches,
        reads,
        scanned,
        seconds,
        differences: (new.differences, live.differences),
    })
}

/// A server that has just been made creates each segment of its log by filling it with zeros,
/// and every commit waits for that; one that runs for long takes old segments again. So as much
/// is written as it keeps, and a checkpoint frees it, and writes out what the rebuild left.
async fn age_the_log(scene: &Scene) -> Result<(), Failure> {
    query(scene.postgres(), FILL_THE_LOG).await?;
    query(scene.postgres(), "checkpoint").await?;
    Ok(())
}

/// From an empty log to two versions at its moving end.
async fn both_built(args: &BenchThousandSwitchesArgs, scene: &mut Scene) -> Result<(), Failure> {
    let stream = &args.stream;
    scene.step(&format!(
        "seed {} events of {} accounts into {} partitions",
        stream.events, stream.aggregates, stream.partitions
    ));
    scene.seed().await?;
    scene.step("start accounts_v3 live and the api");
    scene.start_live(LIVE).await?;
    scene.start_api().await?;
    scene.wait_state(LIVE, VersionState::Active, BOUND).await?;
    scene.step(&format!("append {} events/s", args.tail_rate));
    scene.start_tail()?;
    scene.wait_tail(BOUND).await?;
    scene.step("rebuild accounts_v4 from offset 0 beside it, and catch up");
    scene.rebuild(NEW, 0).await?;
    scene.wait_state(NEW, VersionState::Ready, BOUND).await
}

/// What goes on while versions are switched.
struct Run<'a> {
    args: &'a BenchThousandSwitchesArgs,
    readers: &'a Readers,
    scans: &'a Scans,
}

impl Run<'_> {
    /// Goes through the cycles; `false` when they ended early, and why was told.
    async fn cycle(&self, scene: &mut Scene, switches: &mut Switches) -> Result<bool, Failure> {
        let cycles = self.args.cycles.0;
        let requests = [(NEW, false), (NEW, true), (LIVE, false), (LIVE, true)];
        for cycle in 0..cycles {
            for (nth, (to, real)) in (0..).zip(requests) {
                let share = (cycle * ASKS + nth) as f64 / (cycles * ASKS) as f64;
                if !self.wait(scene, share).await? {
                    scene.note(&format!(
                        "ended in cycle {} at {:.0} s: the time is over, or a scan failed",
                        cycle + 1,
                        self.readers.elapsed().as_secs_f64()
                    ));
                    return Ok(false);
                }
                if !switches.ask(scene, self.readers, to, real).await? {
                    scene.note(&format!("ended in cycle {}: refused", cycle + 1));
                    return Ok(false);
                }
            }
            switches.cycles += 1;
            if switches.cycles.is_multiple_of(TELL_EVERY) {
                self.tell(scene, switches);
            }
        }
        Ok(true)
    }

    /// Waits until so much of the reads was made, or of the time has passed: what comes sooner.
    /// `false` when nothing more is to be waited for.
    async fn wait(&self, scene: &mut Scene, share: f64) -> Result<bool, Failure> {
        let most = self.args.most_seconds as f64;
        let reads = self.args.reads.0 as f64 * share;
        loop {
            scene.check_roles()?;
            let elapsed = self.readers.elapsed().as_secs_f64();
            if elapsed >= most || self.scans.ended() {
                return Ok(false);
            }
            if self.readers.reads() as f64 >= reads || elapsed >= most * share * TIME_SHARE {
                return Ok(true);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until all reads were made, or the time is over.
    async fn read_on(&self, scene: &mut Scene) -> Result<(), Failure> {
        let most = Duration::from_secs(self.args.most_seconds);
        while self.readers.reads() < self.args.reads.0
            && self.readers.elapsed() < most
            && !self.scans.ended()
        {
            scene.check_roles()?;
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    fn tell(&self, scene: &Scene, switches: &Switches) {
        let flip = switches.asked.last().map(|asked| asked.flip_ms);
        scene.note(&format!(
            "{} of {} cycles, {} reads, {} failed, {} refusals, last flip {:.1} ms",
            Count(switches.cycles),
            self.args.cycles,
            Count(self.readers.reads()),
            Count(self.readers.failed()),
            switches.refusals.values().sum::<u64>(),
            flip.unwrap_or_default(),
        ));
    }
}

/// Everything that the result is made of.
struct Measured {
    switches: Switches,
    reads: SessionsReport,
    scanned: Scanned,
    /// From the first read to the last.
    seconds: f64,
    /// From the known final state, of the new version and of the old one.
    differences: (u64, u64),
}

impl Measured {
    fn to_json(&self, split: &Overlap) -> Value {
        let (switches, scanned) = (&self.switches, &self.scanned);
        let mut result = json!({
            "schema": "refold.bench-thousand-switches/1",
            "cycles": switches.cycles,
            "switches": switches.of(true).count(),
            "flip_p50_ms": switches.flip_ms(true, 0.5),
            "flip_p99_ms": switches.flip_ms(true, 0.99),
            "flip_max_ms": switches.flip_ms(true, 1.0),
            "sham_flip_p99_ms": switches.flip_ms(false, 0.99),
            "generation_first": switches.history.keys().next(),
            "generation_last": switches.history.keys().next_back(),
            "refusals": switches.refusals,
            "tail_events": switches.tail_events(),
            "rows": scanned.rows,
            "scans": scanned.scans,
            "scan_findings": scanned.findings,
            "scan_rows_compared": scanned.compared,
            "scan_seconds_max": scanned.seconds_max,
            "seconds": self.seconds,
            "differences_oracle": self.differences.0,
            "differences_oracle_live": self.differences.1,
            "machine": machine::describe(),
            "revision": machine::revision(),
        });
        if let (Value::Object(result), Value::Object(reads)) = (&mut result, self.reads_json(split))
        {
            result.extend(reads);
        }
        result
    }

    /// Where along a switch, or along a dry run, the slow reads are: those above the p99 of the
    /// reads that met neither.
    fn around(&self, split: &Overlap) -> String {
        let bound = split.rest.quantile_ms(0.99);
        let mut csv = "kind,from_ms,reads,slower,p50_ms,p99_ms\n".to_owned();
        for (kind, real) in [("real", true), ("sham", false)] {
            let moments = self.switches.moments(real);
            for bin in around(&self.reads.reads, &moments, bound) {
                let of = |quantile| bin.latencies.quantile_ms(quantile).unwrap_or_default();
                let (count, slower) = (bin.latencies.count(), bin.slower);
                let quantiles = (of(0.5), of(0.99));
                csv.push_str(&format!(
                    "{kind},{},{count},{slower},{:.3},{:.3}\n",
                    bin.from_ms, quantiles.0, quantiles.1
                ));
            }
        }
        csv
    }

    fn reads_json(&self, split: &Overlap) -> Value {
        let (switches, report) = (&self.switches, &self.reads);
        let rest_p99 = split.rest.quantile_ms(0.99);
        let ratio = |p99: Option<f64>| Some(p99? / rest_p99?);
        json!({
            "reads": split.all.count(),
            "failed_reads": report.failed,
            "torn_reads": report.told.torn(&switches.history),
            "backward_reads": report.told.backward(),
            "pairs": report.told.pairs(),
            "reads_p50_ms": split.all.quantile_ms(0.5),
            "reads_p99_ms": split.all.quantile_ms(0.99),
            "rest_p99_ms": rest_p99,
            "reads_overlapping": split.real.count(),
            "overlap_p99_ratio": ratio(split.real.quantile_ms(0.99)),
            "sham_overlap_p99_ratio": ratio(split.sham.quantile_ms(0.99)),
        })
    }
}
