//! The histogram of the HTTP server.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Histogram;
use opentelemetry::metrics::Meter;

use crate::names;

/// Seconds. Dense between 0.5 and 20 ms, where a point read's p99 lives, so that
/// a change of 20 % shows.
const BOUNDS: [f64; 18] = [
    0.000_25, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075,
    0.1, 0.25, 0.5, 1.0, 5.0,
];

/// Records requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    duration: Histogram<f64>,
}

/// What is known of a request once its response stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpRequest<'a> {
    /// The route's pattern, never the path: a label per aggregate would be a series per aggregate.
    pub route: &'a str,
    /// The method.
    pub method: &'a str,
    /// The response's status code.
    pub status: u16,
}

impl HttpMetrics {
    pub(crate) fn new(meter: &Meter) -> Self {
        Self {
            duration: meter
                .f64_histogram(names::HTTP_DURATION.instrument())
                .with_description(names::HTTP_DURATION.meaning)
                .with_boundaries(BOUNDS.to_vec())
                .build(),
        }
    }

    /// Records one request.
    pub fn record(&self, request: HttpRequest<'_>, took: Duration) {
        let labels = [
            KeyValue::new("http_route", request.route.to_owned()),
            KeyValue::new("http_request_method", request.method.to_owned()),
            KeyValue::new("http_response_status_code", i64::from(request.status)),
        ];
        self.duration.record(took.as_secs_f64(), &labels);
    }
}
