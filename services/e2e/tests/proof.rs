//! The proof in front of a promotion, and the promotion.

#[path = "proof/lost.rs"]
mod lost;

use std::time::Duration;

use refold_e2e::Answer;
use refold_e2e::Api;
use refold_e2e::Exit;
use refold_e2e::Launch;
use refold_e2e::Mode;
use refold_e2e::Process;
use refold_e2e::Stream;
use refold_e2e::World;
use refold_e2e::http::Reply;
use serde_json::Value;
use serde_json::json;

const STREAM: Stream = Stream {
    events: 60_000,
    aggregates: 6_000,
    partitions: 4,
    seed: 42,
    format: "proto",
};
const BOUND: Duration = Duration::from_secs(60);
/// No tail of these tests is needed for longer; it is stopped before.
const TAIL: Duration = Duration::from_secs(300);

/// Rows of `left` that `right` does not have, on these columns.
fn only_in(world: &World, left: &str, right: &str, columns: &str) -> Vec<Vec<String>> {
    world.sql(&format!(
        "select {columns} from {left} except select {columns} from {right} limit 5"
    ))
}

#[test]
fn two_pairs_of_versions_are_proven_equal_while_the_tail_moves() {
    let world = World::seeded("pairs", STREAM);
    let v3 = world.start(Mode::Live, "accounts_v3", "active");
    let tail = world.tail(2_000, TAIL).start();
    let others =
        ["accounts_v103", "accounts_v4"].map(|version| world.start(Mode::Replay, version, "ready"));
    let history = STREAM.events as i64;
    let moves = || world.applied("accounts_v3") > history;
    world.wait("the tail moves", BOUND, moves);

    let before = world.applied("accounts_v3");
    let same_fold = world.verify("accounts_v103", "accounts_v3");
    let next = world.verify("accounts_v4", "accounts_v3");
    assert_eq!(same_fold["differences"], 0, "{same_fold}");
    assert_eq!(same_fold["intended_differences"], 0, "{same_fold}");
    assert_eq!(same_fold["rows_compared"], STREAM.aggregates, "{same_fold}");
    let columns = json!(["balance", "status", "applied_seq"]);
    assert_eq!(same_fold["columns"], columns);
    assert_eq!(next["differences"], 0, "{next}");
    assert_eq!(next["columns"], json!(["status", "applied_seq"]));
    let (differ, expected) = (
        &next["intended_differences"],
        &next["intended_differences_expected"],
    );
    assert_eq!(differ, expected, "{next}");
    assert!(differ.as_u64().is_some_and(|keys| keys > 0), "{next}");
    // The log's word on them is about the rows that the scan saw, whatever was written since.
    assert_eq!(same_fold["log"], Value::Null);
    assert_eq!(&next["log"]["asked"], differ, "{next}");
    for version in next["log"]["versions"].as_array().expect("both versions") {
        assert_eq!(&version["confirmed"], differ, "{next}");
        assert_eq!(version["contradicted"], 0, "{next}");
    }
    for report in [&same_fold, &next] {
        let at = report["offsets"].as_object().expect("offsets");
        assert_eq!(at.len(), STREAM.partitions as usize);
    }
    let tail_moved = || world.applied("accounts_v3") > before;
    world.wait("the tail moved meanwhile", BOUND, tail_moved);

    proven_again_and_again(&world);
    end_at_one_offset(&world, tail, v3, others);
    by_hand(&world);
}

/// The whole log is read for the first comparison, and for the others what has come since.
fn proven_again_and_again(world: &World) {
    let flags = ["--json", "--every=500ms", "--version=accounts_v4"];
    let more = [world.stream_flags(), world.log_flags(), world.store_flags()].concat();
    let verify = Launch::new(["verify", "--against=accounts_v3"]);
    let mut verify = verify.args(flags).args(more).start();
    world.wait("three comparisons", BOUND, || {
        verify.stdout().all().len() >= 3
    });
    verify.terminate();
    assert_eq!(verify.exit(BOUND), Exit::Code(0), "{verify:?}");
    let told = verify.stdout().all();
    let reports: Vec<Value> = told
        .iter()
        .map(|line| serde_json::from_str(line).expect("a report a line"))
        .collect();
    for report in &reports {
        assert_eq!(report["differences"], 0, "{report}");
        let keys = report["log"]["asked"].as_u64();
        assert!(keys.is_some_and(|keys| keys > 0), "{report}");
        for version in report["log"]["versions"].as_array().expect("both versions") {
            assert_eq!(version["contradicted"], 0, "{report}");
        }
    }
    let read = |report: &Value| report["log"]["records"].as_u64().expect("records");
    assert!(read(&reports[0]) >= STREAM.events, "{told:?}");
    assert!(read(&reports[1]) < STREAM.events / 2, "{told:?}");
}

/// Ends the tail, waits until all versions have all of it, and ends them.
fn end_at_one_offset(world: &World, mut tail: Process, mut v3: Process, others: [Process; 2]) {
    tail.drain(BOUND);
    let versions = ["accounts_v3", "accounts_v103", "accounts_v4"];
    let mut last = -1;
    world.wait("all have the whole log", BOUND, || {
        let applied = versions.map(|version| world.applied(version));
        // Twice the same: what the tail wrote last is in as well.
        let still = applied == [last; 3];
        last = applied[0];
        still
    });
    v3.drain(BOUND);
    for mut other in others {
        other.drain(BOUND);
    }
}

/// The same once more with nothing of Refold but its views.
fn by_hand(world: &World) {
    let all = "aggregate_id, balance, status, applied_seq, applied_offset, partition";
    for (left, right) in [
        ("accounts_v3", "accounts_v103"),
        ("accounts_v103", "accounts_v3"),
    ] {
        assert_eq!(only_in(world, left, right, all), [[""; 0]; 0]);
    }
    let same = "aggregate_id, status, applied_seq, applied_offset, partition";
    assert_eq!(
        only_in(world, "accounts_v3", "accounts_v4", same),
        [[""; 0]; 0]
    );
    assert_eq!(
        only_in(world, "accounts_v4", "accounts_v3", same),
        [[""; 0]; 0]
    );
    let differ: u64 = world
        .cell(
            "select count(*) from accounts_v3 a join accounts_v4 b using (aggregate_id)
             where a.balance is distinct from b.balance",
        )
        .parse()
        .expect("a number");
    let report = world.verify("accounts_v4", "accounts_v3");
    assert_eq!(report["intended_differences_expected"], differ, "{report}");
    assert!(differ > 0, "{report}");
    for version in ["accounts_v3", "accounts_v103", "accounts_v4"] {
        world.assert_equals_oracle(version);
    }
}

fn cutover(world: &World, api: &Api, version: &str, more: &[&str]) -> Answer {
    let flags = [
        "cutover".to_owned(),
        format!("-version={version}"),
        format!("-api={}", api.url()),
    ];
    let more = more.iter().map(|flag| (*flag).to_owned());
    world.refold(flags.into_iter().chain(more))
}

fn state_of<'a>(projections: &'a Value, version: &str) -> &'a Value {
    let all = projections["projections"].as_array().expect("versions");
    let found = all.iter().find(|row| row["version"] == version);
    &found.expect("the version")["state"]
}

#[test]
fn a_version_is_promoted_and_rolled_back_through_cli_and_http() {
    let world = World::seeded("promote", STREAM);
    let mut v3 = world.start(Mode::Live, "accounts_v3", "active");
    let mut tail = world.tail(1_000, TAIL).start();
    let api = world.api("accounts");
    let before = api.get("/aggregate/1");
    assert_eq!(before.header("projection-version"), Some("accounts_v3"));
    let unknown = api.cutover("accounts_v4");
    assert_eq!(unknown.status, 404, "{unknown:?}");
    unknown.problem("version_not_found");

    let mut v4 = world.start(Mode::Replay, "accounts_v4", "ready");
    a_switch_without_a_scan_is_refused(&api);
    let scanned = verify(&world, "accounts_v4", "accounts_v3");
    assert_eq!(scanned.exit, Exit::Code(0), "{scanned:?}");
    promotion_is_refused_or_only_tried(&world, &api);
    let switched = promoted(&world, &api, &before);
    the_views_say_the_same(&world, &switched);

    // The way back: the same gated switch, by the command.
    let back = cutover(&world, &api, "accounts_v3", &["-json"]);
    assert_eq!(back.exit, Exit::Code(0), "{back:?}");
    assert_eq!(back.json()["generation"], 3);
    let again = cutover(&world, &api, "accounts_v3", &[]);
    assert_eq!(again.exit, Exit::Code(0), "{again:?}");
    assert!(again.stdout.contains("is active already"), "{again:?}");
    let read = api.get("/aggregate/1").json();
    assert_eq!(read["projection_version"], "accounts_v3");
    assert_eq!(read["generation"], 3);
    let serves = retire(&world, "accounts_v3", &["-confirm=accounts_v3"]);
    assert_eq!(serves.exit, Exit::Code(3), "{serves:?}");
    for process in [&mut tail, &mut v4, &mut v3] {
        process.drain(BOUND);
    }
    for version in ["accounts_v3", "accounts_v4"] {
        world.assert_equals_oracle(version);
        assert_eq!(ask_the_log(&world, version).exit, Exit::Code(0));
    }
    a_version_ends_by_its_name(&world, &api);
}

fn retire(world: &World, version: &str, more: &[&str]) -> Answer {
    let flags = ["retire".to_owned(), format!("-version={version}")];
    let more = more.iter().map(|flag| (*flag).to_owned());
    world.refold(flags.into_iter().chain(more).chain(world.store_flags()))
}

fn a_version_ends_by_its_name(world: &World, api: &Api) {
    for more in [&[][..], &["-confirm=accounts_v3"]] {
        let unconfirmed = retire(world, "accounts_v4", more);
        assert_eq!(unconfirmed.exit, Exit::Code(3), "{unconfirmed:?}");
        assert!(unconfirmed.stderr.contains("-confirm accounts_v4"));
        assert_eq!(world.state("accounts_v4").as_deref(), Some("previous"));
    }
    let ended = retire(world, "accounts_v4", &["-confirm=accounts_v4", "-grace=0s"]);
    assert_eq!(ended.exit, Exit::Code(0), "{ended:?}");
    assert_eq!(world.state("accounts_v4").as_deref(), Some("dropped"));
    let read = api.get("/aggregate/1").json();
    assert_eq!(read["projection_version"], "accounts_v3");
    assert_eq!(api.cutover("accounts_v4").status, 409);
}

/// Every key, folded again from the log.
fn ask_the_log(world: &World, version: &str) -> Answer {
    let launch = [
        "verify".to_owned(),
        "--json".to_owned(),
        "-one-of=1".to_owned(),
    ]
    .into_iter();
    let names = [format!("-version={version}"), "-against=log".to_owned()];
    let flags = [world.log_flags(), world.store_flags()].concat();
    world.refold(launch.chain(names).chain(flags))
}

fn a_switch_without_a_scan_is_refused(api: &Api) {
    let refused = api.cutover("accounts_v4");
    assert_eq!(refused.status, 409, "{refused:?}");
    let problem = refused.problem("gate_refused");
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains("gate verified"), "{problem}");
    assert!(detail.contains("refold verify"), "{problem}");
    // Somebody may answer for it: by name, with a reason, for one gate that may be forced.
    let force = |gate: &str, reason: &str| {
        let force = json!({ "gate": gate, "reason": reason });
        let body = json!({ "version": "accounts_v4", "dry_run": true, "force": force });
        api.post("/cutover", &[], &body)
    };
    for (gate, reason) in [
        ("caught-up", "never"),
        ("nonsense", "never"),
        ("verified", " "),
    ] {
        let unreadable = force(gate, reason);
        assert_eq!(unreadable.status, 400, "{unreadable:?}");
    }
    assert_eq!(force("lag", "the wrong one").status, 409);
    let tried = force("verified", "a test");
    assert_eq!(tried.status, 200, "{tried:?}");
    let gates = tried.json()["gates"].clone();
    let gates = gates.as_array().expect("gates");
    let shut: Vec<_> = gates.iter().filter(|gate| gate["ok"] == false).collect();
    assert_eq!(shut.len(), 1, "{gates:?}");
    assert_eq!(shut[0]["forced"], "a test");
}

fn promotion_is_refused_or_only_tried(world: &World, api: &Api) {
    let stale = json!({ "version": "accounts_v4" });
    let stale = api.post("/cutover", &[("If-Match", "\"gen-7\"")], &stale);
    assert_eq!(stale.status, 412, "{stale:?}");
    let detail = stale.problem("generation_changed")["detail"].to_string();
    assert!(detail.contains("generation 1"), "{detail}");
    let by_command = cutover(world, api, "accounts_v4", &["-if-generation=7"]);
    assert_eq!(by_command.exit, Exit::Code(3), "{by_command:?}");

    let dry = json!({ "version": "accounts_v4", "dry_run": true });
    let dry = api.post("/cutover", &[], &dry);
    assert_eq!(dry.status, 200, "{dry:?}");
    assert_eq!(dry.json()["changed"], false);
    let gates = dry.json()["gates"].clone();
    let gates = gates.as_array().expect("gates");
    assert!(!gates.is_empty() && gates.iter().all(|gate| gate["ok"] == true));
    let by_command = cutover(world, api, "accounts_v4", &["-n"]);
    assert_eq!(by_command.exit, Exit::Code(2), "{by_command:?}");

    let projections = api.get("/projections");
    assert_eq!(projections.header("etag"), Some("\"gen-1\""));
    let projections = projections.json();
    assert_eq!(state_of(&projections, "accounts_v3"), "active");
    assert_eq!(state_of(&projections, "accounts_v4"), "ready");
}

/// Promotes over HTTP, twice, and returns the first answer.
fn promoted(world: &World, api: &Api, before: &Reply) -> Value {
    let body = json!({ "version": "accounts_v4" });
    let headers = [("If-Match", "\"gen-1\""), ("Refold-Actor", "a test")];
    let first = api.post("/cutover", &headers, &body);
    assert_eq!(first.status, 200, "{first:?}");
    let first = first.json();
    let second = api.cutover("accounts_v4");
    assert_eq!(second.status, 200, "{second:?}");
    let second = second.json();
    assert_eq!(
        (&first["changed"], &second["changed"]),
        (&json!(true), &json!(false))
    );
    for field in [
        "cutover_id",
        "from",
        "to",
        "generation",
        "switched_at",
        "offsets",
        "offset_sum",
        "durability",
    ] {
        assert_eq!(first[field], second[field], "{field}: {first} {second}");
    }
    assert_eq!(first["from"], "accounts_v3");
    assert_eq!(first["durability"], "local");
    assert_eq!(first["generation"], 2);
    let offsets = first["offsets"].as_object().expect("offsets");
    assert_eq!(offsets.len(), STREAM.partitions as usize);
    let sum: i64 = offsets.values().filter_map(Value::as_i64).sum();
    assert_eq!(first["offset_sum"], sum);
    assert!(sum >= STREAM.events as i64);

    let after = api.get("/aggregate/1");
    assert_eq!(after.header("projection-version"), Some("accounts_v4"));
    let (before, after) = (before.json(), after.json());
    assert_eq!(
        (&before["generation"], &after["generation"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(before["largest_deposit"], Value::Null);
    assert!(after["largest_deposit"].is_i64(), "{after}");
    assert_eq!(before["partition"], after["partition"]);
    let missing = api.get("/aggregate/999999999");
    assert_eq!(missing.status, 404);
    missing.problem("aggregate_not_found");
    let actor = world.cell("select actor from refold.promotions where generation = 2");
    assert_eq!(actor, "a test");
    first
}

fn the_views_say_the_same(world: &World, switched: &Value) {
    let states = "select version, state, generation from projections order by version";
    let expected = [
        ["accounts_v3", "previous", "null"],
        ["accounts_v4", "active", "2"],
    ];
    assert_eq!(world.sql(states), expected);
    for (partition, offset) in switched["offsets"].as_object().expect("offsets") {
        let passed = world.cell(&format!(
            "select applied_offset + 1 >= {offset} from projection_offsets
             where version = 'accounts_v4' and partition = {partition}"
        ));
        assert_eq!(passed, "t", "p{partition}");
    }
    let row = world.sql(
        "select projection_offsets.applied_offset >= a.applied_offset, a.applied_seq > 0
         from accounts_v4 a join projection_offsets using (partition)
         where a.aggregate_id = 1 and projection_offsets.version = 'accounts_v4'",
    );
    assert_eq!(row, [["t", "t"]]);
}

fn verify(world: &World, version: &str, against: &str) -> Answer {
    let launch = ["verify".to_owned(), "--json".to_owned()].into_iter();
    let names = [format!("-version={version}"), format!("-against={against}")];
    let flags = [world.stream_flags(), world.log_flags(), world.store_flags()].concat();
    world.refold(launch.chain(names).chain(flags))
}

fn assert_finds(answer: &Answer, key: &str) {
    assert_eq!(answer.exit, Exit::Code(2), "{answer:?}");
    let report = answer.json();
    // The row itself, and its column that does not add up to the sums of its mark.
    assert_eq!(report["differences"], 2, "{report}");
    let samples = report["samples"].as_array().expect("samples");
    let names = |sample: &Value| sample.as_str().is_some_and(|text| text.contains(key));
    assert!(samples.iter().any(names), "{report}");
}

#[test]
fn what_is_changed_behind_the_projectors_is_found_and_holds_the_promotion_back() {
    let world = World::seeded("planted", STREAM);
    world
        .start(Mode::Live, "accounts_v3", "active")
        .drain(BOUND);
    for version in ["accounts_v4", "accounts_v103"] {
        world.replay(version);
        assert_eq!(world.state(version).as_deref(), Some("ready"));
    }
    a_changed_row_is_named(&world);

    // A sum that the rows do not have: the promotion compares sums, and refuses.
    let api = world.api("accounts");
    let id = world.version_id("accounts_v4");
    let plant = |twist: &str| {
        world.sql(&format!(
            "update refold.offsets set sums = set_byte(sums, octet_length(sums) - 3, \
             get_byte(sums, octet_length(sums) - 3) # {twist}) \
             where version = {id} and partition = 2"
        ));
    };
    plant("1");
    let refused = api.cutover("accounts_v4");
    assert_eq!(refused.status, 409, "{refused:?}");
    let problem = refused.problem("gate_refused");
    let gates = problem["gates"].as_array().expect("gates");
    let verified = gates.iter().find(|gate| gate["gate"] == "verified");
    let verified = verified.expect("the gate is judged");
    assert_eq!(verified["ok"], false, "{problem}");
    assert!(verified.to_string().contains("p2"), "{problem}");
    let by_command = cutover(&world, &api, "accounts_v4", &[]);
    assert_eq!(by_command.exit, Exit::Code(3), "{by_command:?}");
    assert!(
        by_command.stderr.contains("gate verified"),
        "{by_command:?}"
    );
    assert_eq!(world.state("accounts_v3").as_deref(), Some("active"));

    plant("1");
    let promoted = cutover(&world, &api, "accounts_v4", &[]);
    assert_eq!(promoted.exit, Exit::Code(0), "{promoted:?}");
}

fn a_changed_row_is_named(world: &World) {
    let row = "select aggregate_id, partition, status from accounts_v103 where partition = 1
        order by aggregate_id limit 1 offset 7";
    let row = world.sql(row).remove(0);
    let (key, status) = (&row[0], &row[2]);
    for version in ["accounts_v103", "accounts_v4"] {
        let id = world.version_id(version);
        let set = |status: &str| {
            let leaf = format!("rm.v{id}_p{}", row[1]);
            world.sql(&format!(
                "update {leaf} set status = '{status}' where key = {key}"
            ));
        };
        set("lost");
        assert_finds(&verify(world, version, "accounts_v3"), key);
        // Against the log it is found twice: as a row, and as sums that are not the rows'.
        let against_log = verify(world, version, "expected");
        assert_eq!(against_log.exit, Exit::Code(2), "{against_log:?}");
        let samples = against_log.json()["samples"].to_string();
        assert!(samples.contains(&format!("aggregate {key}")), "{samples}");
        assert!(samples.contains("checksums"), "{samples}");
        let by_the_log = ask_the_log(world, version);
        assert_eq!(by_the_log.exit, Exit::Code(2), "{by_the_log:?}");
        let told = by_the_log.json();
        assert_eq!(told["differences"], 1, "{told}");
        let sentence =
            format!("{version} p1 key {key}: status is \"lost\", the log says \"{status}\"");
        assert_eq!(told["samples"][0], sentence, "{told}");
        set(status);
        assert_eq!(verify(world, version, "accounts_v3").exit, Exit::Code(0));
    }
}
