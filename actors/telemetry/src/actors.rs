//! The projectors' board as observable instruments.

use std::collections::BTreeMap;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use refold_domain::observe::ActorId;
use refold_domain::observe::Board;
use refold_domain::observe::Observed;
use refold_domain::observe::Phase;
use refold_domain::observe::Stage;
use refold_domain::throttle::Reason;

use crate::names;
use crate::names::Metric;

/// The mode of a projector that works through history.
const REPLAY: &str = "replay";

pub(crate) fn observe(meter: &Meter, board: &Board) {
    observe_counts(meter, board);
    observe_time_per_stage(meter, board);
    observe_positions(meter, board);
    observe_replay(meter, board);
    observe_throttle(meter, board);
    observe_duty(meter, board);
}

fn observe_counts(meter: &Meter, board: &Board) {
    counter(meter, board, &names::EVENTS_APPLIED, |id, actor, sums| {
        let mut labels = partition_labels(id, actor);
        labels.push(("mode", actor.mode.to_owned()));
        add(sums, labels, actor.counts.applied);
    });
    counter(meter, board, &names::EVENTS_SKIPPED, |id, actor, sums| {
        for (reason, count) in [
            ("duplicate", actor.counts.duplicates),
            ("unhandled", actor.counts.unhandled),
            ("parked", actor.counts.parked),
        ] {
            let mut labels = version_labels(id, actor);
            labels.push(("mode", actor.mode.to_owned()));
            labels.push(("reason", reason.to_owned()));
            add(sums, labels, count);
        }
    });
    counter(meter, board, &names::LOG_READ_BYTES, |id, actor, sums| {
        let mut labels = version_labels(id, actor);
        labels.push(("mode", actor.mode.to_owned()));
        add(sums, labels, actor.counts.bytes);
    });
    counter(meter, board, &names::ACTOR_RESTARTS, |id, actor, sums| {
        add(sums, partition_labels(id, actor), actor.restarts);
    });
}

fn observe_time_per_stage(meter: &Meter, board: &Board) {
    let board = board.clone();
    meter
        .f64_observable_counter(names::ACTOR_STATE.instrument())
        .with_description(names::ACTOR_STATE.meaning)
        .with_callback(move |observer| {
            for (id, actor) in board.all() {
                for stage in Stage::ALL {
                    let mut labels = partition_labels(&id, &actor);
                    labels.push(("state", stage.word().to_owned()));
                    observer.observe(actor.busy.get(stage).as_secs_f64(), &attributes(labels));
                }
            }
        })
        .build();
}

fn observe_positions(meter: &Meter, board: &Board) {
    gauge(meter, board, &names::APPLIED_OFFSET, |actor| {
        Some(actor.next.0 as f64)
    });
    gauge(meter, board, &names::LOG_END_OFFSET, |actor| {
        actor.end_measured.map(|_| actor.end.0 as f64)
    });
    gauge(meter, board, &names::LAG_EVENTS, |actor| {
        actor.end_measured.map(|_| actor.lag() as f64)
    });
    gauge(meter, board, &names::LAST_COMMIT, |actor| {
        actor.last_commit.map(unix_seconds)
    });
}

fn observe_replay(meter: &Meter, board: &Board) {
    gauge(meter, board, &names::REPLAY_PROGRESS, |actor| {
        (actor.mode == REPLAY && actor.end_measured.is_some()).then(|| progress(actor))
    });
    flag(meter, board, &names::REPLAY_RUNNING, |id, actor, flags| {
        raise(flags, version_labels(id, actor), is_replaying(actor));
    });
}

fn observe_throttle(meter: &Meter, board: &Board) {
    flag(meter, board, &names::THROTTLED, |id, actor, flags| {
        raise(flags, version_labels(id, actor), actor.held.is_any());
    });
    flag(meter, board, &names::THROTTLE_REASON, |id, actor, flags| {
        for reason in Reason::ALL {
            let mut labels = version_labels(id, actor);
            labels.push(("reason", reason.word().to_owned()));
            raise(flags, labels, actor.held.get(reason));
        }
    });
}

fn observe_duty(meter: &Meter, board: &Board) {
    gauge(meter, board, &names::REBUILD_DUTY, |actor| {
        is_replaying(actor).then(|| actor.duty.ratio())
    });
}

fn is_replaying(actor: &Observed) -> bool {
    let works = matches!(
        actor.phase,
        Phase::Starting | Phase::Replaying | Phase::Loading | Phase::CatchingUp
    );
    actor.mode == REPLAY && works
}

fn progress(actor: &Observed) -> f64 {
    let done = actor.folded.max(actor.next).0;
    if actor.end.0 <= 0 {
        return 1.0;
    }
    (done as f64 / actor.end.0 as f64).clamp(0.0, 1.0)
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64())
}

type Labels = Vec<(&'static str, String)>;

fn version_labels(id: &ActorId, actor: &Observed) -> Labels {
    vec![
        ("projection", actor.projection.clone()),
        ("version", id.version.clone()),
    ]
}

fn partition_labels(id: &ActorId, actor: &Observed) -> Labels {
    let mut labels = version_labels(id, actor);
    labels.push(("partition", id.partition.0.to_string()));
    labels
}

fn attributes(labels: Labels) -> Vec<KeyValue> {
    let pairs = labels.into_iter();
    pairs
        .map(|(name, value)| KeyValue::new(name, value))
        .collect()
}

fn add(sums: &mut BTreeMap<Labels, u64>, labels: Labels, count: u64) {
    *sums.entry(labels).or_default() += count;
}

/// A counter whose label sets may cover several actors: they are added up first,
/// because an instrument keeps one value per label set and scrape.
fn counter(
    meter: &Meter,
    board: &Board,
    metric: &'static Metric,
    collect: impl Fn(&ActorId, &Observed, &mut BTreeMap<Labels, u64>) + Send + Sync + 'static,
) {
    let board = board.clone();
    meter
        .u64_observable_counter(metric.instrument())
        .with_description(metric.meaning)
        .with_callback(move |observer| {
            let mut sums = BTreeMap::new();
            for (id, actor) in board.all() {
                collect(&id, &actor, &mut sums);
            }
            for (labels, count) in sums {
                observer.observe(count, &attributes(labels));
            }
        })
        .build();
}

fn raise(flags: &mut BTreeMap<Labels, bool>, labels: Labels, up: bool) {
    *flags.entry(labels).or_default() |= up;
}

/// A gauge that is 1 when any of the actors behind a label set raises it, else 0.
fn flag(
    meter: &Meter,
    board: &Board,
    metric: &'static Metric,
    collect: impl Fn(&ActorId, &Observed, &mut BTreeMap<Labels, bool>) + Send + Sync + 'static,
) {
    let board = board.clone();
    meter
        .u64_observable_gauge(metric.instrument())
        .with_description(metric.meaning)
        .with_callback(move |observer| {
            let mut flags = BTreeMap::new();
            for (id, actor) in board.all() {
                collect(&id, &actor, &mut flags);
            }
            for (labels, up) in flags {
                observer.observe(u64::from(up), &attributes(labels));
            }
        })
        .build();
}

/// A gauge per partition; `None` shows no sample.
fn gauge(
    meter: &Meter,
    board: &Board,
    metric: &'static Metric,
    value: impl Fn(&Observed) -> Option<f64> + Send + Sync + 'static,
) {
    let board = board.clone();
    meter
        .f64_observable_gauge(metric.instrument())
        .with_description(metric.meaning)
        .with_callback(move |observer| {
            for (id, actor) in board.all() {
                if let Some(value) = value(&actor) {
                    observer.observe(value, &attributes(partition_labels(&id, &actor)));
                }
            }
        })
        .build();
}
