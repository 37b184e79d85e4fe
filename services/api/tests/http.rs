//! What callers of the API see.

mod support;

use poem::http::StatusCode;
use refold_domain::batch::EventGap;
use refold_domain::position::Offset;
use refold_ports::Registry;
use refold_ports::conformance::store::fixtures::Picture;
use refold_ports::conformance::store::fixtures::WIDE_V1;
use refold_ports::conformance::store::fixtures::WIDE_V2;
use refold_ports::conformance::store::fixtures::log;
use refold_ports::conformance::store::fixtures::writer_of;
use refold_ports::registry::Durability;
use serde_json::Value;
use serde_json::json;

use support::World;
use support::body;
use support::cut_over;
use support::problem;

#[tokio::test]
async fn an_aggregate_is_answered_with_its_columns_position_and_version() {
    let world = World::with_two_versions().await;
    let response = world.client().get("/aggregate/1").send().await;
    response.assert_status_is_ok();
    response.assert_content_type("application/json; charset=utf-8");
    response.assert_header("Projection-Version", "wide_v1");
    let offset = response.0.headers().get("Applied-Offset").cloned();
    let row = body(response).await;
    assert_eq!(row["aggregate_id"], 1);
    assert_eq!(row["total"], 1_000);
    assert_eq!(row["document"]["n"], 1);
    assert_eq!(row["applied_seq"], 1);
    assert_eq!(row["applied_offset"], 1);
    assert_eq!(row["projection_version"], "wide_v1");
    assert_eq!(row["generation"], 1);
    let offset = offset.expect("the header is there");
    assert_eq!(offset, format!("{}:1", row["partition"]).as_str());
}

#[tokio::test]
async fn a_missing_aggregate_still_names_version_and_generation() {
    let world = World::with_two_versions().await;
    let response = world.client().get("/aggregate/4711").send().await;
    let found = problem(response, StatusCode::NOT_FOUND, "aggregate_not_found").await;
    assert_eq!(found["projection_version"], "wide_v1");
    assert_eq!(found["generation"], 1);
    assert_eq!(found["instance"], "/aggregate/4711");
    assert_eq!(found["retryable"], false);
}

#[tokio::test]
async fn reads_that_cannot_be_served_say_why() {
    let world = World::with_two_versions().await;
    let client = world.client();
    let bad = client.get("/aggregate/abc").send().await;
    problem(bad, StatusCode::BAD_REQUEST, "bad_key").await;
    let unknown = client
        .get("/aggregate/1")
        .query("projection", &"tall")
        .send();
    problem(unknown.await, StatusCode::NOT_FOUND, "projection_not_found").await;
    let named = client
        .get("/aggregate/1")
        .query("projection", &"wide")
        .send();
    named.await.assert_status_is_ok();
    world.store.set_reachable(false);
    let away = client.get("/aggregate/1").send().await;
    let away = problem(away, StatusCode::SERVICE_UNAVAILABLE, "store_unreachable").await;
    assert_eq!(away["retryable"], true);
    let empty = World::empty().client().get("/aggregate/1").send().await;
    problem(empty, StatusCode::SERVICE_UNAVAILABLE, "no_active_version").await;
}

#[tokio::test]
async fn what_the_server_itself_refuses_is_a_problem_too() {
    let world = World::with_two_versions().await;
    let client = world.client();
    let path = client.get("/nowhere").send().await;
    problem(path, StatusCode::NOT_FOUND, "path_not_found").await;
    let method = client.delete("/aggregate/1").send().await;
    problem(method, StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed").await;
    for text in ["{", "{}", r#"{"version":"wide_v2","force":true}"#] {
        let sent = client.post("/cutover").content_type("application/json");
        let sent = sent
            .header("Content-Length", text.len())
            .body(text)
            .send()
            .await;
        problem(sent, StatusCode::BAD_REQUEST, "bad_request").await;
    }
    let large = "x".repeat(20_000);
    let sent = client.post("/cutover").content_type("application/json");
    let sent = sent
        .header("Content-Length", large.len())
        .body(large)
        .send();
    problem(sent.await, StatusCode::PAYLOAD_TOO_LARGE, "body_too_large").await;
}

#[tokio::test]
async fn a_cutover_answers_the_vector_and_the_same_again() {
    let world = World::with_two_versions().await;
    let first = cut_over(&world, json!({"version": "wide_v2"}), Some("\"gen-1\"")).await;
    first.assert_status_is_ok();
    first.assert_header("ETag", "\"gen-2\"");
    let first = body(first).await;
    assert_eq!(first["from"], "wide_v1");
    assert_eq!(first["to"], "wide_v2");
    assert_eq!(first["generation"], 2);
    assert_eq!(first["offsets"], json!({"0": 10, "1": 10}));
    assert_eq!(first["offset_sum"], 20);
    assert_eq!(first["changed"], true);
    assert_eq!(first["durability"], "local");
    let gates = first["gates"].as_array().expect("gates are listed");
    assert!(gates.iter().all(|g| g["ok"] == true), "{first}");
    // Also with the generation of before: its answer may have been lost.
    for if_match in [None, Some("\"gen-1\"")] {
        let mut again = body(cut_over(&world, json!({"version": "wide_v2"}), if_match).await).await;
        assert_eq!(again["changed"], false);
        again["changed"] = json!(true);
        again["flip_ms"] = first["flip_ms"].clone();
        assert_eq!(again, first);
    }
    let read = body(world.client().get("/aggregate/1").send().await).await;
    assert_eq!(read["projection_version"], "wide_v2");
    assert_eq!(read["generation"], 2);
}

#[tokio::test]
async fn a_cutover_that_no_standby_confirmed_is_accepted_and_not_yet_done() {
    let mut world = World::with_two_versions().await;
    let order = || json!({"version": "wide_v2"});
    world.durability = Some(Durability::Pending);
    for changed in [true, false] {
        let pending = cut_over(&world, order(), None).await;
        pending.assert_status(StatusCode::ACCEPTED);
        pending.assert_header("ETag", "\"gen-2\"");
        let pending = body(pending).await;
        assert_eq!(pending["durability"], "pending");
        assert_eq!(pending["changed"], changed);
    }
    world.durability = Some(Durability::Replicated);
    let confirmed = cut_over(&world, order(), None).await;
    confirmed.assert_status_is_ok();
    let confirmed = body(confirmed).await;
    assert_eq!(confirmed["durability"], "replicated");
    assert_eq!(confirmed["generation"], 2);
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let world = World::with_two_versions().await;
    let body_of = json!({"version": "wide_v2", "dry_run": true});
    let seen = body(cut_over(&world, body_of, None).await).await;
    assert_eq!(
        (&seen["changed"], &seen["dry_run"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(seen["gates"].as_array().map(Vec::len), Some(6));
    assert_eq!(seen.get("durability"), None);
    let read = body(world.client().get("/aggregate/1").send().await).await;
    assert_eq!(read["projection_version"], "wide_v1");
}

#[tokio::test]
async fn a_cutover_that_is_refused_says_by_what() {
    let world = World::with_two_versions().await;
    let version = |label: &str| json!({"version": label});
    let unknown = cut_over(&world, version("wide_v9"), None).await;
    problem(unknown, StatusCode::NOT_FOUND, "version_not_found").await;
    let stale = cut_over(&world, version("wide_v2"), Some("\"gen-7\"")).await;
    problem(stale, StatusCode::PRECONDITION_FAILED, "generation_changed").await;
    let garbled = cut_over(&world, version("wide_v2"), Some("latest")).await;
    problem(garbled, StatusCode::BAD_REQUEST, "bad_request").await;
    let row = world
        .store
        .version("wide_v2")
        .await
        .expect("it is registered");
    let mut writer = writer_of(&world, &WIDE_V2, 0).await.expect("a writer");
    assert_eq!(writer.lease().version, row.id);
    let mut picture = Picture::new(&WIDE_V2);
    for key in 0..10 {
        let key_cell = refold_ports::conformance::store::fixtures::int_cell(key);
        picture.put(&key_cell, key, 1, key).expect("a row");
    }
    picture.load(0, 10).expect("the loaded rows");
    picture.gaps.push(EventGap {
        key: "1".to_owned(),
        offset: Offset(10),
        expected: 2,
        found: 3,
    });
    let batch = picture.batch(10, 10).expect("a batch");
    writer.commit(&batch).await.expect("the gap is recorded");
    let refused = cut_over(&world, version("wide_v2"), None).await;
    let refused = problem(refused, StatusCode::CONFLICT, "gate_refused").await;
    let gates = refused["gates"].as_array().expect("gates are listed");
    let refusing: Vec<_> = gates.iter().filter(|g| g["ok"] == false).collect();
    assert_eq!(refusing.len(), 1, "{refused}");
    assert_eq!(refusing[0]["gate"], "gaps");
}

#[tokio::test]
async fn the_registry_is_listed_with_its_generation() {
    let world = World::with_two_versions().await;
    let client = world.client();
    let response = client.get("/projections").send().await;
    response.assert_status_is_ok();
    response.assert_header("ETag", "\"gen-1\"");
    let listed = body(response).await;
    assert_eq!(listed["generation"], 1);
    let versions = listed["projections"]
        .as_array()
        .expect("versions are listed");
    let states: Vec<_> = versions
        .iter()
        .map(|v| (&v["version"], &v["state"]))
        .collect();
    let expected = [("wide_v1", "active"), ("wide_v2", "ready")];
    let expected = expected.map(|(v, s)| (json!(v), json!(s)));
    let expected: Vec<_> = expected.iter().map(|(v, s)| (v, s)).collect();
    assert_eq!(states, expected);
    for version in versions {
        assert_eq!(version["rows"], 20);
        assert_eq!(version["offset_sum"], 20);
        assert_eq!(version["partitions_at_tail"], 2);
        assert_eq!(version["behind_active_events"], 0);
    }
    let empty = World::empty();
    empty
        .store
        .register(&WIDE_V1, &log())
        .await
        .expect("registered");
    let listed = body(empty.client().get("/projections").send().await).await;
    assert_eq!(listed.get("generation"), None);
}

#[tokio::test]
async fn the_partitions_of_a_version_are_listed() {
    let world = World::with_two_versions().await;
    let client = world.client();
    let listed = body(client.get("/projections/wide_v2/partitions").send().await).await;
    assert_eq!(listed["version"], "wide_v2");
    let partitions = listed["partitions"]
        .as_array()
        .expect("partitions are listed");
    assert_eq!(partitions.len(), 2);
    assert_eq!(partitions[1]["partition"], 1);
    assert_eq!(partitions[1]["position"], 10);
    assert_eq!(partitions[1]["has_table"], true);
    let unknown = client.get("/projections/wide_v9/partitions").send().await;
    problem(unknown, StatusCode::NOT_FOUND, "version_not_found").await;
}

#[tokio::test]
async fn readiness_follows_the_registry_and_liveness_does_not() {
    let world = World::empty();
    let client = world.client();
    let response = client.get("/readyz").send().await;
    response.assert_status(StatusCode::SERVICE_UNAVAILABLE);
    client.get("/livez").send().await.assert_status_is_ok();
    let version = world.ready(&WIDE_V1).await;
    let active = world.store.activate_first(version, "test", None).await;
    active.expect("a ready version becomes active");
    client.get("/readyz").send().await.assert_status_is_ok();
    let verbose = client.get("/readyz").query("verbose", &"").send().await;
    let text = verbose.0.into_body().into_string().await.expect("a body");
    assert_eq!(
        text,
        "[+]registry ok\n[+]active-version wide generation 1\nready\n"
    );
    world.store.set_reachable(false);
    let response = client.get("/readyz").send().await;
    response.assert_status(StatusCode::SERVICE_UNAVAILABLE);
    client.get("/livez").send().await.assert_status_is_ok();
}

#[tokio::test]
async fn requests_are_counted_by_route_and_never_by_path() {
    let world = World::with_two_versions().await;
    let client = world.client();
    for path in [
        "/aggregate/1",
        "/aggregate/2",
        "/aggregate/4711",
        "/nowhere",
        "/projections",
        "/projections/wide_v1/partitions",
    ] {
        client.get(path).send().await;
    }
    let response = client.get("/metrics").send().await;
    response.assert_status_is_ok();
    let text = response.0.into_body().into_string().await.expect("a body");
    let count = |route: &str, status: &str| {
        let line = text.lines().find(|line| {
            line.starts_with("http_server_request_duration_seconds_count{")
                && line.contains(&format!("http_route=\"{route}\""))
                && line.contains(&format!("http_response_status_code=\"{status}\""))
        });
        line.and_then(|l| l.rsplit_once(' '))
            .map(|(_, n)| n.to_owned())
    };
    assert_eq!(count("/aggregate/:id", "200").as_deref(), Some("2"));
    assert_eq!(count("/aggregate/:id", "404").as_deref(), Some("1"));
    assert_eq!(count("/projections", "200").as_deref(), Some("1"));
    let partitions = count("/projections/:version/partitions", "200");
    assert_eq!(partitions.as_deref(), Some("1"));
    assert!(!text.contains(":param"), "a parameter without its name");
    assert_eq!(count("unmatched", "404").as_deref(), Some("1"));
    assert!(!text.contains("4711"));
    let active = "refold_version_state{projection=\"wide\",state=\"active\",version=\"wide_v1\"} 1";
    assert!(text.contains(active), "{text}");
}

#[tokio::test]
async fn the_committed_description_is_current() {
    let described = refold_api::openapi_json(World::empty().deps());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    if std::env::var_os("REFOLD_WRITE_OPENAPI").is_some() {
        std::fs::write(path, format!("{described}\n")).expect("the file can be written");
    }
    let committed = std::fs::read_to_string(path).expect("openapi.json is committed");
    assert_eq!(
        committed.trim_end(),
        described.trim_end(),
        "openapi.json is not current; run this test with REFOLD_WRITE_OPENAPI=1"
    );
    let served = World::empty().client().get("/openapi.json").send().await;
    assert_eq!(
        body(served).await,
        serde_json::from_str::<Value>(&described).expect("JSON")
    );
}
