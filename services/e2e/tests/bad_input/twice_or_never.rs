//! A log that holds events twice, and lacks others.

use std::collections::HashMap;
use std::collections::HashSet;

use refold_e2e::Exit;
use refold_e2e::Mode;
use refold_e2e::Process;
use refold_e2e::Record;
use refold_e2e::Topic;
use refold_e2e::World;

use super::BOUND;
use super::SMALL;
use super::garbage::events_from;
use super::garbage::parameters;

/// Events of each partition before any is left out or doubled.
const EVENTS: usize = 1_500;

/// One event in so many is in the log a second time, so many records later.
const TWICE_ONE_OF: usize = 100;
const LATER: usize = 37;

/// Events that are missing from the log, and the partition that lacks them.
const MISSING: usize = 10;
const LACKS: u32 = 1;

/// A log, and what is wrong with it.
struct Uneven {
    records: Vec<Record>,
    twice: usize,
    /// The key of each missing event.
    missing: HashSet<Vec<u8>>,
}

/// The stream of every partition without the second event of ten keys, which have later ones;
/// and, where it is asked for, with one event in a hundred twice.
fn uneven(doubles: bool) -> Uneven {
    let params = parameters();
    let mut log = Uneven {
        records: Vec::new(),
        twice: 0,
        missing: HashSet::new(),
    };
    for partition in 0..SMALL.partitions {
        let all = events_from(&params, partition, 0, EVENTS);
        let mut of_key = HashMap::<&[u8], usize>::new();
        for record in &all {
            *of_key.entry(&record.key).or_default() += 1;
        }
        let mut seen = HashMap::<&[u8], usize>::new();
        let mut kept = Vec::new();
        for record in &all {
            let nth = seen.entry(&record.key).or_default();
            *nth += 1;
            let lacks = partition == LACKS && *nth == 2 && of_key[record.key.as_slice()] > 2;
            if lacks && log.missing.len() < MISSING {
                log.missing.insert(record.key.clone());
            } else {
                kept.push(record.clone());
            }
        }
        for (at, record) in kept.iter().enumerate() {
            log.records.push(record.clone());
            let earlier = at.checked_sub(LATER).filter(|at| at % TWICE_ONE_OF == 0);
            if let Some(earlier) = earlier.filter(|_| doubles) {
                log.records.push(kept[earlier].clone());
                log.twice += 1;
            }
        }
    }
    log
}

fn written(name: &str, log: &Uneven) -> World {
    let world = World::unseeded(name, SMALL);
    let topic = Topic::on(world.brokers(), world.topic());
    topic.create(SMALL.partitions as i32);
    topic.write(&log.records);
    world
}

/// Every row of a version but for the offset that it was written at, as one sum.
fn rows(world: &World, version: &str) -> String {
    let leaves = world.leaves(version).into_iter();
    let selects: Vec<_> = leaves
        .map(|leaf| format!("select t.key, to_jsonb(t) - 'off' as cells from {leaf} t"))
        .collect();
    world.cell(&format!(
        "select count(*) || ' ' || md5(string_agg(cells::text, '|' order by key)) from ({}) all_rows",
        selects.join(" union all ")
    ))
}

fn duplicates(process: &Process, version: &str) -> usize {
    let labels = [("version", version), ("reason", "duplicate")];
    let metrics = process.metrics().expect("metrics");
    metrics.sum("refold_events_skipped_total", &labels) as usize
}

/// Keys of a version's gaps, each with how many events are missing.
fn gaps(world: &World, version: &str) -> Vec<(String, i64)> {
    let id = world.version_id(version);
    let rows = world.sql(&format!(
        "select g.key, g.found - g.expected from refold.gaps g where g.version = {id} order by g.key"
    ));
    let told = |row: Vec<String>| (row[0].clone(), row[1].parse().expect("a number"));
    rows.into_iter().map(told).collect()
}

#[test]
fn doubled_events_change_nothing_and_missing_ones_are_named_and_hold_the_promotion_back() {
    let log = uneven(true);
    assert_eq!(log.missing.len(), MISSING);
    assert!(log.twice >= EVENTS * 4 / TWICE_ONE_OF - 4, "{}", log.twice);
    let world = written("uneven", &log);
    let api = world.api("accounts");
    let cutover = |version: &str, more: &[&str]| {
        let flags = ["cutover".to_owned(), format!("-version={version}")];
        let api = [format!("-api={}", api.url())];
        let more = more.iter().map(|flag| (*flag).to_owned());
        world.refold(flags.into_iter().chain(api).chain(more))
    };
    // The first version does not serve either before somebody answers for it.
    let v3 = world.start(Mode::Live, "accounts_v3", "ready");
    v3.wait_for_line("the first version is not activated", BOUND);
    let refused = cutover("accounts_v3", &[]);
    assert_eq!(refused.exit, Exit::Code(3), "{refused:?}");
    assert!(refused.stderr.contains("gaps"), "{refused:?}");
    let known = ["-force=gaps", "-reason=they were never written"];
    let forced = cutover("accounts_v3", &known);
    assert_eq!(forced.exit, Exit::Code(0), "{forced:?}");
    assert_eq!(world.state("accounts_v3").as_deref(), Some("active"));
    let v4 = world.start(Mode::Replay, "accounts_v4", "ready");
    let mut named: Vec<_> = log
        .missing
        .iter()
        .map(|key| (String::from_utf8_lossy(key).into_owned(), 1))
        .collect();
    named.sort();
    for (process, version) in [(&v3, "accounts_v3"), (&v4, "accounts_v4")] {
        assert_eq!(world.applied(version), log.records.len() as i64);
        assert_eq!(duplicates(process, version), log.twice, "{version}");
        assert_eq!(gaps(&world, version), named, "{version}");
    }
    let compared = world.verify("accounts_v4", "accounts_v3");
    assert_eq!(compared["differences"], 0, "{compared}");

    // The same log without the second copies.
    let even = written("even", &uneven(false));
    even.replay("accounts_v3");
    assert_eq!(rows(&world, "accounts_v3"), rows(&even, "accounts_v3"));

    let refused = cutover("accounts_v4", &[]);
    assert_eq!(refused.exit, Exit::Code(3), "{refused:?}");
    assert!(refused.stderr.contains("gaps"), "{refused:?}");
    assert!(refused.stderr.contains("10"), "{refused:?}");
    assert_eq!(world.state("accounts_v4").as_deref(), Some("ready"));
    let forced = cutover("accounts_v4", &known);
    assert_eq!(forced.exit, Exit::Code(0), "{forced:?}");
    assert_eq!(world.state("accounts_v4").as_deref(), Some("active"));
}
