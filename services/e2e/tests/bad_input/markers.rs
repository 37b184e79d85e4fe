//! A topic on which nothing moves, and which ends with what nobody may read.

use refold_e2e::Exit;
use refold_e2e::Mode;
use refold_e2e::Process;
use refold_e2e::Topic;
use refold_e2e::World;
use refold_local::testing;

use super::BOUND;
use super::SMALL;
use super::garbage::next_events;
use super::garbage::parameters;

/// Writes to every partition what is aborted at once.
fn abort_in_all(topic: &Topic) {
    let params = parameters();
    let partitions = 0..SMALL.partitions;
    let records = partitions.flat_map(|p| next_events(&params, p, 5));
    topic.write_aborted(&records.collect::<Vec<_>>());
}

fn ends(topic: &Topic) -> Vec<i64> {
    let partitions = 0..SMALL.partitions as i32;
    partitions.map(|p| topic.end(p)).collect()
}

/// Waits until the marks of both versions are behind the last record of each partition. A mark is
/// one past a record: what nobody may read moves none.
fn wait_for(world: &World, ends: &[i64]) {
    for version in ["accounts_v3", "accounts_v4"] {
        let marks = || world.marks(version).into_iter().map(|mark| mark.next);
        let there = testing::wait_until(BOUND, || marks().eq(ends.iter().copied()));
        let marks: Vec<_> = marks().collect();
        assert!(
            there,
            "{version} stands at {marks:?}, the records end at {ends:?}"
        );
    }
}

/// Waits until a projector knows where the log ends, and tells that nothing is left up to there.
fn wait_for_no_lag(process: &Process, ends: &[i64]) {
    let value = |metric: &str, partition: usize| {
        let partition = partition.to_string();
        let metrics = process.metrics()?;
        let name = format!("refold_partition_{metric}");
        metrics.value(&name, &[("partition", &partition)])
    };
    for (partition, end) in ends.iter().enumerate() {
        let told = || ["log_end_offset", "lag_events"].map(|metric| value(metric, partition));
        let wanted = [Some(*end as f64), Some(0.0)];
        let there = testing::wait_until(BOUND, || told() == wanted);
        assert!(there, "p{partition} ends at {end}; told {:?}", told());
    }
}

#[test]
fn an_idle_topic_that_ends_with_markers_is_built_from_proven_on_and_promoted() {
    let world = World::seeded("markers", SMALL);
    let topic = Topic::on(world.brokers(), world.topic());
    let records = ends(&topic);
    let v3 = world.start(Mode::Live, "accounts_v3", "active");
    // One version meets them at the moving end, the other one in its history.
    abort_in_all(&topic);
    // Five records and a marker. The coordinator answers before the partitions' leaders have
    // written theirs, and an end that only committed records make is not behind them before that.
    let behind: Vec<_> = records.iter().map(|end| end + 6).collect();
    let written = testing::wait_until(BOUND, || ends(&topic) == behind);
    assert!(written, "markers up to {behind:?}, seen {:?}", ends(&topic));
    let v4 = world.start(Mode::Replay, "accounts_v4", "ready");
    wait_for(&world, &records);
    wait_for_no_lag(&v3, &behind);
    wait_for_no_lag(&v4, &behind);

    let compared = world.verify("accounts_v4", "accounts_v3");
    assert_eq!(compared["differences"], 0, "{compared}");
    let api = world.api("accounts");
    let flags = ["cutover".to_owned(), "-version=accounts_v4".to_owned()];
    let answer = world.refold(flags.into_iter().chain([format!("-api={}", api.url())]));
    assert_eq!(answer.exit, Exit::Code(0), "{answer:?}");
    assert_eq!(world.state("accounts_v4").as_deref(), Some("active"));
    for version in ["accounts_v3", "accounts_v4"] {
        world.assert_equals_oracle(version);
    }
}
