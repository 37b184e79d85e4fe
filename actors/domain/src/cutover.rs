//! The gates of a promotion, as one list that the dry run, the refusal and the
//! switch itself go through.

use std::fmt;
use std::time::Duration;

use crate::barrier::SumDifference;
use crate::position::Partition;
use crate::version::VersionState;

#[cfg(test)]
mod tests;

/// What may hold a promotion back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gate {
    /// Every partition passed its switch offset.
    CaughtUp,
    /// The checksums at the switch vector are equal on the comparable columns, the last scan
    /// of both tables found nothing, and where one is asked for it is young enough and the log
    /// confirmed the rows that it counted as rightly different.
    Verified,
    /// No event is parked.
    Parked,
    /// No aggregate misses an event.
    Gaps,
    /// Every leaf exists with its primary key.
    Keys,
    /// The new version is not further behind the live one than allowed.
    Lag,
}

impl Gate {
    /// The word in answers.
    pub const fn word(self) -> &'static str {
        match self {
            Self::CaughtUp => "caught-up",
            Self::Verified => "verified",
            Self::Parked => "parked",
            Self::Gaps => "gaps",
            Self::Keys => "keys",
            Self::Lag => "lag",
        }
    }
}

impl Gate {
    /// Every gate, in the order in which they are judged.
    pub const ALL: [Self; 6] = [
        Self::CaughtUp,
        Self::Verified,
        Self::Parked,
        Self::Gaps,
        Self::Keys,
        Self::Lag,
    ];

    /// The gate of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|gate| gate.word() == word)
    }

    /// Whether somebody may answer for it. A version that has not passed its switch offset
    /// holds another state of the world; there is nothing to answer for.
    pub const fn may_be_forced(self) -> bool {
        !matches!(self, Self::CaughtUp)
    }
}

/// One gate that somebody answers for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forced {
    /// The gate.
    pub gate: Gate,
    /// Why, for the audit.
    pub reason: String,
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A partition that has not passed its switch offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    /// The partition.
    pub partition: Partition,
    /// Events between its durable mark and the switch offset.
    pub events: u64,
}

/// Rows that the log has to confirm, of those that differ as expected: so many, or all there are.
/// When none of 10,000 rows that were chosen by chance is wrong, fewer than 3 in 10,000 of all
/// rows are, with a confidence of 95 %.
pub const CONFIRMED_ROWS: u64 = 10_000;

/// What the log said of the candidate's rows among those that a scan counted as rightly different.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogProof {
    /// Rows that are what the log gives.
    pub confirmed: u64,
    /// Rows that are not.
    pub contradicted: u64,
}

/// What the last scan of both versions' tables said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanProof {
    /// Rows that differ and should not, and columns that do not add up to their checksums.
    pub findings: u64,
    /// Time since its first snapshot.
    pub age: Duration,
    /// Keys whose rows differ as the author's rule says.
    pub expected: u64,
    /// What the log said of some of them; `None` while it was not asked.
    pub log: Option<LogProof>,
}

impl ScanProof {
    /// Rows that the log has to confirm.
    pub fn to_confirm(&self) -> u64 {
        self.expected.min(CONFIRMED_ROWS)
    }
}

/// What is known about the candidate when a promotion is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The candidate's state.
    pub state: VersionState,
    /// Partitions that have not passed their switch offset.
    pub behind: Vec<Behind>,
    /// Differences of the checksums at the switch vector; `None` while they were not compared.
    pub differences: Option<Vec<SumDifference>>,
    /// The last scan of both versions by the code that they have now.
    pub scan: Option<ScanProof>,
    /// How old it may be; `None` when no scan is asked for, and no word of the log. A scan that
    /// found something holds the promotion back either way, and so does a row that the log
    /// contradicts.
    pub max_scan_age: Option<Duration>,
    /// Parked events of the candidate.
    pub parked: u64,
    /// Gaps of the candidate.
    pub gaps: u64,
    /// Partitions whose leaf is missing or has no valid primary key.
    pub without_key: Vec<Partition>,
    /// The worst partition's distance behind the live version, in events.
    pub lag: u64,
    /// The largest distance that is allowed.
    pub allowed_lag: u64,
}

/// One gate's verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateReport {
    /// The gate.
    pub gate: Gate,
    /// Whether it lets the promotion pass.
    pub ok: bool,
    /// One sentence for the operator.
    pub detail: String,
    /// Why it does not count, when it does not let the promotion pass and somebody answers for it.
    pub forced: Option<String>,
}

impl GateReport {
    fn of(gate: Gate, ok: bool, detail: String) -> Self {
        Self {
            gate,
            ok,
            detail,
            forced: None,
        }
    }

    /// Whether the promotion passes it, by itself or by force.
    pub fn passes(&self) -> bool {
        self.ok || self.forced.is_some()
    }
}

/// Judges every gate, and notes the one that somebody answers for if it would hold the
/// promotion back. No other is let pass.
pub fn judge_forced(evidence: &Evidence, forced: Option<&Forced>) -> Vec<GateReport> {
    let mut reports = judge(evidence);
    let Some(forced) = forced.filter(|forced| forced.gate.may_be_forced()) else {
        return reports;
    };
    let held = |report: &&mut GateReport| report.gate == forced.gate && !report.ok;
    if let Some(report) = reports.iter_mut().find(held) {
        report.forced = Some(forced.reason.clone());
    }
    reports
}

/// Judges every gate. The first that is not ok is the one that holds the promotion back.
pub fn judge(evidence: &Evidence) -> Vec<GateReport> {
    vec![
        caught_up(evidence),
        verified(evidence),
        count_is_zero(Gate::Parked, evidence.parked, "parked events"),
        count_is_zero(Gate::Gaps, evidence.gaps, "events missing from the log"),
        keys(evidence),
        lag(evidence),
    ]
}

fn caught_up(evidence: &Evidence) -> GateReport {
    let worst = evidence.behind.iter().max_by_key(|b| b.events);
    let ready = matches!(
        evidence.state,
        VersionState::Ready | VersionState::Previous | VersionState::Active
    );
    let detail = match worst {
        Some(worst) => format!(
            "{} partitions have not passed the switch offset; {} is {} events behind",
            evidence.behind.len(),
            worst.partition,
            worst.events
        ),
        None if !ready => format!("the version is {}, not ready", evidence.state),
        None => "every partition passed its switch offset".to_owned(),
    };
    GateReport::of(Gate::CaughtUp, worst.is_none() && ready, detail)
}

fn verified(evidence: &Evidence) -> GateReport {
    let lacks = sums_lack(evidence).or_else(|| scan_lacks(evidence));
    let ok = lacks.is_none();
    let detail = lacks.unwrap_or_else(|| proven(evidence));
    GateReport::of(Gate::Verified, ok, detail)
}

/// Why the checksums are no proof.
fn sums_lack(evidence: &Evidence) -> Option<String> {
    let Some(found) = &evidence.differences else {
        return Some("the checksums were not compared at a switch vector".to_owned());
    };
    let first = found.first()?;
    Some(format!(
        "{} checksums differ at the switch vector; first: column {} in {}",
        found.len(),
        first.column,
        first.partition
    ))
}

/// Why the scan of the tables is none.
fn scan_lacks(evidence: &Evidence) -> Option<String> {
    let wanted = evidence.max_scan_age;
    match (evidence.scan, wanted) {
        (Some(scan), _) if scan.findings > 0 => Some(format!(
            "the last scan of both tables found {} differences; `refold verify` names them",
            scan.findings
        )),
        (Some(scan), _) if scan.log.is_some_and(|log| log.contradicted > 0) => Some(format!(
            "the log contradicts {} of the rows that differ as expected; `refold verify` names them, \
             `refold repair` puts rows right",
            scan.log.map_or(0, |log| log.contradicted)
        )),
        (None, Some(_)) => Some(
            "the tables were not scanned since both versions have this code; run `refold verify`"
                .to_owned(),
        ),
        (Some(scan), Some(wanted)) if scan.age > wanted => Some(format!(
            "the last scan of both tables is {:.0} s old, {:.0} s are allowed; run `refold verify`",
            scan.age.as_secs_f64(),
            wanted.as_secs_f64()
        )),
        (Some(scan), Some(_)) => log_lacks(&scan),
        (_, None) => None,
    }
}

/// Why what the log said is no proof of the rows that differ as expected.
fn log_lacks(scan: &ScanProof) -> Option<String> {
    let (needed, expected) = (scan.to_confirm(), scan.expected);
    let confirmed = scan.log.map_or(0, |log| log.confirmed);
    let what = match scan.log {
        None => "the log was not asked about them".to_owned(),
        Some(_) => format!("the log confirmed {confirmed} of them"),
    };
    (confirmed < needed).then(|| {
        format!(
            "{expected} rows differ as expected and {what}, {needed} are needed; \
             run `refold verify` with -brokers or -event-store, and with -confirm-only if the tables shall not be scanned again"
        )
    })
}

fn proven(evidence: &Evidence) -> String {
    let sums = "the checksums are equal at the switch vector";
    let Some(scan) = evidence.scan else {
        return sums.to_owned();
    };
    let log = match (scan.expected, scan.log) {
        (0, _) => String::new(),
        (expected, None) => {
            format!("; {expected} rows differ as expected, about which the log was not asked")
        }
        (expected, Some(log)) => format!(
            "; of {expected} rows that differ as expected the log was asked about {} and confirmed each",
            log.confirmed
        ),
    };
    format!(
        "{sums}; a scan of both tables {:.0} s ago found nothing{log}",
        scan.age.as_secs_f64()
    )
}

fn count_is_zero(gate: Gate, count: u64, what: &str) -> GateReport {
    GateReport::of(gate, count == 0, format!("{count} {what}"))
}

fn keys(evidence: &Evidence) -> GateReport {
    let detail = match evidence.without_key.first() {
        None => "every leaf has its primary key".to_owned(),
        Some(first) => format!(
            "{} leaves are missing or have no primary key; first: {first}",
            evidence.without_key.len()
        ),
    };
    GateReport::of(Gate::Keys, evidence.without_key.is_empty(), detail)
}

fn lag(evidence: &Evidence) -> GateReport {
    let detail = format!(
        "the worst partition is {} events behind the serving version, {} are allowed",
        evidence.lag, evidence.allowed_lag
    );
    GateReport::of(Gate::Lag, evidence.lag <= evidence.allowed_lag, detail)
}
