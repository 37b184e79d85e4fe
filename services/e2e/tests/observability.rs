//! What people see: metrics, the board's expressions, health, and who can reach them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use refold_e2e::Api;
use refold_e2e::Launch;
use refold_e2e::Mode;
use refold_e2e::Process;
use refold_e2e::Stream;
use refold_e2e::World;
use refold_local::PrometheusOptions;
use refold_local::PrometheusServer;
use refold_local::ScrapeTarget;
use refold_local::board::Board;
use refold_local::board::Query;
use refold_local::testing::ScratchDir;
use refold_local::testing::wait_until;

const BOUND: Duration = Duration::from_secs(90);

const STREAM: Stream = Stream {
    events: 60_000,
    aggregates: 6_000,
    partitions: 4,
    seed: 42,
    format: "proto",
};

/// Slow enough that the replay is seen by many scrapes.
const REPLAY_RATE: u64 = 4_000;

fn below_root(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// The names in one answer of `/metrics`.
fn exported(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names = types.filter_map(|rest| rest.split(' ').next());
    names.map(str::to_owned).collect()
}

fn listed() -> BTreeSet<String> {
    let text = fs::read_to_string(below_root("dashboards/metrics.txt")).expect("the list");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let names = lines.filter_map(|line| line.split_whitespace().next());
    names.map(str::to_owned).collect()
}

fn target(job: &str, address: &str) -> ScrapeTarget {
    ScrapeTarget {
        job: job.to_owned(),
        address: address.to_owned(),
    }
}

/// Asks every expression that has no answer yet; some have one only while a replay
/// runs, others only while none does.
fn ask(prometheus: &PrometheusServer, waiting: &mut Vec<Query>) {
    let variables = BTreeMap::from([("projection", "accounts"), ("version", ".*")]);
    waiting.retain(|query| {
        let expression = query.with_variables(&variables);
        let answer = prometheus.query(&expression);
        let series = answer.unwrap_or_else(|e| panic!("{}: {e}", query.panel));
        let is_number = |series: &serde_json::Value| {
            let value = series["value"][1].as_str().unwrap_or("NaN");
            value.parse::<f64>().is_ok_and(|value| !value.is_nan())
        };
        !series.iter().any(is_number)
    });
}

fn still_waiting(waiting: &[Query]) -> Vec<(&str, &str)> {
    let shown = waiting
        .iter()
        .map(|q| (q.panel.as_str(), q.expression.as_str()));
    shown.collect()
}

/// Projectors of two versions, an api, and reads from it.
struct Scene {
    live: Process,
    tail: Process,
    api: Api,
    load: Process,
}

fn scene(world: &World) -> Scene {
    // Before anything serves: alive, and not ready.
    // It compares reads with a candidate, too, once there is one.
    let api = world.api_launch().flag("shadow", "accounts_v4");
    let api = Api::of(api.flag("shadow-share", "10%").start());
    let unready = api.get("/readyz");
    assert_eq!(unready.status, 503, "{unready:?}");
    assert!(
        unready.body.contains("no version of accounts is active"),
        "{unready:?}"
    );
    let live = world.projector(Mode::Live, "accounts_v3").start();
    let ready = || api.get("/readyz").status == 200;
    world.wait("the api can serve reads", BOUND, ready);
    let load = Launch::new(["load", "-rate=200", "-duration=300s"])
        .flag("api", api.url())
        .flag("aggregates", STREAM.aggregates);
    Scene {
        live,
        tail: world.tail(500, 4 * BOUND).start(),
        load: load.start(),
        api,
    }
}

#[test]
fn every_expression_of_the_board_returns_data_from_the_real_processes() {
    let world = World::seeded("board", STREAM);
    let scene = scene(&world);
    let scratch = ScratchDir::new("refold-board").expect("a directory");
    let prometheus = PrometheusServer::start(scratch.path(), &PrometheusOptions::default());
    let prometheus = prometheus.expect("a Prometheus");
    let mut targets = vec![
        target("api", scene.api.address()),
        target("live", scene.live.address()),
    ];
    prometheus.set_targets(&targets).expect("targets");

    let board = Board::read(&below_root("dashboards/rebuild.json")).expect("the board");
    let mut waiting = board.queries();
    let all = waiting.len();
    assert!(all > 10, "only {all} expressions");
    // Reads before the replay are the baseline.
    wait_until(BOUND, || {
        ask(&prometheus, &mut waiting);
        !waiting
            .iter()
            .any(|q| q.expression.contains("unless on ()"))
    });
    let replay = world.projector(Mode::Replay, "accounts_v4");
    let replay = replay
        .arg("--catch-up")
        .flag("rate-limit", REPLAY_RATE)
        .start();
    targets.push(target("replay", replay.address()));
    prometheus.set_targets(&targets).expect("targets");
    wait_until(BOUND, || {
        ask(&prometheus, &mut waiting);
        waiting.is_empty()
    });
    assert!(
        waiting.is_empty(),
        "no data: {:#?}",
        still_waiting(&waiting)
    );
    let up = prometheus.query("up == 1").expect("an answer");
    assert_eq!(up.len(), targets.len(), "{up:?}");
    every_listed_metric_is_exported(&scene, &replay);
    health_and_listeners(scene, replay);
}

fn every_listed_metric_is_exported(scene: &Scene, replay: &Process) {
    let bodies = [
        scene.api.get("/metrics").body,
        scene.live.get("/metrics").expect("metrics").1,
        replay.get("/metrics").expect("metrics").1,
    ];
    let found: BTreeSet<_> = bodies.iter().flat_map(|body| exported(body)).collect();
    let listed = listed();
    let missing: Vec<_> = listed.difference(&found).collect();
    assert!(
        missing.is_empty(),
        "listed, and exported by nobody: {missing:?}"
    );
    let of_ours = |name: &&String| name.starts_with("refold_") || name.starts_with("http_");
    let unlisted: Vec<_> = found.difference(&listed).filter(of_ours).collect();
    assert!(
        unlisted.is_empty(),
        "exported, and not listed: {unlisted:?}"
    );
    for body in &bodies {
        assert!(!body.contains("otel_scope"), "scope labels on every sample");
        assert!(!body.contains("/aggregate/1"), "a series per id");
    }
}

fn health_and_listeners(mut scene: Scene, mut replay: Process) {
    for process in [&scene.live, &replay, &scene.load, &scene.tail] {
        for address in listeners(process.pid()) {
            assert!(address.ends_with("7F"), "listens off loopback: {address}");
        }
    }
    let api = scene.api.process().pid();
    let of_api = listeners(api);
    assert_eq!(of_api.len(), 1, "{of_api:?}");
    assert!(
        of_api[0].ends_with("7F"),
        "listens off loopback: {of_api:?}"
    );
    for process in [&scene.live, &replay] {
        assert_eq!(listeners(process.pid()).len(), 1);
        for path in ["/livez", "/readyz"] {
            let answer = process.get(path).expect("an answer");
            assert_eq!(answer.0, 200, "{path}: {answer:?}");
        }
        let verbose = process.get("/readyz?verbose").expect("an answer").1;
        let lines = verbose.lines().filter(|line| line.starts_with("[+]"));
        assert_eq!(lines.count(), STREAM.partitions as usize, "{verbose}");
    }
    for path in ["/livez", "/readyz", "/version", "/openapi.json"] {
        assert_eq!(scene.api.get(path).status, 200, "{path}");
    }
    for process in [&mut scene.tail, &mut replay, &mut scene.live] {
        process.drain(BOUND);
    }
    scene.api.process().drain(BOUND);
}

/// The local addresses, as the kernel writes them, that a process listens on.
fn listeners(pid: u32) -> Vec<String> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).expect("its files");
    let links = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    let inodes: BTreeSet<_> = links
        .filter_map(|link| {
            let name = link.to_str()?.strip_prefix("socket:[")?;
            Some(name.strip_suffix(']')?.to_owned())
        })
        .collect();
    ["tcp", "tcp6"]
        .iter()
        .flat_map(|table| {
            let text = fs::read_to_string(format!("/proc/{pid}/net/{table}"));
            let sockets = text.unwrap_or_default();
            let lines = sockets.lines().skip(1).map(str::to_owned);
            lines.collect::<Vec<_>>()
        })
        .filter_map(|line| {
            let cells: Vec<_> = line.split_whitespace().collect();
            let listens = cells.get(3) == Some(&"0A") && inodes.contains(*cells.get(9)?);
            let address = cells.get(1)?.split(':').next()?;
            // The first byte of an IPv4 address comes last.
            listens.then(|| address.to_owned())
        })
        .collect()
}
