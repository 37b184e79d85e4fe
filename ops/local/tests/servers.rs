//! Starts real servers and checks what the crate promises about them.

use std::process::Command;
use std::time::Duration;

use refold_local::testing::{ScratchDir, wait_until};
use refold_local::{
    KafkaCluster, PostgresOptions, PostgresServer, PrometheusOptions, PrometheusServer,
    ScrapeTarget, Stack, StackOptions,
};

fn scratch(name: &str) -> ScratchDir {
    ScratchDir::new(name).expect("a scratch directory")
}

#[test]
fn postgres_runs_unprivileged_with_fsync_and_checksums_and_survives_a_crash() {
    let dir = scratch("refold-postgres");
    let mut server =
        PostgresServer::start(dir.path(), PostgresOptions::default()).expect("Postgres starts");
    let show = |server: &PostgresServer, name: &str| {
        let value = server.psql(&format!("show {name}")).expect("a setting");
        value.trim().to_owned()
    };
    assert_eq!(show(&server, "fsync"), "on");
    assert_eq!(show(&server, "data_checksums"), "on");
    assert_eq!(show(&server, "listen_addresses"), "127.0.0.1");
    assert_eq!(show(&server, "jit"), "off");
    server
        .psql("create table kept as select 1 as one")
        .expect("a table");
    server.crash().expect("it ends");
    assert!(server.psql("select 1").is_err());
    server.ensure().expect("it recovers");
    let kept = server.psql("select one from kept").expect("the row");
    assert_eq!(kept.trim(), "1");
}

#[test]
fn the_minimal_wal_profile_starts() {
    let dir = scratch("refold-minimal");
    let options = PostgresOptions {
        wal_level: refold_local::settings::WalLevel::Minimal,
        ..PostgresOptions::default()
    };
    let server = PostgresServer::start(dir.path(), options).expect("Postgres starts");
    let level = server.psql("show wal_level").expect("a setting");
    assert_eq!(level.trim(), "minimal");
}

#[test]
fn three_brokers_survive_the_loss_of_one_and_take_it_back() {
    let dir = scratch("refold-kafka");
    let mut cluster = KafkaCluster::start(dir.path(), 3).expect("three nodes start");
    assert_eq!(cluster.bootstrap().split(',').count(), 3);
    let id = cluster.cluster_id().to_owned();
    cluster.kill_node(1).expect("a node ends");
    cluster.ensure().expect("it comes back");
    assert_eq!(cluster.cluster_id(), id);
}

#[test]
fn prometheus_scrapes_itself_and_answers_a_query() {
    let dir = scratch("refold-prometheus");
    let server = PrometheusServer::start(dir.path(), &PrometheusOptions::default())
        .expect("Prometheus starts");
    server
        .set_targets(&[ScrapeTarget {
            job: "itself".into(),
            address: server.address(),
        }])
        .expect("targets are written");
    let is_up = || {
        let series = server.query("up{job=\"itself\"} == 1").expect("an answer");
        series.len() == 1
    };
    assert!(wait_until(Duration::from_secs(30), is_up));
    assert!(server.query("up{").is_err(), "a bad expression is refused");
}

#[test]
fn a_stack_started_twice_is_the_same_stack_and_down_ends_exactly_it() {
    let dir = scratch("refold-stack");
    let options = StackOptions::new(dir.path());
    let first = Stack::up(&options).expect("the stack starts");
    let pids = |stack: &Stack| -> Vec<u32> {
        let servers = stack.status().servers;
        assert!(servers.iter().all(|server| server.running));
        servers.iter().map(|server| server.pid).collect()
    };
    let before = pids(&first);
    assert_eq!(before.len(), 2);

    let (second, third) = std::thread::scope(|scope| {
        let one = scope.spawn(|| Stack::up(&options).expect("the same stack"));
        let two = scope.spawn(|| Stack::up(&options).expect("the same stack"));
        (one.join().expect("a thread"), two.join().expect("a thread"))
    });
    assert_eq!(second.addresses(), first.addresses());
    assert_eq!(pids(&second), before);
    assert_eq!(pids(&third), before);

    let mut bystander = Command::new("/bin/sleep")
        .arg("600")
        .spawn()
        .expect("a process");
    let found = Stack::find(dir.path())
        .expect("a readable state")
        .expect("a stack");
    assert_eq!(found.down().expect("it ends").len(), 2);
    assert!(found.status().servers.iter().all(|server| !server.running));
    assert!(bystander.try_wait().expect("a status").is_none());
    bystander.kill().expect("it ends");
    bystander.wait().expect("it ended");

    let restarted = Stack::up(&options).expect("it starts again on its data");
    assert_eq!(
        restarted.addresses().kafka_cluster_id,
        first.addresses().kafka_cluster_id
    );
    let other = StackOptions {
        kafka_nodes: 3,
        ..options.clone()
    };
    let refusal = Stack::up(&other).expect_err("another shape").to_string();
    assert!(refusal.contains("has 1 Kafka nodes, not 3"), "{refusal}");
    assert_eq!(restarted.purge().expect("it ends").len(), 2);
    assert!(Stack::find(dir.path()).expect("no state").is_none());
}
