//! The counter of the shadow reads.

use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;
use opentelemetry::metrics::Meter;

use crate::names;

/// What came of a read that was offered for comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShadowResult {
    /// Both versions have the same.
    Equal,
    /// They differ as they are meant to.
    Expected,
    /// They differ and should not.
    Differs,
    /// One of them has not reached what the other one knows.
    NotCaughtUp,
    /// It was not compared.
    Dropped,
}

impl ShadowResult {
    /// All of them, in their order.
    pub const ALL: [Self; 5] = [
        Self::Equal,
        Self::Expected,
        Self::Differs,
        Self::NotCaughtUp,
        Self::Dropped,
    ];

    /// The label's value.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Expected => "expected",
            Self::Differs => "differs",
            Self::NotCaughtUp => "not_caught_up",
            Self::Dropped => "dropped",
        }
    }
}

/// Counts shadow reads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ShadowMetrics {
    reads: Counter<u64>,
}

impl ShadowMetrics {
    pub(crate) fn new(meter: &Meter) -> Self {
        Self {
            reads: meter
                .u64_counter(names::SHADOW_READS.instrument())
                .with_description(names::SHADOW_READS.meaning)
                .build(),
        }
    }

    /// Counts one read that was offered to the candidate `version` (its label).
    pub fn record(&self, projection: &'static str, version: &str, result: ShadowResult) {
        let labels = [
            KeyValue::new("projection", projection),
            KeyValue::new("version", version.to_owned()),
            KeyValue::new("result", result.word()),
        ];
        self.reads.add(1, &labels);
    }
}
