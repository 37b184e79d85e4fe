//! What a scrape shows.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use std::time::SystemTime;

use refold_domain::duty::Duty;
use refold_domain::observe::ActorId;
use refold_domain::observe::Board;
use refold_domain::observe::Observed;
use refold_domain::observe::Phase;
use refold_domain::observe::Stage;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::throttle::Held;
use refold_domain::throttle::Reason;
use refold_domain::version::VersionState;
use refold_telemetry::BatchSize;
use refold_telemetry::HttpRequest;
use refold_telemetry::ProcessLabels;
use refold_telemetry::ShadowResult;
use refold_telemetry::Telemetry;
use refold_telemetry::VersionStates;
use refold_telemetry::names;

fn telemetry() -> Telemetry {
    let labels = ProcessLabels {
        version: "0.1.0".to_owned(),
        revision: "abc".to_owned(),
        process: "projector".to_owned(),
    };
    Telemetry::new(&labels).expect("a fresh registry takes the exporter")
}

fn put(board: &Board, partition: i32, phase: Phase) {
    let id = ActorId {
        version: "accounts_v4".to_owned(),
        partition: Partition(partition),
    };
    board.enter(&id, Observed::starting("accounts", "replay"));
    board.update(&id, |o| {
        o.phase = phase;
        o.next = Offset(25);
        o.folded = Offset(75);
        o.end = Offset(100);
        o.end_measured = Some(SystemTime::now());
        o.last_commit = Some(SystemTime::now());
        o.counts.applied = 70;
        o.counts.duplicates = 3;
        o.counts.bytes = 1_000;
        o.busy.add(Stage::Fold, Duration::from_millis(1_500));
    });
}

fn full_scrape() -> String {
    let telemetry = telemetry();
    let board = Board::new();
    put(&board, 0, Phase::Replaying);
    put(&board, 1, Phase::Live);
    telemetry.observe_board(&board);
    let states = VersionStates::new();
    states.set(vec![(
        "accounts".to_owned(),
        "accounts_v3".to_owned(),
        VersionState::Active,
    )]);
    telemetry.observe_versions(&states);
    let size = BatchSize {
        events: 9_000,
        rows: 4_000,
    };
    let batches = telemetry.batches();
    batches.record("accounts_v4", "replay", size, Duration::from_millis(7));
    let request = HttpRequest {
        route: "/aggregate/:id",
        method: "GET",
        status: 200,
    };
    telemetry.http().record(request, Duration::from_micros(900));
    let shadow = telemetry.shadow();
    shadow.record("accounts", "accounts_v4", ShadowResult::NotCaughtUp);
    telemetry.render().expect("a scrape renders")
}

/// Name to type, as the `# TYPE` lines say.
fn types(scrape: &str) -> BTreeMap<String, String> {
    let lines = scrape.lines().filter_map(|l| l.strip_prefix("# TYPE "));
    lines
        .filter_map(|l| l.split_once(' '))
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect()
}

fn sample(scrape: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let line = scrape.lines().find(|line| {
        line.starts_with(&format!("{name}{{")) && labels.iter().all(|l| line.contains(l))
    })?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[test]
fn every_declared_metric_is_shown_under_its_name_and_type_and_no_other() {
    let declared: BTreeMap<_, _> = names::ALL
        .iter()
        .map(|m| (m.name.to_owned(), m.kind.word().to_owned()))
        .collect();
    assert_eq!(types(&full_scrape()), declared);
}

#[test]
fn every_sample_carries_the_declared_labels() {
    let scrape = full_scrape();
    for metric in names::ALL {
        let line = scrape
            .lines()
            .find(|l| l.starts_with(metric.name) && l.contains('{'))
            .expect("the metric has a sample");
        let (_, rest) = line.split_once('{').expect("found by its brace");
        let (labels, _) = rest.rsplit_once('}').expect("braces are closed");
        let found: BTreeSet<_> = labels
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, _)| name)
            .filter(|name| *name != "le")
            .collect();
        let wanted: BTreeSet<_> = metric.labels.iter().copied().collect();
        assert_eq!(found, wanted, "{}", metric.name);
    }
}

#[test]
fn the_board_decides_the_values() {
    let scrape = full_scrape();
    let p0 = ["version=\"accounts_v4\"", "partition=\"0\""];
    for (name, value) in [
        ("refold_partition_applied_offset", 25.0),
        ("refold_partition_lag_events", 75.0),
        ("refold_replay_progress_ratio", 0.75),
        ("refold_events_applied_total", 70.0),
    ] {
        assert_eq!(sample(&scrape, name, &p0), Some(value), "{name}");
    }
    let both = ["version=\"accounts_v4\""];
    let duplicates = ["reason=\"duplicate\""];
    assert_eq!(sample(&scrape, "refold_replay_running", &both), Some(1.0));
    assert_eq!(
        sample(&scrape, "refold_events_skipped_total", &duplicates),
        Some(6.0)
    );
    assert_eq!(
        sample(&scrape, "refold_log_read_bytes_total", &both),
        Some(2_000.0)
    );
    let fold = ["partition=\"1\"", "state=\"fold\""];
    assert_eq!(
        sample(&scrape, "refold_actor_state_seconds_total", &fold),
        Some(1.5)
    );
}

#[test]
fn a_replay_that_reached_the_tail_is_not_running() {
    let telemetry = telemetry();
    let board = Board::new();
    put(&board, 0, Phase::Live);
    telemetry.observe_board(&board);
    let scrape = telemetry.render().expect("a scrape renders");
    assert_eq!(sample(&scrape, "refold_replay_running", &[]), Some(0.0));
}

#[test]
fn a_rebuild_shows_which_share_of_the_time_it_works_as_long_as_it_is_one() {
    let telemetry = telemetry();
    let board = Board::new();
    put(&board, 0, Phase::Replaying);
    telemetry.observe_board(&board);
    let shown = || {
        let scrape = telemetry.render().expect("a scrape renders");
        sample(&scrape, "refold_rebuild_duty", &["partition=\"0\""])
    };
    assert_eq!(shown(), Some(1.0));
    board.update_all(|o| o.duty = Duty::of_percent(25));
    assert_eq!(shown(), Some(0.25));
    board.update_all(|o| o.phase = Phase::Live);
    assert_eq!(shown(), None);
}

#[test]
fn a_rebuild_that_is_held_shows_that_and_what_for() {
    let telemetry = telemetry();
    let board = Board::new();
    put(&board, 0, Phase::CatchingUp);
    put(&board, 1, Phase::CatchingUp);
    telemetry.observe_board(&board);
    let shown = || {
        let scrape = telemetry.render().expect("a scrape renders");
        let of = |reason: &str| {
            let label = format!("reason=\"{reason}\"");
            sample(&scrape, "refold_throttle_reason", &[&label])
        };
        let throttled = sample(&scrape, "refold_throttled", &["version=\"accounts_v4\""]);
        [throttled, of("replay-lag"), of("slot-wal"), of("wal")].map(Option::unwrap_or_default)
    };
    assert_eq!(shown(), [0.0, 0.0, 0.0, 0.0]);
    board.update_all(|o| o.held = Held::default().with(Reason::SlotWal, true));
    assert_eq!(shown(), [1.0, 0.0, 1.0, 0.0]);
}

#[test]
fn a_version_shows_exactly_one_state() {
    let scrape = full_scrape();
    let lines = scrape
        .lines()
        .filter(|l| l.starts_with("refold_version_state{"));
    let on: Vec<_> = lines.filter(|l| l.ends_with(" 1")).collect();
    assert_eq!(on.len(), 1);
    assert!(on[0].contains("state=\"active\""), "{}", on[0]);
}

#[test]
fn sixty_four_partitions_do_not_overflow_an_instrument() {
    let telemetry = telemetry();
    let board = Board::new();
    for version in 0..5 {
        for partition in 0..64 {
            let id = ActorId {
                version: format!("accounts_v{version}"),
                partition: Partition(partition),
            };
            board.enter(&id, Observed::starting("accounts", "live"));
        }
    }
    telemetry.observe_board(&board);
    let scrape = telemetry.render().expect("a scrape renders");
    assert!(!scrape.contains("otel_metric_overflow"));
    let states = "refold_actor_state_seconds_total{";
    let series = scrape.lines().filter(|l| l.starts_with(states)).count();
    assert_eq!(series, 5 * 64 * Stage::ALL.len());
}

#[test]
fn the_boards_list_of_metrics_is_this_list() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dashboards/metrics.txt");
    let Ok(text) = std::fs::read_to_string(path) else {
        // The list is optional: without boards there is nothing to disagree with.
        return;
    };
    let listed: BTreeSet<_> = text
        .lines()
        .filter_map(|l| l.split_whitespace().next())
        .filter(|name| !name.starts_with('#'))
        .collect();
    let declared: BTreeSet<_> = names::ALL.iter().map(|m| m.name).collect();
    assert_eq!(listed, declared);
}
