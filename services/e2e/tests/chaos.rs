//! `refold chaos run`: faults of every kind on a stack of its own, and scenarios that are refused.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use refold_e2e::Exit;
use refold_e2e::Launch;
use refold_local::Stack;
use refold_local::testing::ScratchDir;
use refold_local::testing::wait_until;
use serde_json::Value;

/// How long the short mix may take: a machine whose cores are shared needs several times as long.
const BOUND: Duration = Duration::from_secs(600);

/// How long a refusal may take.
const REFUSED: Duration = Duration::from_secs(20);

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ops/chaos")
}

fn run(scenario: &Path, stack: &Path) -> Launch {
    let scenario = scenario.to_string_lossy();
    let launch = Launch::new(["chaos", "run", "--json"]).arg(scenario);
    launch.flag("stack-dir", stack.display())
}

#[test]
fn a_mix_of_every_kind_of_fault_costs_no_event_and_doubles_none() {
    let scratch = ScratchDir::new("refold-chaos").expect("a directory");
    let stack = scratch.path().join("stack");
    let mut chaos = run(&scenarios().join("short.toml"), &stack).start();
    let exit = chaos.exit(BOUND);
    let said = chaos.stdout().text();
    println!("{said}");
    assert_eq!(exit, Exit::Code(0), "{said}{}", chaos.stderr().text());
    let line = said.lines().last().unwrap_or_default();
    let report: Value = serde_json::from_str(line).expect("a report");
    let count = |name: &str| {
        report[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name}: {report}"))
    };
    assert_eq!(count("kinds"), 26);
    assert!(count("faults") >= 27, "{report}");
    assert!(count("faults_build") >= 1, "{report}");
    assert_eq!(count("gates_passed"), count("faults"));
    for clean in [
        "differences",
        "events_not_applied",
        "lost",
        "doubled",
        "wrong_reads",
        "marks_moved_back",
    ] {
        assert_eq!(count(clean), 0, "{clean}: {report}");
    }
    // Both versions were compared with the known state, and with each other.
    assert_eq!(count("rows_compared"), 3 * count("aggregates"));
    assert!(
        count("events_meanwhile") > 27 * count("gate_offsets"),
        "{report}"
    );
    assert!(count("reads") > count("failed_reads"), "{report}");
    assert!(
        Stack::find(&stack).expect("readable").is_none(),
        "the stack is gone"
    );
}

/// A process by what `proc_pid_stat(5)` says of it.
struct Seen {
    pid: u32,
    parent: u32,
    session: u32,
}

/// The processes of this machine.
fn processes() -> Vec<Seen> {
    let all = fs::read_dir("/proc").expect("processes").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    pids.filter_map(|pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split(' ').skip(1);
        let parent = fields.next()?.parse().ok()?;
        let session = fields.nth(1)?.parse().ok()?;
        Some(Seen {
            pid,
            parent,
            session,
        })
    })
    .collect()
}

#[test]
fn a_driver_that_is_killed_takes_everything_with_it_that_it_has_started() {
    let scratch = ScratchDir::new("refold-driver").expect("a directory");
    let stack = scratch.path().join("stack");
    let mut driver = run(&scenarios().join("short.toml"), &stack).start();
    let own = driver.pid();
    let of_driver = |name: &str| {
        let line = |seen: &Seen| fs::read(format!("/proc/{}/cmdline", seen.pid)).ok();
        let is = |line: Vec<u8>| line.split(|b| *b == 0).any(|word| word == name.as_bytes());
        let all = processes().into_iter().filter(|seen| seen.parent == own);
        all.filter(|seen| line(seen).is_some_and(is))
            .collect::<Vec<_>>()
    };
    let started = wait_until(BOUND, || {
        !of_driver("api").is_empty() && !of_driver("projector").is_empty()
    });
    assert!(started, "{}", driver.stderr().text());
    let roles: Vec<_> = [of_driver("api"), of_driver("projector")]
        .into_iter()
        .flatten()
        .collect();
    // A role leads its session as soon as it runs its first lines.
    let lead = wait_until(REFUSED, || {
        let now = processes();
        let leads = |role: &Seen| now.iter().any(|s| s.pid == role.pid && s.session == s.pid);
        roles.iter().all(leads)
    });
    assert!(lead, "each role leads a session");

    driver.kill();
    let gone = wait_until(REFUSED, || {
        let now = processes();
        let left = |role: &Seen| {
            now.iter()
                .any(|s| s.pid == role.pid && s.session == role.pid)
        };
        !roles.iter().any(left)
    });
    assert!(gone, "a process of a driver that was killed goes on");
    let down = wait_until(BOUND, || {
        let found = Stack::find(&stack).expect("readable");
        found.is_none_or(|stack| stack.status().servers.iter().all(|server| !server.running))
    });
    assert!(down, "a server of a driver that was killed goes on");
}

#[test]
fn a_scenario_that_cannot_be_run_is_refused_before_anything_is_started() {
    let scratch = ScratchDir::new("refold-chaos-refused").expect("a directory");
    let stack = scratch.path().join("stack");
    let good = fs::read_to_string(scenarios().join("short.toml")).expect("a scenario");
    for (from, to, says) in [
        (
            "kind = \"switch\"",
            "kind = \"meteorite\"",
            "kafka-blackhole",
        ),
        (
            "kind = \"switch\"",
            "kind = \"broker-kill\"\ntarget = \"new\"",
            "projector-kill",
        ),
        (
            "kind = \"switch\"",
            "kind = \"projector-kill\"\ntarget = \"accounts_v9\"",
            "`live`",
        ),
        ("partitions = 12", "partitions = 4096", "from 1 to 256"),
        ("rate = 5_000", "rate = 0", "from 100 to"),
        (
            "seed = 11",
            "seed = 11\nbroker = \"db.example:9092\"",
            "unknown field `broker`",
        ),
    ] {
        assert!(good.contains(from), "{from}");
        let path = scratch.path().join("scenario.toml");
        fs::write(&path, good.replacen(from, to, 1)).expect("written");
        let mut chaos = run(&path, &stack).start();
        let (code, sentence) = chaos.refuse(REFUSED);
        assert_eq!(code, 64, "{to}: {sentence}");
        assert!(sentence.contains(says), "{to}: {sentence}");
    }
    let mut chaos = run(&scratch.path().join("missing.toml"), &stack).start();
    let (code, sentence) = chaos.refuse(REFUSED);
    assert_eq!(code, 64, "{sentence}");
    assert!(sentence.contains("missing.toml"), "{sentence}");
    assert!(!stack.exists(), "something was started");
}

#[test]
fn a_stack_that_is_there_already_is_not_touched() {
    let scratch = ScratchDir::new("refold-chaos-others").expect("a directory");
    let state = scratch.path().join("state.json");
    let nobodys = "{\"kafka\":null,\"postgres\":null,\"prometheus\":null}";
    fs::write(&state, nobodys).expect("written");
    let mut chaos = run(&scenarios().join("short.toml"), scratch.path()).start();
    let (code, sentence) = chaos.refuse(REFUSED);
    assert_eq!(code, 64, "{sentence}");
    assert!(sentence.contains("holds a stack already"), "{sentence}");
    assert_eq!(fs::read_to_string(&state).expect("still there"), nobodys);
}
