//! What a chaos run saw, and how it is told.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use refold_chaos::Kind;
use refold_chaos::Phase;
use refold_chaos::Scenario;
use refold_chaos::Version;
use serde_json::Value;
use serde_json::json;

use super::crew::label;
use super::proof::Proof;
use crate::bench::report::write;
use crate::cli::Count;
use crate::cli::Failure;
use crate::cli::Kind as FailureKind;
use crate::load::LoadReport;
use crate::load::nearest_rank;
use crate::machine;

/// A fault that was injected, and what came of it.
#[derive(Debug, Clone)]
pub(super) struct Struck {
    /// From 1 on.
    pub(super) number: usize,
    pub(super) kind: Kind,
    pub(super) phase: Phase,
    /// Whose projector was hit.
    pub(super) target: Option<Version>,
    /// When, since events kept coming.
    pub(super) at: Duration,
    /// Until it was lifted: a server that was killed answers again.
    pub(super) lasted: Duration,
    /// From there until its gate was passed; `None` when that took too long.
    pub(super) recovery: Option<Duration>,
    /// Reads that failed meanwhile.
    pub(super) failed_reads: u64,
    /// Where it hit.
    pub(super) detail: String,
}

impl Struck {
    /// From the beginning of the fault until its gate was passed.
    fn outage(&self) -> Option<Duration> {
        Some(self.lasted + self.recovery?)
    }
}

/// A run.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub(super) name: String,
    pub(super) scenario: Scenario,
    pub(super) struck: Vec<Struck>,
    pub(super) failed_gate: bool,
    /// A fault that was not injected, or did not end as it must.
    pub(super) broken: Option<String>,
    /// With events that keep coming, from the first fault's chance to the end of the proof.
    pub(super) seconds: Duration,
    /// Of them the phase in which both versions follow the log.
    pub(super) live_seconds: Duration,
    /// Projectors that ended and that no fault had ended.
    pub(super) unasked_restarts: u64,
    /// Marks that were seen below an earlier one.
    pub(super) moved_back: u64,
    /// Most resident memory of one projector.
    pub(super) peak_memory_bytes: u64,
    pub(super) proof: Proof,
    pub(super) load: LoadReport,
}

/// Seconds of a quantile; `None` of none.
fn quantile<'a>(
    struck: impl Iterator<Item = &'a Struck>,
    of: fn(&Struck) -> Option<Duration>,
    quantile: f64,
) -> Option<f64> {
    let mut seconds: Vec<f64> = struck.filter_map(of).map(|d| d.as_secs_f64()).collect();
    seconds.sort_by(f64::total_cmp);
    nearest_rank(&seconds, quantile)
}

impl Report {
    fn by_kind(&self) -> BTreeMap<Kind, Vec<&Struck>> {
        let mut kinds: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for struck in &self.struck {
            kinds.entry(struck.kind).or_default().push(struck);
        }
        kinds
    }

    fn of(&self, phase: Phase) -> impl Iterator<Item = &Struck> {
        self.struck.iter().filter(move |s| s.phase == phase)
    }

    fn gates_passed(&self) -> usize {
        self.struck.iter().filter(|s| s.recovery.is_some()).count()
    }

    /// What speaks against the run, a sentence each.
    fn complaints(&self) -> Vec<String> {
        let (proof, load) = (&self.proof, &self.load);
        let failed = self.struck.len() - self.gates_passed();
        let wrong = [
            (failed as u64, "gates were not passed"),
            (proof.differences(), "differences"),
            (proof.unapplied, "events of the log were not applied"),
            (proof.lost, "deposits are lost"),
            (proof.doubled, "deposits are doubled"),
            (
                load.wrong,
                "reads were answered with something that is not so",
            ),
            (
                // Without a commit that waits for the disk that is what a crash does.
                self.moved_back * u64::from(!self.scenario.async_commit),
                "times a mark moved back",
            ),
        ];
        let mut complaints: Vec<String> = wrong
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{} {what}", Count(count)))
            .collect();
        complaints.extend(self.broken.clone());
        let (peak, allowed) = (self.peak_memory_bytes >> 20, self.scenario.memory_mib);
        if peak > allowed {
            complaints.push(format!(
                "a projector took {peak} MiB, and {allowed} are allowed"
            ));
        }
        if self.struck.is_empty() {
            complaints.push("no fault was injected".to_owned());
        }
        if self.scenario.build_faults > 0 && self.of(Phase::Build).next().is_none() {
            complaints.push("no fault was injected while the version was built".to_owned());
        }
        if load.reads == load.failed {
            complaints.push("no read was answered".to_owned());
        }
        let aggregates = self.scenario.aggregates;
        if proof.oracle.iter().any(|c| c.rows < aggregates) {
            complaints.push(format!("not all {} rows were compared", Count(aggregates)));
        }
        complaints
    }

    /// 0 when nothing speaks against the run.
    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    fn code(&self) -> u8 {
        match (self.complaints().is_empty(), self.failed_gate) {
            (true, _) => 0,
            (false, true) => FailureKind::TimedOut.code(),
            (false, false) => FailureKind::Differences.code(),
        }
    }

    /// The report for people, and with `json` as one object in the last line.
    pub(super) fn print(&self, json: bool) {
        print!("{}", self.tell());
        if json {
            println!("{}", self.to_json());
        }
    }

    /// Writes `result.json`, `report.txt`, `faults.csv` and `failed-reads.txt`.
    pub(super) fn keep(&self, out: &Path) -> Result<(), Failure> {
        write(&out.join("result.json"), &format!("{:#}\n", self.to_json()))?;
        write(&out.join("report.txt"), &self.tell())?;
        write(&out.join("faults.csv"), &self.csv())?;
        write(&out.join("failed-reads.txt"), &self.failed_reads())
    }

    fn failed_reads(&self) -> String {
        let lines = self.load.failures.iter().map(|failure| {
            let reason: Vec<_> = failure.reason.split_whitespace().collect();
            let (at, uri) = (failure.at.as_secs_f64(), &failure.uri);
            format!("{at:.3} {uri} {}\n", reason.join(" "))
        });
        lines.collect()
    }

    fn csv(&self) -> String {
        let header = "number,kind,phase,target,at_seconds,lasted_seconds,recovery_seconds,failed_reads,detail";
        let lines = self.struck.iter().map(|s| {
            let recovery = s.recovery.map(|r| format!("{:.3}", r.as_secs_f64()));
            format!(
                "{},{},{},{},{:.3},{:.3},{},{},{}\n",
                s.number,
                s.kind,
                s.phase.word(),
                s.target.map_or("", label),
                s.at.as_secs_f64(),
                s.lasted.as_secs_f64(),
                recovery.unwrap_or_default(),
                s.failed_reads,
                s.detail
            )
        });
        format!("{header}\n{}", lines.collect::<String>())
    }

    fn tell(&self) -> String {
        let mut out = format!(
            "\nFAULTS\n  {:<26} {:>8} {:>6} {:>9} {:>9} {:>9} {:>12}\n",
            "kind", "injected", "gates", "p50 s", "max s", "outage s", "failed reads"
        );
        for (kind, struck) in self.by_kind() {
            let all = || struck.iter().copied();
            let passed = all().filter(|s| s.recovery.is_some()).count();
            let told = |value: Option<f64>| value.map_or("-".to_owned(), |s| format!("{s:.2}"));
            let failed: u64 = all().map(|s| s.failed_reads).sum();
            out.push_str(&format!(
                "  {:<26} {:>8} {:>6} {:>9} {:>9} {:>9} {:>12}\n",
                kind.word(),
                struck.len(),
                passed,
                told(quantile(all(), |s| s.recovery, 0.5)),
                told(quantile(all(), |s| s.recovery, 1.0)),
                told(quantile(all(), Struck::outage, 1.0)),
                Count(failed)
            ));
        }
        out.push_str(&self.tell_proof());
        out
    }

    fn tell_proof(&self) -> String {
        let (proof, load) = (&self.proof, &self.load);
        let [new, live] = &proof.oracle;
        let recovery = |q| quantile(self.struck.iter(), |s| s.recovery, q).unwrap_or(f64::NAN);
        let mut lines = vec![
            "PROOF".to_owned(),
            format!(
                "  faults        {} of {} kinds, {} gates of {} offsets passed; {:.0} s, {:.0} s of them live",
                self.struck.len(),
                self.by_kind().len(),
                self.gates_passed(),
                Count(self.scenario.gate_offsets),
                self.seconds.as_secs_f64(),
                self.live_seconds.as_secs_f64()
            ),
            format!(
                "  recovery      p50 {:.2} s, p99 {:.2} s, max {:.2} s from the end of a fault to its gate",
                recovery(0.5),
                recovery(0.99),
                recovery(1.0)
            ),
            format!(
                "  events        {} in the log, {} of them came meanwhile; {} not applied, {} lost, {} doubled",
                Count(proof.log),
                Count(self.came()),
                proof.unapplied,
                proof.lost,
                proof.doubled
            ),
            format!(
                "  v4 against v3 {} rows: {} differences; {} keys differ as intended, {} are expected to",
                Count(proof.versions.rows),
                proof.versions.differences,
                Count(proof.versions.intended),
                Count(proof.versions.intended_expected)
            ),
            format!(
                "  known state   v4 {} rows: {} differences; v3 {} rows: {} differences",
                Count(new.rows),
                new.differences,
                Count(live.rows),
                live.differences
            ),
            format!(
                "  reads         {}, {} failed, {} answered wrongly",
                Count(load.reads),
                Count(load.failed),
                load.wrong
            ),
            format!(
                "  projectors    {} ended that no fault had ended; marks moved back {} times; {} MiB at most",
                self.unasked_restarts,
                self.moved_back,
                self.peak_memory_bytes >> 20
            ),
            format!(
                "  machine       {}, revision {}, scenario {}, seed {}",
                machine::describe(),
                machine::revision(),
                self.name,
                self.scenario.seed
            ),
        ];
        lines.extend(
            self.complaints()
                .iter()
                .map(|c| format!("  WRONG         {c}")),
        );
        lines.extend(proof.samples().map(|sample| format!("    {sample}")));
        lines.join("\n") + "\n"
    }

    /// Events that were appended while faults were injected.
    fn came(&self) -> u64 {
        self.proof.log.saturating_sub(self.scenario.events)
    }

    fn to_json(&self) -> Value {
        let (proof, load, scenario) = (&self.proof, &self.load, &self.scenario);
        let recovery = |q| quantile(self.struck.iter(), |s| s.recovery, q);
        let outage = |q| quantile(self.struck.iter(), Struck::outage, q);
        let by_kind = self.by_kind();
        let kinds: serde_json::Map<_, _> = by_kind
            .iter()
            .map(|(kind, struck)| (kind.word().to_owned(), told(struck)))
            .collect();
        json!({
            "schema": "refold.chaos/1",
            "scenario": self.name,
            "seed": scenario.seed,
            "seconds": self.seconds.as_secs_f64(),
            "live_seconds": self.live_seconds.as_secs_f64(),
            "faults": self.struck.len(),
            "kinds": by_kind.len(),
            "least_of_a_kind": by_kind.values().map(Vec::len).min(),
            "gates_passed": self.gates_passed(),
            "gate_offsets": scenario.gate_offsets,
            "recovery_p50_seconds": recovery(0.5),
            "recovery_p99_seconds": recovery(0.99),
            "recovery_max_seconds": recovery(1.0),
            "recovery_p99_seconds_live": quantile(self.of(Phase::Live), |s| s.recovery, 0.99),
            "recovery_max_seconds_build": quantile(self.of(Phase::Build), |s| s.recovery, 1.0),
            "faults_build": self.of(Phase::Build).count(),
            "outage_p99_seconds": outage(0.99),
            "outage_max_seconds": outage(1.0),
            "events": proof.log,
            "events_meanwhile": self.came(),
            "events_not_applied": proof.unapplied,
            "lost": proof.lost,
            "doubled": proof.doubled,
            "differences": proof.differences(),
            "rows_compared": proof.rows(),
            "reads": load.reads,
            "failed_reads": load.failed,
            "wrong_reads": load.wrong,
            "unasked_restarts": self.unasked_restarts,
            "marks_moved_back": self.moved_back,
            "peak_memory_bytes": self.peak_memory_bytes,
            "rate": scenario.rate,
            "read_rate": scenario.reads,
            "partitions": scenario.partitions,
            "aggregates": scenario.aggregates,
            "by_kind": kinds,
            "load": load.to_json(),
            "wrong": self.complaints(),
            "machine": machine::describe(),
            "revision": machine::revision(),
        })
    }
}

/// The figures of one kind.
fn told(struck: &[&Struck]) -> Value {
    let all = || struck.iter().copied();
    json!({
        "injected": struck.len(),
        "gates_passed": all().filter(|s| s.recovery.is_some()).count(),
        "recovery_p50_seconds": quantile(all(), |s| s.recovery, 0.5),
        "recovery_p99_seconds": quantile(all(), |s| s.recovery, 0.99),
        "recovery_max_seconds": quantile(all(), |s| s.recovery, 1.0),
        "outage_max_seconds": quantile(all(), Struck::outage, 1.0),
        "failed_reads": all().map(|s| s.failed_reads).sum::<u64>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::Comparison;

    const KILL: &str = "seed = 1\nevents = 10_000\naggregates = 100\npartitions = 1\nrate = 1_000\n\
                        reads = 1\nbuild-rate = 9_000\nfaults = 1\n[[fault]]\nkind = \"projector-kill\"\n";

    fn equal() -> Comparison {
        Comparison {
            rows: 100,
            columns: vec!["balance".to_owned()],
            differences: 0,
            intended: 7,
            intended_expected: 7,
            offsets: BTreeMap::new(),
            samples: Vec::new(),
            scan: None,
            rule: (0, 0),
            log: None,
        }
    }

    fn clean() -> Report {
        let mut load = LoadReport::new();
        load.reads = 10;
        load.failed = 2;
        Report {
            name: "kill".to_owned(),
            scenario: Scenario::parse(KILL).expect("a scenario"),
            struck: vec![Struck {
                number: 1,
                kind: Kind::ProjectorKill,
                phase: Phase::Live,
                target: Some(Version::New),
                at: Duration::from_secs(1),
                lasted: Duration::from_secs(2),
                recovery: Some(Duration::from_secs(3)),
                failed_reads: 2,
                detail: String::new(),
            }],
            failed_gate: false,
            broken: None,
            seconds: Duration::from_secs(9),
            live_seconds: Duration::from_secs(5),
            unasked_restarts: 0,
            moved_back: 0,
            peak_memory_bytes: 1 << 30,
            proof: Proof {
                log: 12_000,
                unapplied: 0,
                versions: equal(),
                oracle: [equal(), equal()],
                lost: 0,
                doubled: 0,
            },
            load,
        }
    }

    #[test]
    fn a_clean_run_is_told_with_its_figures() {
        let report = clean();
        assert_eq!(report.complaints(), Vec::<String>::new());
        let json = report.to_json();
        for (key, value) in [
            ("faults", json!(1)),
            ("kinds", json!(1)),
            ("events", json!(12_000)),
            ("events_meanwhile", json!(2_000)),
            ("differences", json!(0)),
            ("recovery_p99_seconds", json!(3.0)),
            ("outage_max_seconds", json!(5.0)),
            ("failed_reads", json!(2)),
        ] {
            assert_eq!(json[key], value, "{key}");
        }
        assert!(report.tell().contains("projector-kill"));
        assert_eq!(report.csv().lines().count(), 2);
    }

    #[test]
    fn whatever_speaks_against_a_run_is_told() {
        type Spoil = fn(&mut Report);
        let wrong: [(&str, Spoil); 14] = [
            ("gates", |r| r.struck[0].recovery = None),
            ("differences", |r| r.proof.versions.differences = 1),
            ("differences", |r| r.proof.oracle[1].differences = 1),
            ("differences", |r| r.proof.versions.intended = 8),
            ("not applied", |r| r.proof.unapplied = 1),
            ("lost", |r| r.proof.lost = 1),
            ("doubled", |r| r.proof.doubled = 1),
            ("not so", |r| r.load.wrong = 1),
            ("moved back", |r| r.moved_back = 1),
            ("are allowed", |r| r.peak_memory_bytes = 3 << 30),
            ("no fault", |r| r.struck.clear()),
            ("built", |r| r.scenario.build_faults = 1),
            ("broker-kill", |r| {
                r.broken = Some("broker-kill: no".to_owned())
            }),
            ("rows were compared", |r| r.proof.oracle[0].rows = 99),
        ];
        for (says, spoil) in wrong {
            let mut report = clean();
            spoil(&mut report);
            let complaints = report.complaints();
            assert_eq!(complaints.len(), 1, "{complaints:?}");
            assert!(complaints[0].contains(says), "{complaints:?}");
            assert!(report.tell().contains("WRONG"));
            assert_ne!(report.code(), 0, "{says}");
        }
    }
}
