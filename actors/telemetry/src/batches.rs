//! The histograms of the write path, one record per transaction.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Histogram;
use opentelemetry::metrics::Meter;

use crate::names;

/// Seconds; a durable commit takes about 4 ms and a bulk load of a large
/// partition some seconds.
const DURATION_BOUNDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0,
];

/// From one event to the millions of a bulk load.
const COUNT_BOUNDS: [f64; 12] = [
    1.0,
    10.0,
    100.0,
    500.0,
    1_000.0,
    2_000.0,
    5_000.0,
    10_000.0,
    20_000.0,
    100_000.0,
    1_000_000.0,
    10_000_000.0,
];

/// Records write transactions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BatchMetrics {
    duration: Histogram<f64>,
    events: Histogram<u64>,
    rows: Histogram<u64>,
}

impl BatchMetrics {
    pub(crate) fn new(meter: &Meter) -> Self {
        let counts = |metric: &names::Metric| {
            meter
                .u64_histogram(metric.instrument())
                .with_description(metric.meaning)
                .with_boundaries(COUNT_BOUNDS.to_vec())
                .build()
        };
        Self {
            duration: meter
                .f64_histogram(names::BATCH_APPLY_DURATION.instrument())
                .with_description(names::BATCH_APPLY_DURATION.meaning)
                .with_boundaries(DURATION_BOUNDS.to_vec())
                .build(),
            events: counts(&names::BATCH_EVENTS),
            rows: counts(&names::BATCH_ROWS),
        }
    }

    /// Records one committed write transaction of a version (its label) in `mode`
    /// (`live` or `replay`): the events it carried, the rows it wrote and its time.
    pub fn record(&self, version: &str, mode: &'static str, size: BatchSize, took: Duration) {
        let labels = [
            KeyValue::new("version", version.to_owned()),
            KeyValue::new("mode", mode),
        ];
        self.duration.record(took.as_secs_f64(), &labels);
        self.events.record(size.events, &labels);
        self.rows.record(size.rows, &labels);
    }
}

/// What one write transaction carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSize {
    /// Events that it moved the mark across.
    pub events: u64,
    /// Rows that it wrote.
    pub rows: u64,
}
