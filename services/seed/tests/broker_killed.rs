//! A broker that dies while a log is written: the log is the same afterwards.

mod log;

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use refold_local::KafkaCluster;
use refold_local::testing::{ScratchDir, wait_until};
use refold_seed::{Target, seed};

use log::{Watch, assert_same, generated, options, params, read_back};

#[test]
fn a_log_is_written_once_although_its_broker_was_killed_twice() {
    let dir = ScratchDir::new("seed-broker-killed").expect("a directory");
    let mut cluster = KafkaCluster::start(dir.path(), 1).expect("a broker");
    let target = Target::new(cluster.bootstrap(), "killed");
    let params = params(400_000, 30_000);
    let mut options = options(&target, &params);
    options.rate = 100_000;
    let seeding = thread::spawn(move || seed(&options));
    for share in [1, 2] {
        let watch = Watch::new(&target);
        while watch.written() < params.events * share / 4 {
            assert!(!seeding.is_finished(), "ended before the broker did");
        }
        // SIGKILL: no shutdown, no snapshot of what it knew of producers.
        cluster.kill_node(0).expect("killed");
        // A large process takes its time to let go of its sockets, and a broker that
        // finds its port taken would choose another one.
        let free = || TcpListener::bind(cluster.bootstrap()).is_ok();
        assert!(wait_until(Duration::from_secs(60), free), "a free port");
        cluster.ensure().expect("started again");
    }
    let report = seeding.join().expect("no panic").expect("went on");
    assert!(report.complete);
    assert_eq!(report.written, params.events);
    assert_same(&read_back(&target), &generated(&params, &report.ended_at));
}
