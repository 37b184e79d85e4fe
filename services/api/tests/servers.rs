//! Servers on real sockets: what they answer, and how they stop.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use refold_api::ApiOptions;
use refold_api::DrainOptions;
use refold_api::serve;
use refold_api::serve_health;
use refold_domain::duty::ReadLatency;
use refold_domain::observe::ActorId;
use refold_domain::observe::Board;
use refold_domain::observe::Observed;
use refold_domain::observe::Phase;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use support::World;

async fn bound() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound port");
    (listener, address)
}

/// Status and body of a GET on a connection of its own.
async fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok());
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned());
    Ok((status.unwrap_or_default(), body.unwrap_or_default()))
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_says_so_before_it_closes() {
    let world = World::with_two_versions().await;
    let (listener, address) = bound().await;
    let (stop, stopped) = oneshot::channel::<()>();
    let options = ApiOptions {
        drain: DrainOptions {
            announce: Duration::from_secs(60),
            finish: Duration::from_secs(5),
        },
        ..ApiOptions::default()
    };
    let shutdown = async move { drop(stopped.await) };
    let server = tokio::spawn(serve(listener, world.deps(), options, shutdown));
    assert_eq!(get(address, "/readyz").await.expect("an answer").0, 200);
    stop.send(()).expect("the server listens for it");
    // It still serves, and says that it will not for long.
    while get(address, "/readyz").await.expect("an answer").0 != 503 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        get(address, "/aggregate/1").await.expect("an answer").0,
        200
    );
    server.abort();
}

#[tokio::test]
async fn a_server_tells_what_its_reads_take_and_not_what_a_wait_for_an_offset_takes() {
    let world = World::with_two_versions().await;
    let (listener, address) = bound().await;
    let deps = world.deps();
    let shutdown = std::future::pending();
    let server = tokio::spawn(serve(listener, deps, ApiOptions::default(), shutdown));
    let wait = Duration::from_secs(1);
    let path = format!("/aggregate/1?min_offset=0:1000000&wait={}s", wait.as_secs());
    let waited = get(address, &path).await.expect("an answer");
    assert_ne!(waited.0, 200);
    assert_eq!(world.store.read_latency(), ReadLatency::Silent);
    // Few reads are told as well, only later.
    assert_eq!(
        get(address, "/aggregate/1").await.expect("an answer").0,
        200
    );
    let told = async {
        loop {
            if let ReadLatency::P99(p99) = world.store.read_latency() {
                return p99;
            }
            tokio::task::yield_now().await;
        }
    };
    let p99 = tokio::time::timeout(Duration::from_secs(30), told).await;
    assert!(p99.expect("it is told") < wait);
    server.abort();
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_closes_its_listener() {
    let world = World::with_two_versions().await;
    let (listener, address) = bound().await;
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move { drop(stopped.await) };
    let options = ApiOptions::default();
    let server = tokio::spawn(serve(listener, world.deps(), options, shutdown));
    assert_eq!(
        get(address, "/aggregate/1").await.expect("an answer").0,
        200
    );
    stop.send(()).expect("the server listens for it");
    let ended = server.await.expect("the server does not panic");
    ended.expect("the server ends well");
    get(address, "/aggregate/1")
        .await
        .expect_err("nobody listens");
}

#[tokio::test]
async fn a_projector_process_shows_its_board() {
    let deps = World::empty().deps();
    let (listener, address) = bound().await;
    let board = Board::new();
    deps.telemetry.observe_board(&board);
    let id = ActorId {
        version: "wide_v2".to_owned(),
        partition: Partition(3),
    };
    board.enter(&id, Observed::starting("wide", "replay"));
    board.update(&id, |o| {
        o.next = Offset(7);
        o.end = Offset(9);
        o.end_measured = Some(SystemTime::now());
    });
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move { drop(stopped.await) };
    let telemetry = Arc::clone(&deps.telemetry);
    let health = serve_health(listener, telemetry, deps.labels, board.clone(), shutdown);
    let health = tokio::spawn(health);
    let (status, body) = get(address, "/metrics").await.expect("an answer");
    assert_eq!(status, 200);
    let lag =
        "refold_partition_lag_events{partition=\"3\",projection=\"wide\",version=\"wide_v2\"} 2";
    assert!(body.contains(lag), "{body}");
    assert_eq!(get(address, "/readyz").await.expect("an answer").0, 200);
    board.update(&id, |o| {
        o.phase = Phase::Halted;
        o.reason = Some("byte 12: no aggregate id".to_owned());
    });
    let (status, body) = get(address, "/readyz?verbose").await.expect("an answer");
    assert_eq!(status, 503);
    assert!(
        body.contains("[-]wide_v2/p3 halted: byte 12: no aggregate id"),
        "{body}"
    );
    assert_eq!(get(address, "/livez").await.expect("an answer").0, 200);
    let (_, version) = get(address, "/version").await.expect("an answer");
    assert!(version.contains("\"revision\":\"abc\""), "{version}");
    stop.send(()).expect("the server listens for it");
    health
        .await
        .expect("no panic")
        .expect("the server ends well");
}
