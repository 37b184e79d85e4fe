//! What a load run saw.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::Value;
use serde_json::json;

use super::check::Seen;
use super::check::is_wrong;

/// A part of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Span {
    /// No rebuild runs.
    Baseline,
    /// A rebuild runs.
    Replay,
    /// Proof and switch.
    Cutover,
    /// After the switch.
    After,
}

impl Span {
    pub(crate) const ALL: [Self; 4] = [Self::Baseline, Self::Replay, Self::Cutover, Self::After];

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Replay => "replay",
            Self::Cutover => "cutover",
            Self::After => "after",
        }
    }
}

/// How long a read took, from the moment it was due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Took {
    /// Until it was sent: what this process made of it, not the api.
    pub(super) late: Duration,
    /// Until its answer.
    pub(super) latency: Duration,
}

/// A read that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailedRead {
    /// When, since the run began.
    pub(crate) at: Duration,
    /// What was asked for.
    pub(crate) uri: String,
    /// One sentence.
    pub(crate) reason: String,
}

/// Failed reads that are kept with their reasons; all are counted.
const KEPT_FAILURES: usize = 1_000;

/// The outcome of a load run.
#[derive(Debug, Clone)]
pub(crate) struct LoadReport {
    /// Reads that got an answer or failed.
    pub(crate) reads: u64,
    /// Reads that failed.
    pub(crate) failed: u64,
    /// Those of them that were answered, with something that is not so.
    pub(crate) wrong: u64,
    /// The first of them.
    pub(crate) failures: Vec<FailedRead>,
    /// Answers per version.
    pub(crate) by_version: BTreeMap<String, u64>,
    /// Latencies in microseconds from the moment a read was due, per span.
    spans: Vec<Histogram<u64>>,
    /// How late reads were sent, in microseconds, per span.
    late: Vec<Histogram<u64>>,
}

impl LoadReport {
    pub(crate) fn new() -> Self {
        // 1 us to 60 s with three digits: the bounds are valid by construction.
        let histogram = || {
            Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds and digits are in range")
        };
        Self {
            reads: 0,
            failed: 0,
            wrong: 0,
            failures: Vec::new(),
            by_version: BTreeMap::new(),
            spans: Span::ALL.iter().map(|_| histogram()).collect(),
            late: Span::ALL.iter().map(|_| histogram()).collect(),
        }
    }

    pub(super) fn record(
        &mut self,
        span: Span,
        took: Took,
        at: Duration,
        uri: &str,
        outcome: Result<Seen, String>,
    ) {
        self.reads += 1;
        let microseconds = |of: Duration| of.as_micros() as u64;
        self.spans[span as usize].saturating_record(microseconds(took.latency));
        self.late[span as usize].saturating_record(microseconds(took.late));
        match outcome {
            Ok(seen) => {
                let version = seen.version.unwrap_or_else(|| "none".to_owned());
                *self.by_version.entry(version).or_default() += 1;
            }
            Err(reason) => {
                self.failed += 1;
                self.wrong += u64::from(is_wrong(&reason));
                if self.failures.len() < KEPT_FAILURES {
                    self.failures.push(FailedRead {
                        at,
                        uri: uri.to_owned(),
                        reason,
                    });
                }
            }
        }
    }

    /// Latency of a quantile in `[0, 1]` in milliseconds; `None` for a span without reads.
    pub(crate) fn quantile_ms(&self, span: Span, quantile: f64) -> Option<f64> {
        quantile_ms(&self.spans[span as usize], quantile)
    }

    /// How late reads were sent, in milliseconds, as [`Self::quantile_ms`]: a part of their latency
    /// that their driver is the reason of.
    pub(crate) fn late_ms(&self, span: Span, quantile: f64) -> Option<f64> {
        quantile_ms(&self.late[span as usize], quantile)
    }

    /// The figures as JSON.
    pub(crate) fn to_json(&self) -> Value {
        let spans: serde_json::Map<_, _> = Span::ALL
            .into_iter()
            .filter(|span| !self.spans[*span as usize].is_empty())
            .map(|span| {
                let figures = json!({
                    "reads": self.spans[span as usize].len(),
                    "p50_ms": self.quantile_ms(span, 0.5),
                    "p99_ms": self.quantile_ms(span, 0.99),
                    "p999_ms": self.quantile_ms(span, 0.999),
                    "max_ms": self.quantile_ms(span, 1.0),
                    "sent_late_p99_ms": self.late_ms(span, 0.99),
                });
                (span.word().to_owned(), figures)
            })
            .collect();
        json!({
            "reads": self.reads,
            "failed_reads": self.failed,
            "by_version": self.by_version,
            "latency": spans,
        })
    }
}

fn quantile_ms(histogram: &Histogram<u64>, quantile: f64) -> Option<f64> {
    let value = || histogram.value_at_quantile(quantile) as f64 / 1_000.0;
    (!histogram.is_empty()).then(value)
}
