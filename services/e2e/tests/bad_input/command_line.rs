//! Command lines that say nothing that can be done, and servers that are not there.

use refold_e2e::Exit;
use refold_e2e::Launch;
use refold_e2e::Mode;
use refold_e2e::World;

use super::SMALL;
use super::refused;

/// Loopback, where nobody listens: port 1 needs rights that no test server has.
const NOBODY: &str = "127.0.0.1:1";

fn projector(flags: &[&str]) -> Launch {
    let servers = [
        format!("--brokers={NOBODY}"),
        format!("--postgres=postgresql://refold@{NOBODY}/refold"),
    ];
    let launch = flags.iter().copied();
    servers
        .into_iter()
        .fold(Launch::new(["projector"]), Launch::arg)
        .args(launch)
}

#[test]
fn a_wrong_command_line_is_told_apart_before_any_server_is_asked() {
    let v3 = "-version=accounts_v3";
    let cases: &[(&[&str], &str)] = &[
        (&["-mode=live", v3, "--bogus=1"], "--bogus"),
        (&["-mode=live", v3, "-bogus=1"], "--bogus"),
        (&["-mode=sideways", v3], "sideways"),
        (&[v3], "--mode"),
        (&["-mode=live"], "--version"),
        (&["-mode=live", v3, "-catch-up"], "-catch-up"),
        (&["-mode=live", v3, "-max-slot-wal=1GiB"], "-max-slot-wal"),
        (&["-mode=replay", v3, "-max-wal=much"], "--max-wal"),
        (&["-mode=live", v3, "-from-offset=-5"], "-from-offset"),
        (&["-mode=live", v3, "-from-offset=ten"], "--from-offset"),
        (&["-mode=live", v3, "-batch=0"], "-batch"),
        (&["-mode=live", v3, "-batch-age=1m"], "-batch-age"),
        (&["-mode=live", v3, "-batch=many"], "--batch"),
        (&["-mode=live", v3, "-workers=0"], "-workers"),
        (&["-mode=live", v3, "-memory=0"], "-memory"),
        (&["-mode=live", v3, "-partitions=3-1"], "--partitions"),
        (
            &["-mode=live", v3, "-metrics-listen=nowhere"],
            "--metrics-listen",
        ),
        (
            &["-mode=live", "-version=accounts_v9"],
            "accounts_v9 is not in this binary",
        ),
    ];
    for (flags, part) in cases {
        let (code, sentence) = refused(&projector(flags));
        assert_eq!(code, 64, "{flags:?}: {sentence}");
        assert!(sentence.contains(part), "{flags:?}: {sentence}");
    }
    for command in [&["rebuild"][..], &[][..], &["seed"][..]] {
        let (code, sentence) = refused(&Launch::new(command.iter().copied()));
        assert_eq!(code, 64, "{command:?}: {sentence}");
    }
}

#[test]
fn servers_that_are_not_there_are_named_and_the_exit_code_says_so() {
    let world = World::unseeded("nobody", SMALL);
    let nobody = format!("postgresql://refold@{NOBODY}/refold");
    let api = format!("http://{NOBODY}");
    let no_broker = Launch::new(["projector", "-mode=live", "-version=accounts_v3"])
        .flag("brokers", NOBODY)
        .flag("postgres", world.dsn());
    let cases = [
        (no_broker, NOBODY),
        (projector(&["-mode=replay", "-version=accounts_v4"]), NOBODY),
        (
            Launch::new(["api", "-listen=127.0.0.1:0"]).flag("postgres", &nobody),
            NOBODY,
        ),
        (Launch::new(["list"]).flag("postgres", &nobody), NOBODY),
        (
            Launch::new(["cutover", "-version=accounts_v4"]).flag("api", &api),
            NOBODY,
        ),
        (
            Launch::new(["seed", "-events=10", "-aggregates=5"]).flag("brokers", NOBODY),
            NOBODY,
        ),
    ];
    for (launch, part) in cases {
        let (code, sentence) = refused(&launch);
        assert_eq!(code, 69, "{launch:?}: {sentence}");
        assert!(sentence.contains(part), "{launch:?}: {sentence}");
    }
}

#[test]
fn a_version_that_nobody_registered_cannot_be_promoted_or_verified() {
    let world = World::seeded("unregistered", SMALL);
    world.replay("accounts_v3");
    let api = world.api("accounts");
    let mut cutover = Launch::new(["cutover", "-version=accounts_v4"]);
    cutover = cutover.flag("api", api.url());
    let (code, sentence) = refused(&cutover);
    assert_eq!(code, 1, "{sentence}");
    assert!(
        sentence.contains("accounts_v4 does not exist"),
        "{sentence}"
    );
    let flags = [
        vec!["verify".to_owned(), "-version=accounts_v4".to_owned()],
        vec!["-against=accounts_v3".to_owned()],
        world.stream_flags(),
        world.store_flags(),
    ];
    let answer = world.refold(flags.concat());
    assert_eq!(answer.exit, Exit::Code(1), "{answer:?}");
    assert!(
        answer.stderr.contains("accounts_v4 does not exist"),
        "{answer:?}"
    );
}

#[test]
fn an_offset_above_the_mark_is_refused_and_names_the_gap() {
    let world = World::seeded("above", SMALL);
    world.replay("accounts_v3");
    let before = world.marks("accounts_v3");
    let smallest = before.iter().map(|mark| mark.next).min().expect("marks");
    let launch = world.projector(Mode::Replay, "accounts_v3");
    let (code, sentence) = refused(&launch.clone().flag("from-offset", 1_000_000));
    assert_eq!(code, 3, "{sentence}");
    assert!(sentence.contains("1000000"), "{sentence}");
    assert!(
        before
            .iter()
            .any(|mark| sentence.contains(&mark.next.to_string())),
        "{sentence}"
    );
    assert_eq!(
        world.marks("accounts_v3"),
        before,
        "a refusal took something over"
    );
    // The topic ends at the mark of each partition: the smallest is no gap anywhere.
    launch
        .flag("from-offset", smallest)
        .start()
        .succeed(super::BOUND);
    world.assert_equals_oracle("accounts_v3");
}
