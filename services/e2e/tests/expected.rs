//! Rows that differ as they are meant to, held against the log; and rows that are put right from it.

use std::time::Duration;

use refold_accounts::AccountsV4;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_e2e::Answer;
use refold_e2e::Api;
use refold_e2e::Exit;
use refold_e2e::Mode;
use refold_e2e::Stream;
use refold_e2e::World;
use refold_store_postgres::PgVerifier;
use refold_store_postgres::SessionOptions;
use serde_json::Value;

const STREAM: Stream = Stream {
    events: 60_000,
    aggregates: 6_000,
    partitions: 4,
    seed: 42,
    format: "proto",
};
const BOUND: Duration = Duration::from_secs(60);
const LIVE: &str = "accounts_v3";
const NEW: &str = "accounts_v4";

/// Both versions at the end of the log, and nobody who moves them.
fn at_rest(name: &str) -> World {
    let world = World::seeded(name, STREAM);
    world.start(Mode::Live, LIVE, "active").drain(BOUND);
    world.replay(NEW);
    assert_eq!(world.state(NEW).as_deref(), Some("ready"));
    world
}

fn refold(world: &World, words: &[&str]) -> Answer {
    let words = words.iter().map(|word| (*word).to_owned());
    let flags = [world.log_flags(), world.store_flags()].concat();
    world.refold(words.chain(flags))
}

/// `refold verify` of the new version against the one that serves.
fn verify(world: &World, more: &[&str]) -> Answer {
    let words = [
        "verify",
        "--json",
        "-version=accounts_v4",
        "-against=accounts_v3",
    ];
    let stream = world.stream_flags();
    let stream = stream.iter().map(String::as_str);
    let words: Vec<_> = words
        .into_iter()
        .chain(stream)
        .chain(more.iter().copied())
        .collect();
    refold(world, &words)
}

fn repair(world: &World, more: &[&str]) -> Answer {
    let words = [&["repair", "--json", "-version=accounts_v4"], more].concat();
    refold(world, &words)
}

/// The gate's sentence when the promotion is refused because of it.
fn refusal(api: &Api) -> String {
    let refused = api.cutover(NEW);
    assert_eq!(refused.status, 409, "{refused:?}");
    let problem = refused.problem("gate_refused");
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains("gate verified"), "{problem}");
    detail.to_owned()
}

/// What the log said of each version: confirmed, contradicted.
fn word_of_the_log(report: &Value) -> Vec<(u64, u64)> {
    let versions = report["log"]["versions"]
        .as_array()
        .expect("the log's word");
    let count = |v: &Value, name: &str| v[name].as_u64().expect("a count");
    let of = |v| (count(v, "confirmed"), count(v, "contradicted"));
    versions.iter().map(of).collect()
}

#[test]
fn a_promotion_wants_the_log_to_confirm_what_differs_as_expected() {
    let world = at_rest("confirmed");
    let api = world.api("accounts");
    let scanned = verify(&world, &["-no-log"]);
    assert_eq!(scanned.exit, Exit::Code(0), "{scanned:?}");
    let scanned = scanned.json();
    let expected = scanned["intended_differences"].as_u64().expect("a count");
    assert!((10..10_000).contains(&expected), "{scanned}");
    assert_eq!(scanned["log"], Value::Null);
    let tried = &scanned["rule"];
    assert!(tried["tried"].as_u64().is_some_and(|n| n > 0), "{tried}");
    assert!(
        tried["hit_rate"].as_f64().is_some_and(|rate| rate < 0.5),
        "{tried}"
    );
    let recorded =
        world.cell("select sum((found ->> 'rule_tried')::bigint) from refold.scan_partitions");
    assert_eq!(tried["tried"].to_string(), recorded);
    let detail = refusal(&api);
    for part in ["the log was not asked", "refold verify", "-brokers"] {
        assert!(detail.contains(part), "{detail}");
    }

    // Too few: as many as were asked for are confirmed, and that is not enough.
    let few = verify(&world, &["-log-rows=9"]);
    assert_eq!(few.exit, Exit::Code(0), "{few:?}");
    assert_eq!(word_of_the_log(&few.json()), [(9, 0), (9, 0)]);
    let detail = refusal(&api);
    assert!(
        detail.contains(&format!("{expected} are needed")),
        "{detail}"
    );
    assert!(detail.contains("confirmed 9 of them"), "{detail}");

    // All of them: the scan first, the log's word on it later, and nothing is scanned twice.
    let scanned = verify(&world, &["-no-log"]).json();
    let confirmed = verify(&world, &["-confirm-only"]);
    assert_eq!(confirmed.exit, Exit::Code(0), "{confirmed:?}");
    let confirmed = confirmed.json();
    assert_eq!(confirmed["scan"], scanned["scan"]);
    assert_eq!(word_of_the_log(&confirmed), [(expected, 0); 2]);
    assert_eq!(confirmed["log"]["asked"], expected);
    let records = confirmed["log"]["records"].as_u64().expect("a count");
    assert_eq!(
        records, STREAM.events,
        "each record is read once for both versions"
    );
    let promoted = api.cutover(NEW);
    assert_eq!(promoted.status, 200, "{promoted:?}");
    // The way back rests on the same scan: the old version's rows were confirmed, too.
    let back = api.cutover(LIVE);
    assert_eq!(back.status, 200, "{back:?}");
}

/// A row that differs as expected and would still do so with two cents more.
fn plausible(world: &World) -> (String, i32) {
    let row = world.sql(
        "select a.aggregate_id, a.partition from accounts_v3 a join accounts_v4 b using (aggregate_id)
         where b.balance > a.balance and b.balance + 2 - a.balance <= 2 * b.reversed_total
         order by a.aggregate_id limit 1 offset 3",
    );
    let row = row.into_iter().next().expect("such a row");
    (row[0].clone(), row[1].parse().expect("a partition"))
}

/// Writes what the rows of a partition add up to into its mark, as a projector does that
/// misreads an event: it computes rows and sums alike.
fn let_sums_follow(world: &World, partition: i32) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let recomputed = runtime.block_on(async {
        let session = SessionOptions::parse(world.dsn()).expect("an address");
        let spec = ProjectionSpec::of::<AccountsV4>();
        let verifier = PgVerifier::new(&session);
        let export = verifier.open_export(&spec, Partition(partition)).await;
        let report = export.expect("a snapshot").read(|_| ()).await;
        report.expect("an export").recomputed
    });
    let hex: String = recomputed
        .to_bytes()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let id = world.version_id(NEW);
    world.sql(&format!(
        "update refold.offsets set sums = '\\x{hex}' where version = {id} and partition = {partition}"
    ));
}

#[test]
fn a_wrong_row_that_fits_the_rule_is_named_by_the_log_and_put_right() {
    let world = at_rest("plausible");
    let api = world.api("accounts");
    let (key, partition) = plausible(&world);
    let leaf = format!("rm.v{}_p{partition}", world.version_id(NEW));
    world.sql(&format!(
        "update {leaf} set balance = balance + 2 where key = {key}"
    ));
    let_sums_follow(&world, partition);
    // Neither the sums nor the scan can know.
    let scanned = verify(&world, &["-no-log"]);
    assert_eq!(scanned.exit, Exit::Code(0), "{scanned:?}");
    assert_eq!(scanned.json()["differences"], 0);

    let asked = verify(&world, &[]);
    assert_eq!(asked.exit, Exit::Code(2), "{asked:?}");
    let report = asked.json();
    let expected = report["intended_differences"].as_u64().expect("a count");
    assert_eq!(report["differences"], 0, "{report}");
    assert_eq!(word_of_the_log(&report), [(expected, 0), (expected - 1, 1)]);
    let named = &report["log"]["versions"][1]["named"];
    assert_eq!(named.as_array().map(Vec::len), Some(1), "{named}");
    assert_eq!(named[0]["key"], key.as_str(), "{named}");
    assert_eq!(named[0]["partition"], partition, "{named}");
    let balance = |row: &Value| -> i64 {
        let text = row["balance"].as_str().expect("a balance");
        text.parse().expect("a number")
    };
    assert_eq!(balance(&named[0]["table"]) - balance(&named[0]["log"]), 2);
    let sentence = report["samples"].to_string();
    assert!(sentence.contains(&format!("key {key}")), "{sentence}");
    let detail = refusal(&api);
    assert!(detail.contains("contradicts 1"), "{detail}");

    // What the projector got wrong in rows and sums alike is put right in both.
    let dry = repair(&world, &["-from-verify", "-n"]);
    assert_eq!(dry.exit, Exit::Code(2), "{dry:?}");
    let done = repair(&world, &["-from-verify"]);
    assert_eq!(done.exit, Exit::Code(0), "{done:?}");
    let done = done.json();
    assert_eq!(done["changes"].as_array().map(Vec::len), Some(1), "{done}");
    assert_eq!(
        done["changes"][0]["changed"],
        serde_json::json!(["balance"]),
        "{done}"
    );
    assert_eq!(dry.json()["changes"], done["changes"]);
    // The scans from before say nothing of the rows that are there now.
    let detail = refusal(&api);
    assert!(detail.contains("were not scanned"), "{detail}");
    let clean = verify(&world, &[]);
    assert_eq!(clean.exit, Exit::Code(0), "{clean:?}");
    assert_eq!(word_of_the_log(&clean.json()), [(expected, 0); 2]);
    assert_eq!(api.cutover(NEW).status, 200);
    world.assert_equals_oracle(NEW);
}

/// A changed row, a row that is gone and a row too many, all behind the projector.
fn harm(world: &World) -> [String; 3] {
    let id = world.version_id(NEW);
    let keys = world.sql(
        "select aggregate_id, partition from accounts_v4 where partition = 1
         order by aggregate_id limit 2 offset 5",
    );
    let (changed, gone) = (keys[0][0].clone(), keys[1][0].clone());
    let extra = "987654321".to_owned();
    world.sql(&format!(
        "update rm.v{id}_p1 set status = 'lost' where key = {changed}"
    ));
    world.sql(&format!(
        "insert into rm.v{id}_p2 select {extra}, balance, status, largest_deposit, deposits_count,
         reversed_total, opened_at, closed_at, currency, agg_version, off, deleted
         from rm.v{id}_p1 where key = {gone}"
    ));
    world.sql(&format!("delete from rm.v{id}_p1 where key = {gone}"));
    [changed, gone, extra]
}

#[test]
fn rows_that_were_harmed_behind_the_projector_are_told_and_put_right_and_it_goes_on() {
    let world = at_rest("repair");
    let keys = harm(&world);
    let found = verify(&world, &["-no-log"]);
    assert_eq!(found.exit, Exit::Code(2), "{found:?}");
    the_differences_are_told(&world, &keys);

    // Whoever asks only is told, and nothing is changed.
    let dry = repair(&world, &["-from-verify", "-n"]);
    assert_eq!(dry.exit, Exit::Code(2), "{dry:?}");
    let (changed, key) = (&keys[0], format!("-key={}", keys[0]));
    let lost = format!("select status from accounts_v4 where aggregate_id = {changed}");
    assert_eq!(world.cell(&lost), "lost");

    // A projector that owns the partition keeps rows and sums in its memory: it comes first.
    let mut projector = world.start(Mode::Replay, NEW, "ready");
    let owned =
        "select count(*) from refold.offsets o join pg_stat_activity a on a.pid = o.owner_pid
        where o.version = (select id from refold.versions where label = 'accounts_v4')
        and a.backend_start = o.owner_backend_start";
    world.wait("it owns them all", BOUND, || world.cell(owned) == "4");
    let refused = repair(&world, &[&key]);
    assert_eq!(refused.exit, Exit::Code(3), "{refused:?}");
    assert!(refused.stderr.contains("stop it"), "{refused:?}");
    assert_eq!(world.cell(&lost), "lost");
    projector.drain(BOUND);

    let before = world.marks(NEW);
    let done = repair(&world, &["-from-verify"]);
    assert_eq!(done.exit, Exit::Code(0), "{done:?}");
    assert_eq!(
        done.json()["changes"].as_array().map(Vec::len),
        Some(3),
        "{done:?}"
    );
    let marks: Vec<_> = world.marks(NEW).iter().map(|mark| mark.next).collect();
    let were: Vec<_> = before.iter().map(|mark| mark.next).collect();
    assert_eq!(marks, were, "a repair moved a mark");
    let again = repair(&world, &[&key]);
    assert_eq!(again.exit, Exit::Code(0), "{again:?}");
    assert_eq!(again.json()["changes"], serde_json::json!([]));
    let kept = "select count(*), count(*) filter (where before is null), count(*) filter (where after is null)
        from refold.repairs";
    assert_eq!(world.sql(kept), [["3", "1", "1"]]);
    let audited = "select count(*) from refold.audit where action = 'repair'";
    assert_eq!(world.cell(audited), "2", "one entry for each partition");
    let clean = verify(&world, &[]);
    assert_eq!(clean.exit, Exit::Code(0), "{clean:?}");
    world.assert_equals_oracle(NEW);
    it_goes_on(&world);
}

/// The three keys in every form.
fn the_differences_are_told(world: &World, keys: &[String; 3]) {
    let diff = |more: &[&str]| {
        let words = [&["diff", "-version=accounts_v4"], more].concat();
        let words = words.into_iter().map(str::to_owned);
        let told = world.refold(words.chain(world.store_flags()));
        assert_eq!(told.exit, Exit::Code(2), "{told:?}");
        told.stdout
    };
    let mut sorted = keys.to_vec();
    sorted.sort();
    let mut listed: Vec<_> = diff(&["-keys"]).lines().map(str::to_owned).collect();
    listed.sort();
    assert_eq!(listed, sorted);
    let rows: Vec<Value> = diff(&["-format=json"])
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object"))
        .collect();
    let of = |key: &String| {
        rows.iter()
            .find(|row| row["key"] == key.as_str())
            .expect("the key")
    };
    let [changed, gone, extra] = keys.each_ref().map(of);
    assert_eq!(
        (&changed["kind"], &changed["new"]["status"]),
        (&"unexpected".into(), &"\"lost\"".into())
    );
    assert_ne!(changed["old"]["status"], changed["new"]["status"]);
    assert_eq!(
        (&gone["kind"], &gone["new"]),
        (&"only-old".into(), &Value::Null)
    );
    assert_eq!(
        (&extra["kind"], &extra["old"]),
        (&"only-new".into(), &Value::Null)
    );
    assert_eq!(diff(&["-format=csv"]).lines().count(), 4);
    assert_eq!(diff(&["-keys", "-limit=1"]).lines().count(), 1);
    assert!(diff(&["-fresh"]).contains("status=\"lost\""));
    assert!(diff(&["-expected", "-keys", "-limit=1000"]).lines().count() > 3);
}

/// Both projectors go on from where they were, to the end of a longer log.
fn it_goes_on(world: &World) {
    let tail = world.tail(20_000, Duration::from_secs(2));
    tail.start().succeed(BOUND);
    let mut both = [
        world.start(Mode::Live, LIVE, "active"),
        world.start(Mode::Replay, NEW, "ready"),
    ];
    let ended = || {
        let applied = world.applied(NEW);
        applied > STREAM.events as i64 && applied == world.applied(LIVE)
    };
    world.wait("both are behind the tail", BOUND, ended);
    both.iter_mut().for_each(|process| process.drain(BOUND));
    world.assert_equals_oracle(LIVE);
    world.assert_equals_oracle(NEW);
}
