//! The dashboard and the alerts: well-formed, known metrics only, and every expression returns
//! data from a real Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use refold_local::board::{self, Board};
use refold_local::testing::{ScratchDir, wait_until};
use refold_local::{PrometheusOptions, PrometheusServer, ScrapeTarget, promtool};

fn below_root(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

fn rebuild_board() -> Board {
    Board::read(&below_root("dashboards/rebuild.json")).expect("a dashboard")
}

fn committed_metrics() -> BTreeSet<String> {
    let text = fs::read_to_string(below_root("dashboards/metrics.txt")).expect("the list");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn boards_and_alerts_use_listed_metrics_only_and_every_listed_one() {
    let alerts = fs::read_to_string(below_root("compose/alerts.yml")).expect("the alerts");
    let mut used = rebuild_board().metrics();
    used.extend(board::metrics_in(&alerts));
    // For people and for joins: nothing has to draw it.
    used.insert("refold_build_info".to_owned());
    assert_eq!(used, committed_metrics());
}

#[test]
fn the_board_has_unique_panels_that_do_not_overlap_and_a_chosen_datasource() {
    let board = rebuild_board();
    assert_eq!(board.json()["uid"], "refold-rebuild");
    let mut ids = BTreeSet::new();
    let mut cells = BTreeSet::new();
    for panel in board.panels() {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")));
        let at = |side: &str| panel["gridPos"][side].as_u64().expect("a position");
        assert!(at("x") + at("w") <= 24, "{} is too wide", panel["title"]);
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(cells.insert((x, y)), "{} overlaps", panel["title"]);
            }
        }
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${DS_PROMETHEUS}");
            assert!(panel["description"].as_str().is_some_and(|d| !d.is_empty()));
        }
    }
    for title in [
        "Replay rate",
        "Lag to tail",
        "Read p99 with and without replay",
    ] {
        assert!(board.panels().iter().any(|panel| panel["title"] == title));
    }
}

/// Labels that the processes put on a metric, as pairs of a name and some values.
type Labels = &'static [(&'static str, &'static [&'static str])];

const VERSION: (&str, &[&str]) = ("version", &["accounts_v3", "accounts_v4"]);
const PROJECTION: (&str, &[&str]) = ("projection", &["accounts"]);
const PARTITION: (&str, &[&str]) = ("partition", &["0", "1"]);
const MODE: (&str, &[&str]) = ("mode", &["live", "replay"]);

fn labels_of(metric: &str) -> Labels {
    match metric {
        "refold_events_applied_total" => &[PROJECTION, VERSION, PARTITION, MODE],
        "refold_events_skipped_total" => &[
            PROJECTION,
            VERSION,
            MODE,
            ("reason", &["duplicate", "unhandled"]),
        ],
        "refold_log_read_bytes_total" => &[PROJECTION, VERSION, MODE],
        "refold_replay_running" => &[PROJECTION, VERSION],
        "refold_actor_state_seconds_total" => &[
            PROJECTION,
            VERSION,
            PARTITION,
            ("state", &["fetch", "fold", "write", "throttled", "idle"]),
        ],
        "refold_version_state" => &[PROJECTION, VERSION, ("state", &["active", "building"])],
        "refold_batch_apply_duration_seconds" | "refold_batch_events" | "refold_batch_rows" => {
            &[VERSION, MODE]
        }
        "http_server_request_duration_seconds" => &[
            ("http_route", &["/aggregate/:id"]),
            ("http_request_method", &["GET"]),
            ("http_response_status_code", &["200", "404"]),
        ],
        "refold_build_info" => &[("version", &["0.1.0"]), ("revision", &["0"])],
        _ => &[PROJECTION, VERSION, PARTITION],
    }
}

fn is_histogram(metric: &str) -> bool {
    metric.starts_with("refold_batch_") || metric.starts_with("http_server_")
}

/// Every combination of the label values, as it stands in braces.
fn combinations(labels: Labels) -> Vec<String> {
    labels
        .iter()
        .fold(vec![String::new()], |partial, (name, values)| {
            partial
                .iter()
                .flat_map(|text| {
                    values
                        .iter()
                        .map(move |value| format!("{text}{name}=\"{value}\","))
                })
                .collect()
        })
}

/// What a process would answer at `/metrics` after `elapsed`: counters grow, gauges move.
fn exposition(metrics: &BTreeSet<String>, elapsed: Duration, replay_runs: bool) -> String {
    let seconds = elapsed.as_secs_f64();
    let mut text = String::new();
    for metric in metrics {
        for labels in combinations(labels_of(metric)) {
            let mut sample = |suffix: &str, extra: &str, value: f64| {
                text.push_str(&format!("{metric}{suffix}{{{labels}{extra}}} {value}\n"));
            };
            if is_histogram(metric) {
                for (bound, share) in [("0.01", 0.5), ("1", 0.9), ("+Inf", 1.0)] {
                    sample(
                        "_bucket",
                        &format!("le=\"{bound}\""),
                        100.0 * share * seconds,
                    );
                }
                sample("_sum", "", 10.0 * seconds);
                sample("_count", "", 100.0 * seconds);
            } else if metric == "refold_replay_running" {
                sample("", "", f64::from(u8::from(replay_runs)));
            } else if metric.ends_with("_total") || metric.ends_with("_offset") {
                sample("", "", 1000.0 * seconds);
            } else {
                sample("", "", 1.0);
            }
        }
    }
    text
}

/// Serves `/metrics` on a free port of loopback until the test program ends.
fn exporter(replay_runs: bool) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let metrics = committed_metrics();
    let start = Instant::now();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let body = exposition(&metrics, start.elapsed(), replay_runs);
            answer(stream, &body);
        }
    });
    address
}

fn answer(mut stream: TcpStream, body: &str) {
    let mut request = [0_u8; 4096];
    // One read holds a whole scrape request; a scraper that went away is its own problem.
    if stream.read(&mut request).is_ok() {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n";
        let length = body.len();
        let text = format!("{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        drop(stream.write_all(text.as_bytes()));
    }
}

/// Queries without data while a replay runs, or while none does.
fn silent_queries(replay_runs: bool) -> BTreeSet<String> {
    let dir = ScratchDir::new("refold-board").expect("a directory");
    let server = PrometheusServer::start(
        dir.path(),
        &PrometheusOptions {
            targets: vec![ScrapeTarget {
                job: "refold".into(),
                address: exporter(replay_runs),
            }],
            rule_files: vec![below_root("compose/alerts.yml")],
            ..PrometheusOptions::default()
        },
    )
    .expect("Prometheus starts");
    let variables = BTreeMap::from([("projection", "accounts"), ("version", ".*")]);
    let mut silent: BTreeSet<String> = rebuild_board()
        .queries()
        .iter()
        .map(|query| query.with_variables(&variables))
        .collect();
    wait_until(Duration::from_secs(20), || {
        silent.retain(|query| {
            let series = server
                .query(query)
                .unwrap_or_else(|e| panic!("{query}: {e}"));
            !series.iter().any(|s| s["value"][1] != "NaN")
        });
        silent.len() <= 1
    });
    silent
}

#[test]
fn every_expression_returns_data_from_a_real_prometheus() {
    let running = silent_queries(true);
    let without = silent_queries(false);
    // The read quantile is drawn as two lines: each is silent exactly while the other speaks.
    let only = |silent: &BTreeSet<String>, word: &str| {
        silent.len() == 1 && silent.iter().all(|query| query.contains(word))
    };
    assert!(only(&running, " unless on ()"), "no data: {running:?}");
    assert!(only(&without, " and on ()"), "no data: {without:?}");
}

#[test]
fn the_alert_rules_pass_their_own_tests() {
    let promtool = promtool().expect("promtool");
    for arguments in [
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts.test.yml"],
    ] {
        let out = Command::new(&promtool)
            .args(arguments)
            .current_dir(below_root("compose"))
            .output()
            .expect("promtool runs");
        let text = [out.stdout, out.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(out.status.success(), "{arguments:?}: {text}");
    }
}
