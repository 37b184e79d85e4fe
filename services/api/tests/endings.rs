//! The end of a version over HTTP.

mod support;

use std::time::Duration;

use poem::http::StatusCode;
use poem::test::TestClient;
use poem::test::TestResponse;
use refold_api::ApiOptions;
use refold_api::RetireOptions;
use refold_domain::version::VersionState;
use refold_ports::Registry;
use refold_ports::conformance::store::fixtures::WIDE_V3;
use refold_ports::conformance::store::fixtures::log;
use serde_json::json;

use support::World;
use support::body;
use support::cut_over;
use support::problem;

/// Asks to end a version.
async fn end(world: &World, label: &str, confirm: &str, if_match: Option<&str>) -> TestResponse {
    let options = ApiOptions {
        retire: RetireOptions {
            grace: Duration::from_millis(10),
            patience: Duration::from_secs(30),
        },
        ..ApiOptions::default()
    };
    let client = TestClient::new(refold_api::endpoint(world.deps(), options));
    let mut request = client.delete(format!("/projections/{label}"));
    if !confirm.is_empty() {
        request = request.query("confirm", &confirm);
    }
    if let Some(etag) = if_match {
        request = request.header("If-Match", etag);
    }
    request.send().await
}

async fn state(world: &World, label: &str) -> VersionState {
    world.store.version(label).await.expect("a version").state
}

async fn becomes(world: &World, label: &str, wanted: VersionState) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while state(world, label).await != wanted {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{label} is not {wanted}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const GEN_1: Option<&str> = Some("\"gen-1\"");

#[tokio::test]
async fn an_end_that_is_refused_says_why_and_changes_nothing() {
    let world = World::with_two_versions().await;
    let careless = end(&world, "wide_v2", "wide_v2", None).await;
    problem(
        careless,
        StatusCode::PRECONDITION_REQUIRED,
        "if_match_required",
    )
    .await;
    let garbled = end(&world, "wide_v2", "wide_v2", Some("latest")).await;
    problem(garbled, StatusCode::BAD_REQUEST, "bad_request").await;
    let unknown = end(&world, "wide_v9", "wide_v9", GEN_1).await;
    problem(unknown, StatusCode::NOT_FOUND, "version_not_found").await;
    for confirm in ["", "wide_v1", "yes"] {
        let unsaid = end(&world, "wide_v2", confirm, GEN_1).await;
        problem(unsaid, StatusCode::CONFLICT, "not_confirmed").await;
    }
    let stale = end(&world, "wide_v2", "wide_v2", Some("\"gen-7\"")).await;
    problem(stale, StatusCode::PRECONDITION_FAILED, "generation_changed").await;
    let serving = end(&world, "wide_v1", "wide_v1", GEN_1).await;
    problem(serving, StatusCode::CONFLICT, "conflict").await;
    assert_eq!(state(&world, "wide_v1").await, VersionState::Active);
    assert_eq!(state(&world, "wide_v2").await, VersionState::Ready);
}

#[tokio::test]
async fn a_build_is_given_up_and_dropped() {
    let world = World::with_two_versions().await;
    let registered = world.store.register(&WIDE_V3, &log()).await;
    let label = registered.expect("a build").label;
    let ended = end(&world, &label, &label, GEN_1).await;
    ended.assert_status(StatusCode::ACCEPTED);
    ended.assert_header("Location", format!("/projections/{label}"));
    let ended = body(ended).await;
    assert_eq!(ended["was"], "building");
    assert_eq!(ended["state"], "retired");
    assert_eq!(ended["grace_seconds"], 0.0);
    becomes(&world, &label, VersionState::Dropped).await;
    // Asking again is answered the same way; the answer may have been lost.
    let again = end(&world, &label, &label, GEN_1).await;
    again.assert_status(StatusCode::ACCEPTED);
    assert_eq!(body(again).await["state"], "dropped");
    let client = world.client();
    let shown = client.get(format!("/projections/{label}")).send().await;
    assert_eq!(body(shown).await["state"], "dropped");
}

#[tokio::test]
async fn what_served_before_is_retired_and_a_rollback_to_it_is_refused() {
    let world = World::with_two_versions().await;
    let switched = cut_over(&world, json!({"version": "wide_v2"}), None).await;
    switched.assert_status_is_ok();
    let stale = end(&world, "wide_v1", "wide_v1", GEN_1).await;
    problem(stale, StatusCode::PRECONDITION_FAILED, "generation_changed").await;
    let ended = end(&world, "wide_v1", "wide_v1", Some("\"gen-2\"")).await;
    ended.assert_status(StatusCode::ACCEPTED);
    assert_eq!(body(ended).await["was"], "previous");
    becomes(&world, "wide_v1", VersionState::Dropped).await;
    let back = cut_over(&world, json!({"version": "wide_v1"}), None).await;
    problem(back, StatusCode::CONFLICT, "conflict").await;
    let read = body(world.client().get("/aggregate/1").send().await).await;
    assert_eq!(read["projection_version"], "wide_v2");
}
