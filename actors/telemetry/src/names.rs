//! Every metric that a Refold process shows: the one list that the code, the
//! boards and the alert rules are checked against.

/// How a metric is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives; read it with `rate`.
    Counter,
    /// A value at the moment of the scrape.
    Gauge,
    /// A distribution: `_bucket`, `_sum` and `_count`.
    Histogram,
}

impl Kind {
    /// The word in a `# TYPE` line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// The name as Prometheus shows it, with its unit.
    pub name: &'static str,
    /// How it is read.
    pub kind: Kind,
    /// Its unit.
    pub unit: &'static str,
    /// Its labels, apart from those that the scrape adds.
    pub labels: &'static [&'static str],
    /// What it measures.
    pub meaning: &'static str,
}

impl Metric {
    /// The OpenTelemetry instrument's name: the exporter appends `_total` to
    /// counters, and to one that ends in it already a second time.
    pub(crate) fn instrument(&self) -> &'static str {
        match self.kind {
            Kind::Counter => self.name.strip_suffix("_total").unwrap_or(self.name),
            Kind::Gauge | Kind::Histogram => self.name,
        }
    }
}

const PARTITION: &[&str] = &["projection", "version", "partition"];

/// Events folded into rows.
pub const EVENTS_APPLIED: Metric = Metric {
    name: "refold_events_applied_total",
    kind: Kind::Counter,
    unit: "events",
    labels: &["projection", "version", "partition", "mode"],
    meaning: "Events folded into rows since the process started",
};
/// Events read and not applied.
pub const EVENTS_SKIPPED: Metric = Metric {
    name: "refold_events_skipped_total",
    kind: Kind::Counter,
    unit: "events",
    labels: &["projection", "version", "mode", "reason"],
    meaning: "Events read and not applied: already in the row (duplicate), of a type that the projection does not handle (unhandled), or put aside (parked)",
};
/// Bytes of the log.
pub const LOG_READ_BYTES: Metric = Metric {
    name: "refold_log_read_bytes_total",
    kind: Kind::Counter,
    unit: "bytes",
    labels: &["projection", "version", "mode"],
    meaning: "Bytes of record keys and values read from the log",
};
/// The durable mark.
pub const APPLIED_OFFSET: Metric = Metric {
    name: "refold_partition_applied_offset",
    kind: Kind::Gauge,
    unit: "offset",
    labels: PARTITION,
    meaning: "The durable mark: everything below this offset is in the table",
};
/// The end of the log.
pub const LOG_END_OFFSET: Metric = Metric {
    name: "refold_partition_log_end_offset",
    kind: Kind::Gauge,
    unit: "offset",
    labels: PARTITION,
    meaning: "End of the partition's log when last asked, exclusive",
};
/// Distance to the tail.
pub const LAG_EVENTS: Metric = Metric {
    name: "refold_partition_lag_events",
    kind: Kind::Gauge,
    unit: "events",
    labels: PARTITION,
    meaning: "Offsets between the durable mark and the end of the log; markers and holes behind the last record count until a reader has passed them",
};
/// Stall detection.
pub const LAST_COMMIT: Metric = Metric {
    name: "refold_partition_last_commit_timestamp_seconds",
    kind: Kind::Gauge,
    unit: "seconds",
    labels: PARTITION,
    meaning: "Unix time of the partition's last commit",
};
/// Share of history.
pub const REPLAY_PROGRESS: Metric = Metric {
    name: "refold_replay_progress_ratio",
    kind: Kind::Gauge,
    unit: "ratio",
    labels: PARTITION,
    meaning: "Share of the partition's log that a replay has folded, 0 to 1",
};
/// Whether a replay runs.
pub const REPLAY_RUNNING: Metric = Metric {
    name: "refold_replay_running",
    kind: Kind::Gauge,
    unit: "bool",
    labels: &["projection", "version"],
    meaning: "1 while any partition of the version works through history, else 0",
};
/// Whether a rebuild is held.
pub const THROTTLED: Metric = Metric {
    name: "refold_throttled",
    kind: Kind::Gauge,
    unit: "bool",
    labels: &["projection", "version"],
    meaning: "1 while the throttle holds the version's rebuild and nothing is applied, else 0",
};
/// What for.
pub const THROTTLE_REASON: Metric = Metric {
    name: "refold_throttle_reason",
    kind: Kind::Gauge,
    unit: "bool",
    labels: &["projection", "version", "reason"],
    meaning: "1 for each thing that is over its limit and holds the rebuild: replay-lag of a standby, slot-wal held back by a replication slot, wal as a whole",
};
/// What a rebuild leaves to the reads.
pub const REBUILD_DUTY: Metric = Metric {
    name: "refold_rebuild_duty",
    kind: Kind::Gauge,
    unit: "ratio",
    labels: &["projection", "version", "partition"],
    meaning: "Share of the time in which the rebuild works through history: 1 while 99 of 100 reads take no longer than its -max-read-p99, less while they take longer",
};
/// Where the time goes.
pub const ACTOR_STATE: Metric = Metric {
    name: "refold_actor_state_seconds_total",
    kind: Kind::Counter,
    unit: "seconds",
    labels: &["projection", "version", "partition", "state"],
    meaning: "Time that a projector spent per stage",
};
/// Restarts.
pub const ACTOR_RESTARTS: Metric = Metric {
    name: "refold_actor_restarts_total",
    kind: Kind::Counter,
    unit: "restarts",
    labels: PARTITION,
    meaning: "Restarts of a projector by its supervisor",
};
/// The registry's states.
pub const VERSION_STATE: Metric = Metric {
    name: "refold_version_state",
    kind: Kind::Gauge,
    unit: "bool",
    labels: &["projection", "version", "state"],
    meaning: "1 for the state that the version is in, 0 for the others",
};
/// Which build this is.
pub const BUILD_INFO: Metric = Metric {
    name: "refold_build_info",
    kind: Kind::Gauge,
    unit: "bool",
    labels: &["version", "revision", "process"],
    meaning: "Always 1; the labels name the build",
};
/// Write latency.
pub const BATCH_APPLY_DURATION: Metric = Metric {
    name: "refold_batch_apply_duration_seconds",
    kind: Kind::Histogram,
    unit: "seconds",
    labels: &["version", "mode"],
    meaning: "Time of one write transaction from its begin to the answer to its commit",
};
/// Batch size in events.
pub const BATCH_EVENTS: Metric = Metric {
    name: "refold_batch_events",
    kind: Kind::Histogram,
    unit: "events",
    labels: &["version", "mode"],
    meaning: "Events that one write transaction carried",
};
/// Batch size in rows.
pub const BATCH_ROWS: Metric = Metric {
    name: "refold_batch_rows",
    kind: Kind::Histogram,
    unit: "rows",
    labels: &["version", "mode"],
    meaning: "Rows that one write transaction wrote",
};
/// Request latency.
pub const HTTP_DURATION: Metric = Metric {
    name: "http_server_request_duration_seconds",
    kind: Kind::Histogram,
    unit: "seconds",
    labels: &[
        "http_route",
        "http_request_method",
        "http_response_status_code",
    ],
    meaning: "Time from a request's head to its response's head",
};

/// Shadow reads.
pub const SHADOW_READS: Metric = Metric {
    name: "refold_shadow_reads_total",
    kind: Kind::Counter,
    unit: "reads",
    labels: &["projection", "version", "result"],
    meaning: "Answered reads that were offered for comparison with a candidate, by result: equal, expected, differs, not_caught_up, dropped",
};

/// All of them.
pub const ALL: [Metric; 21] = [
    EVENTS_APPLIED,
    EVENTS_SKIPPED,
    LOG_READ_BYTES,
    APPLIED_OFFSET,
    LOG_END_OFFSET,
    LAG_EVENTS,
    LAST_COMMIT,
    REPLAY_PROGRESS,
    REPLAY_RUNNING,
    THROTTLED,
    THROTTLE_REASON,
    REBUILD_DUTY,
    ACTOR_STATE,
    ACTOR_RESTARTS,
    VERSION_STATE,
    BUILD_INFO,
    BATCH_APPLY_DURATION,
    BATCH_EVENTS,
    BATCH_ROWS,
    HTTP_DURATION,
    SHADOW_READS,
];
