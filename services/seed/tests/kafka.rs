//! Seeding against a real broker: what is in the log afterwards, byte by byte.

mod log;

use std::env;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use refold_local::testing;
use refold_proto::WireFormat;
use refold_seed::oracle::Oracle;
use refold_seed::{
    Cause, Layout, SeedError, SeedParams, TailOptions, Target, end_offsets, key_of, seed,
    stored_params, tail,
};

use log::{Watch, assert_same, generated, options, params, read_back};

fn target(name: &str) -> Target {
    Target::new(&testing::stack().kafka, testing::unique_topic(name))
}

#[test]
fn the_log_holds_the_stream_in_both_forms_and_under_every_codec() {
    let cases = [
        (WireFormat::Proto, "lz4"),
        (WireFormat::Json, "zstd"),
        (WireFormat::Proto, "none"),
        (WireFormat::Json, "gzip"),
        (WireFormat::Proto, "snappy"),
        (WireFormat::Proto, "lz4:9"),
        (WireFormat::Proto, "zstd:6"),
    ];
    std::thread::scope(|scope| {
        for (format, codec) in cases {
            scope.spawn(move || seed_and_read_back(format, codec));
        }
    });
}

fn seed_and_read_back(format: WireFormat, codec: &str) {
    let target = target("seed-forms");
    let params = SeedParams {
        format,
        ..params(6_000, 700)
    };
    let mut options = options(&target, &params);
    options.codec = codec.parse().expect("known");
    let report = seed(&options).expect("seeded");
    assert!(report.created && report.complete);
    assert_eq!(report.written, 6_000);
    let ends = Layout::new(&params).expect("a log").end_offsets();
    assert_eq!(report.ended_at, ends);
    assert_same(&read_back(&target), &generated(&params, &ends));
    assert_eq!(stored_params(&target).expect("readable"), Some(params));
}

/// The process that the next test kills: this very test binary, told by its
/// environment what to seed. Without that it has nothing to do.
#[test]
fn a_process_that_seeds_when_its_environment_tells_it_to() {
    let (Ok(brokers), Ok(topic)) = (env::var("SEED_BROKERS"), env::var("SEED_TOPIC")) else {
        return;
    };
    let mut options = options(&Target::new(brokers, topic), &killed_params());
    options.rate = 30_000;
    seed(&options).expect("seeded");
}

fn killed_params() -> SeedParams {
    params(120_000, 9_000)
}

fn start_process(target: &Target) -> Child {
    Command::new(env::current_exe().expect("this binary"))
        .args([
            "--exact",
            "a_process_that_seeds_when_its_environment_tells_it_to",
        ])
        .env("SEED_BROKERS", &target.brokers)
        .env("SEED_TOPIC", &target.topic)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started")
}

fn written(target: &Target) -> u64 {
    Watch::new(target).written()
}

#[test]
fn a_seed_that_was_killed_is_continued_to_the_log_of_an_uninterrupted_one() {
    let params = killed_params();
    let killed = target("seed-killed");
    let watch = Watch::new(&killed);
    for share in [1, 2, 3] {
        let mut process = start_process(&killed);
        while watch.written() < params.events * share / 10 {
            let ended = process.try_wait().expect("a child");
            assert!(ended.is_none(), "the process ended by itself: {ended:?}");
        }
        // SIGKILL: no handler, no flush.
        process.kill().expect("killed");
        process.wait().expect("reaped");
    }
    let before = watch.written();
    assert!(before < params.events, "killed in the middle, at {before}");
    let report = seed(&options(&killed, &params)).expect("continued");
    assert!(!report.created && report.complete);
    assert!(report.started_at.iter().sum::<u64>() >= before);

    let whole = target("seed-whole");
    let report = seed(&options(&whole, &params)).expect("seeded");
    let log = read_back(&killed);
    assert_same(&log, &read_back(&whole));
    assert_same(&log, &generated(&params, &report.ended_at));

    // Once more: nothing is missing, so nothing is written.
    let report = seed(&options(&killed, &params)).expect("complete");
    assert_eq!((report.written, report.complete), (0, true));
}

#[test]
fn a_seed_that_is_told_to_stop_delivers_what_it_queued() {
    let target = target("seed-stopped");
    let params = params(200_000, 2_000);
    let mut options = options(&target, &params);
    options.rate = 20_000;
    let stop = Arc::clone(&options.stop);
    let watcher = {
        let target = target.clone();
        std::thread::spawn(move || {
            let watch = Watch::new(&target);
            while watch.written() < 5_000 {}
            stop.store(true, Ordering::Relaxed);
        })
    };
    let report = seed(&options).expect("stopped");
    watcher.join().expect("no panic");
    assert!(!report.complete);
    assert_eq!(end_offsets(&target).expect("exists"), report.ended_at);
    assert_same(&read_back(&target), &generated(&params, &report.ended_at));
}

#[test]
fn a_tail_goes_on_with_the_stream_and_tells_what_it_wrote() {
    let target = target("seed-tail");
    let params = params(10_000, 1_000);
    let seeded = seed(&options(&target, &params)).expect("seeded");
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&told);
    let mut tail_options = TailOptions::new(target.clone(), 4_000);
    tail_options.duration = Some(Duration::from_millis(1_500));
    tail_options.on_acked = Some(Arc::new(move |acked| {
        sink.lock().expect("no panic").push(acked);
    }));
    let first = tail(&tail_options).expect("continued");
    assert_eq!(first.started_at, seeded.ended_at);
    let rate = first.written as f64 / first.elapsed.as_secs_f64();
    assert!((2_000.0..4_400.0).contains(&rate), "{rate} events/s");

    // A second tail begins where the first one ended.
    let second = tail(&tail_options).expect("continued");
    assert_eq!(second.started_at, first.ended_at);
    let log = read_back(&target);
    assert_same(&log, &generated(&params, &second.ended_at));
    let told = told.lock().expect("no panic");
    assert_eq!(told.len() as u64, first.written + second.written);
    for acked in told.iter().step_by(37) {
        let (key, ..) = &log[acked.partition as usize][acked.offset as usize];
        assert_eq!(*key, key_of(acked.id).into_bytes());
    }
    // The oracle knows the tail too.
    let oracle = Oracle::new(&params).expect("a log");
    let last = told.last().expect("told");
    let end = second.ended_at[last.partition as usize];
    let row = oracle.expected_at(last.id, end).expect("exists");
    assert!(row.last_offset >= last.offset);
}

#[test]
fn a_tail_runs_until_it_is_stopped() {
    let target = target("seed-tail-stopped");
    seed(&options(&target, &params(2_000, 200))).expect("seeded");
    let acked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&acked);
    let mut options = TailOptions::new(target, 2_000);
    options.on_acked = Some(Arc::new(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    }));
    let (stop, running) = (Arc::clone(&options.stop), Arc::clone(&options.running));
    let watcher = {
        let acked = Arc::clone(&acked);
        std::thread::spawn(move || {
            while acked.load(Ordering::Relaxed) < 500 {
                std::thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
        })
    };
    let report = tail(&options).expect("stopped");
    watcher.join().expect("no panic");
    assert!(running.load(Ordering::Relaxed));
    assert_eq!(report.written, acked.load(Ordering::Relaxed));
}

fn append(target: &Target, partition: i32, value: &str) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &target.brokers)
        .create()
        .expect("a producer");
    let record = BaseRecord::to(&target.topic).partition(partition);
    assert!(producer.send(record.key("1").payload(value)).is_ok());
    producer.flush(Duration::from_secs(10)).expect("delivered");
}

#[test]
fn a_topic_that_holds_something_else_is_refused_and_left_alone() {
    let target = target("seed-refused");
    let params = params(3_000, 300);
    let refused = |params: &SeedParams| seed(&options(&target, params)).expect_err("refused");
    let report = seed(&options(&target, &params)).expect("seeded");

    let mut other = params.clone();
    other.partitions = 8;
    let error = refused(&other);
    assert!(
        error.to_string().contains("has 4 partitions, not 8"),
        "{error}"
    );
    other = params.clone();
    other.seed = 7;
    let error = refused(&other);
    assert!(matches!(error, SeedError::OtherParams { .. }), "{error}");
    assert_eq!(error.cause(), Cause::Refused);

    append(&target, 2, "not an event");
    match refused(&params) {
        SeedError::OtherLog {
            partition, offset, ..
        } => assert_eq!((partition, offset), (2, report.ended_at[2])),
        error => panic!("{error}"),
    }
    let mut options = TailOptions::new(target.clone(), 100);
    options.stop = Arc::new(AtomicBool::new(true));
    assert!(matches!(tail(&options), Err(SeedError::OtherLog { .. })));
    assert_eq!(written(&target), 3_001);
}

#[test]
fn a_second_writer_is_noticed_at_its_first_record() {
    let target = target("seed-second");
    let params = params(40_000, 2_000);
    let mut options = options(&target, &params);
    options.rate = 20_000;
    options.threads = 1;
    let intruder = {
        let target = target.clone();
        std::thread::spawn(move || {
            let watch = Watch::new(&target);
            while watch.written() < 4_000 {}
            for partition in 0..4 {
                append(&target, partition, "from somebody else");
            }
        })
    };
    let error = seed(&options).expect_err("displaced");
    intruder.join().expect("no panic");
    match error {
        SeedError::Displaced {
            found, expected, ..
        } => assert_eq!(found, expected as i64 + 1),
        error => panic!("{error}"),
    }
}

#[test]
fn a_log_without_stored_parameters_needs_them_as_flags() {
    let missing = target("seed-missing");
    assert!(matches!(end_offsets(&missing), Err(SeedError::NoTopic(_))));
    assert_eq!(stored_params(&missing).expect("readable"), None);
    let error = tail(&TailOptions::new(missing.clone(), 10)).expect_err("no parameters");
    assert!(matches!(error, SeedError::NoParams(_)), "{error}");
    let mut options = TailOptions::new(missing, 10);
    options.params = Some(params(100, 10));
    assert!(matches!(tail(&options), Err(SeedError::NoTopic(_))));
}

#[test]
fn a_broker_that_is_not_there_is_named_within_ten_seconds() {
    // Bound and closed again: nothing listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port();
    let nowhere = Target::new(format!("127.0.0.1:{port}"), "any");
    let started = Instant::now();
    let error = seed(&options(&nowhere, &params(100, 10))).expect_err("unreachable");
    assert_eq!(error.cause(), Cause::Unreachable, "{error}");
    assert!(error.to_string().contains(&nowhere.brokers), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
}
