//! Reads that name an answer, an offset or, without knowing, a candidate.

mod support;

use std::sync::Arc;
use std::time::Duration;

use poem::http::StatusCode;
use poem::test::TestClient;
use refold_api::ApiOptions;
use refold_api::ShadowDeps;
use refold_domain::partitioner::partition_of;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_domain::version::VersionId;
use refold_ports::PartitionWriter;
use refold_ports::Registry;
use refold_ports::conformance::store::fixtures::PARTITIONS;
use refold_ports::conformance::store::fixtures::Picture;
use refold_ports::conformance::store::fixtures::WIDE_V1;
use refold_ports::conformance::store::fixtures::WIDE_V2;
use refold_ports::conformance::store::fixtures::int_cell;
use refold_ports::conformance::store::fixtures::writer_of;
use serde_json::Value;
use serde_json::json;

use support::World;
use support::body;
use support::cut_over;
use support::problem;

/// An aggregate of the first partition, and one of the other.
fn homes() -> (i64, i64) {
    let home = |partition: i32| {
        let lives = |k: &i64| partition_of(k.to_string().as_bytes(), PARTITIONS).0 == partition;
        (0..10).find(lives).expect("both partitions have some")
    };
    (home(0), home(1))
}

/// A writer of the first partition, which holds ten events, with the rows it holds.
async fn writer(world: &World, spec: &ProjectionSpec) -> (Box<dyn PartitionWriter>, Picture) {
    let writer = writer_of(world, spec, 0).await.expect("a writer");
    let mut picture = Picture::new(spec);
    for key in 0..10 {
        picture.put(&int_cell(key), key, 1, key).expect("a row");
    }
    picture.load(0, 10).expect("the loaded rows");
    (writer, picture)
}

/// Writes one event of `key` at `off`.
async fn write(written: &mut (Box<dyn PartitionWriter>, Picture), key: i64, off: i64) {
    let (writer, picture) = written;
    picture.put(&int_cell(key), off, off, off).expect("a row");
    let batch = picture.batch(off, off + 1).expect("a batch");
    writer.commit(&batch).await.expect("a commit");
}

#[tokio::test]
async fn an_answer_that_the_caller_has_is_not_sent_again() {
    let world = World::with_two_versions().await;
    let client = world.client();
    let ask = async |tag: Option<&str>| {
        let request = client.get("/aggregate/1");
        match tag {
            Some(tag) => request.header("If-None-Match", tag).send().await,
            None => request.send().await,
        }
    };
    let first = ask(None).await;
    first.assert_status_is_ok();
    let tag = first.0.headers().get("ETag").expect("a tag").clone();
    let tag = tag.to_str().expect("text").to_owned();
    let partition = partition_of(b"1", PARTITIONS).0;
    let named = format!("\"wide_v1-p{partition}-1-g1-");
    assert!(tag.starts_with(&named), "{tag}");
    for known in [tag.clone(), format!("\"other\", W/{tag}"), "*".to_owned()] {
        let again = ask(Some(&known)).await;
        again.assert_status(StatusCode::NOT_MODIFIED);
        again.assert_header("ETag", &tag);
        again.assert_header("Projection-Version", "wide_v1");
        assert_eq!(again.0.into_body().into_string().await.expect("a body"), "");
    }
    ask(Some("\"other\"")).await.assert_status_is_ok();
    // After a switch the same row is another answer: it names another version.
    let switched = cut_over(&world, json!({"version": "wide_v2"}), None).await;
    switched.assert_status_is_ok();
    ask(Some(&tag)).await.assert_status_is_ok();
}

#[tokio::test]
async fn a_read_that_names_an_offset_is_answered_from_behind_it_or_refused() {
    let world = World::with_two_versions().await;
    let client = world.client();
    let (key, _) = homes();
    let ask = async |query: &[(&str, &str)]| {
        let mut request = client.get(format!("/aggregate/{key}"));
        for (name, value) in query {
            request = request.query(*name, value);
        }
        request.send().await
    };
    ask(&[("min_offset", "0:9")]).await.assert_status_is_ok();
    for query in [
        &[("min_offset", "0:10")][..],
        &[("min_offset", "0:10"), ("wait", "20ms")],
    ] {
        let refused = problem(ask(query).await, StatusCode::CONFLICT, "not_caught_up").await;
        assert_eq!(refused["retryable"], true);
        assert_eq!(refused["position"], 10);
        assert_eq!(refused["partition"], 0);
        assert_eq!(refused["projection_version"], "wide_v1");
        assert_eq!(refused["generation"], 1);
    }
    let other = problem(
        ask(&[("min_offset", "1:3")]).await,
        StatusCode::BAD_REQUEST,
        "invalid_offset",
    );
    let other = other.await;
    let detail = other["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("lives in partition 0"), "{detail}");
    let garbled = ask(&[("min_offset", "nine")]).await;
    problem(garbled, StatusCode::BAD_REQUEST, "invalid_offset").await;
    let aimless = ask(&[("wait", "1s")]).await;
    problem(aimless, StatusCode::BAD_REQUEST, "bad_request").await;
}

#[tokio::test]
async fn a_read_waits_for_the_offset_and_a_switch_meanwhile_changes_who_is_waited_for() {
    let world = World::with_two_versions().await;
    let (key, _) = homes();
    let endpoint = refold_api::endpoint(world.deps(), ApiOptions::default());
    let client = Arc::new(TestClient::new(endpoint));
    let path = format!("/aggregate/{key}");
    let wait = |offset: i64| {
        let (client, path) = (Arc::clone(&client), path.clone());
        tokio::spawn(async move {
            let place = format!("0:{offset}");
            let request = client.get(path).query("min_offset", &place);
            body(request.query("wait", &"5s").send().await).await
        })
    };
    let mut first = writer(&world, &WIDE_V1).await;
    let waiting = wait(10);
    write(&mut first, key, 10).await;
    let answer = waiting.await.expect("no panic");
    assert_eq!(answer["applied_offset"], 10, "{answer}");
    assert_eq!(answer["projection_version"], "wide_v1");

    let mut second = writer(&world, &WIDE_V2).await;
    write(&mut second, key, 10).await;
    let waiting = wait(11);
    let switched = cut_over(&world, json!({"version": "wide_v2"}), None).await;
    switched.assert_status_is_ok();
    // The old version has it, and serves no more.
    write(&mut first, key, 11).await;
    for _ in 0..20 {
        // sleep: looks at the mark, none of which may answer the read.
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert!(!waiting.is_finished(), "answered from the old version");
    }
    write(&mut second, key, 11).await;
    let answer = waiting.await.expect("no panic");
    assert_eq!(answer["applied_offset"], 11, "{answer}");
    assert_eq!(answer["projection_version"], "wide_v2");
    assert_eq!(answer["generation"], 2);
}

async fn id(world: &World, label: &str) -> VersionId {
    world.store.version(label).await.expect("a version").id
}

fn counts(answer: &Value) -> [u64; 5] {
    ["equal", "expected", "differs", "not_caught_up", "dropped"]
        .map(|result| answer[result].as_u64().expect("a count"))
}

#[tokio::test]
async fn a_share_of_the_reads_is_compared_and_told_by_result() {
    let world = World::with_two_versions().await;
    let deps = |share: f64| {
        let mut deps = world.deps();
        deps.shadow = Some(ShadowDeps {
            pairs: Arc::new(world.store.clone()),
            version: "wide_v2".to_owned(),
            share,
        });
        refold_api::endpoint(deps, ApiOptions::default())
    };
    let client = TestClient::new(deps(1.0));
    let (here, there) = homes();
    let shadow = async || body(client.get("/projections/wide_v2/shadow").send().await).await;
    let read = async |key: i64, wanted: [u64; 5]| {
        let response = client.get(format!("/aggregate/{key}")).send().await;
        drop(response);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            let found = shadow().await;
            if counts(&found) == wanted {
                return found;
            }
            assert!(tokio::time::Instant::now() < deadline, "{found}");
            tokio::task::yield_now().await;
        }
    };
    read(here, [1, 0, 0, 0, 0]).await;
    read(4_711, [2, 0, 0, 0, 0]).await;
    // The serving version has an event that the candidate has not reached.
    let mut first = writer(&world, &WIDE_V1).await;
    write(&mut first, here, 10).await;
    read(here, [2, 0, 0, 1, 0]).await;
    // The candidate has it, and another aggregate's row is wrong there.
    let mut second = writer(&world, &WIDE_V2).await;
    write(&mut second, here, 10).await;
    read(here, [3, 0, 0, 1, 0]).await;
    world
        .store
        .corrupt(id(&world, "wide_v2").await, Partition(1), &int_cell(there));
    let found = read(there, [3, 0, 1, 1, 0]).await;
    let differing = &found["differing"][0];
    assert_eq!(differing["aggregate_id"], there.to_string(), "{found}");
    assert_eq!(differing["serving_version"], "wide_v1");
    assert_eq!(differing["kind"], "unexpected");
    world.store.set_reachable(false);
    client
        .get("/aggregate/1")
        .send()
        .await
        .assert_status(StatusCode::SERVICE_UNAVAILABLE);
    world.store.set_reachable(true);
    let metrics = client.get("/metrics").send().await;
    let text = metrics.0.into_body().into_string().await.expect("a body");
    let line =
        "refold_shadow_reads_total{projection=\"wide\",result=\"differs\",version=\"wide_v2\"} 1";
    assert!(text.contains(line), "{text}");
    let unknown = client.get("/projections/wide_v1/shadow").send().await;
    problem(unknown, StatusCode::NOT_FOUND, "not_shadowed").await;

    // A tenth is a tenth.
    let client = TestClient::new(deps(0.1));
    for _ in 0..200 {
        client
            .get(format!("/aggregate/{here}"))
            .send()
            .await
            .assert_status_is_ok();
        tokio::task::yield_now().await;
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let found = body(client.get("/projections/wide_v2/shadow").send().await).await;
        if counts(&found).iter().sum::<u64>() == 20 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{found}");
        tokio::task::yield_now().await;
    }
}
