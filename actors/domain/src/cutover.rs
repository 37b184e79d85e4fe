//! The gates of a promotion, as one list that the dry run, the refusal and the
//! switch itself go through.

use std::fmt;

use crate::barrier::SumDifference;
use crate::position::Partition;
use crate::version::VersionState;

/// What may hold a promotion back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gate {
    /// Every partition passed its switch offset.
    CaughtUp,
    /// The checksums at the switch vector are equal on the comparable columns.
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

/// What is known about the candidate when a promotion is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The candidate's state.
    pub state: VersionState,
    /// Partitions that have not passed their switch offset.
    pub behind: Vec<Behind>,
    /// Differences of the checksums at the switch vector; `None` while they were not compared.
    pub differences: Option<Vec<SumDifference>>,
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
    GateReport {
        gate: Gate::CaughtUp,
        ok: worst.is_none() && ready,
        detail,
    }
}

fn verified(evidence: &Evidence) -> GateReport {
    let detail = match &evidence.differences {
        None => "the checksums were not compared at a switch vector".to_owned(),
        Some(found) => match found.first() {
            None => "the checksums are equal at the switch vector".to_owned(),
            Some(first) => format!(
                "{} checksums differ at the switch vector; first: column {} in {}",
                found.len(),
                first.column,
                first.partition
            ),
        },
    };
    GateReport {
        gate: Gate::Verified,
        ok: evidence.differences.as_ref().is_some_and(Vec::is_empty),
        detail,
    }
}

fn count_is_zero(gate: Gate, count: u64, what: &str) -> GateReport {
    GateReport {
        gate,
        ok: count == 0,
        detail: format!("{count} {what}"),
    }
}

fn keys(evidence: &Evidence) -> GateReport {
    let detail = match evidence.without_key.first() {
        None => "every leaf has its primary key".to_owned(),
        Some(first) => format!(
            "{} leaves are missing or have no primary key; first: {first}",
            evidence.without_key.len()
        ),
    };
    GateReport {
        gate: Gate::Keys,
        ok: evidence.without_key.is_empty(),
        detail,
    }
}

fn lag(evidence: &Evidence) -> GateReport {
    GateReport {
        gate: Gate::Lag,
        ok: evidence.lag <= evidence.allowed_lag,
        detail: format!(
            "the worst partition is {} events behind the serving version, {} are allowed",
            evidence.lag, evidence.allowed_lag
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Evidence {
        Evidence {
            state: VersionState::Ready,
            behind: vec![],
            differences: Some(vec![]),
            parked: 0,
            gaps: 0,
            without_key: vec![],
            lag: 3,
            allowed_lag: 3,
        }
    }

    fn refused(evidence: &Evidence) -> Vec<Gate> {
        let reports = judge(evidence);
        reports.iter().filter(|r| !r.ok).map(|r| r.gate).collect()
    }

    #[test]
    fn good_evidence_passes_every_gate() {
        assert_eq!(refused(&good()), []);
    }

    #[test]
    fn each_lack_is_refused_by_its_own_gate() {
        type Spoil = fn(&mut Evidence);
        let lacks: [(Gate, Spoil); 8] = [
            (Gate::CaughtUp, |e| {
                e.behind.push(Behind {
                    partition: Partition(7),
                    events: 40_102,
                });
            }),
            (Gate::CaughtUp, |e| e.state = VersionState::Building),
            (Gate::Verified, |e| e.differences = None),
            (Gate::Verified, |e| {
                e.differences = Some(vec![SumDifference {
                    partition: Partition(0),
                    column: "balance",
                    buckets: vec![1],
                }]);
            }),
            (Gate::Parked, |e| e.parked = 1),
            (Gate::Gaps, |e| e.gaps = 1),
            (Gate::Keys, |e| e.without_key.push(Partition(2))),
            (Gate::Lag, |e| e.lag = 4),
        ];
        for (gate, spoil) in lacks {
            let mut evidence = good();
            spoil(&mut evidence);
            assert_eq!(refused(&evidence), [gate]);
        }
    }
}
