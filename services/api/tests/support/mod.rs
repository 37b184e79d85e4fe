//! The API over a store in memory.

// Each test binary uses its part of this.
#![allow(dead_code)]

use std::sync::Arc;

use async_trait::async_trait;
use poem::Endpoint;
use poem::http::StatusCode;
use poem::test::TestClient;
use poem::test::TestResponse;
use refold_api::ApiDeps;
use refold_api::ApiOptions;
use refold_api::cutover::CutoverOptions;
use refold_api::cutover::Promoter;
use refold_domain::spec::ProjectionSpec;
use refold_domain::version::VersionId;
use refold_ports::Registry;
use refold_ports::Sink;
use refold_ports::conformance::store::Break;
use refold_ports::conformance::store::StoreHarness;
use refold_ports::conformance::store::fixtures::PARTITIONS;
use refold_ports::conformance::store::fixtures::WIDE_V1;
use refold_ports::conformance::store::fixtures::WIDE_V2;
use refold_ports::conformance::store::fixtures::loaded;
use refold_ports::memory::store::MemoryStore;
use refold_ports::registry::Durability;
use refold_ports::registry::PromoteRequest;
use refold_ports::registry::Promotion;
use refold_ports::registry::ReadModel;
use refold_ports::registry::RegistryError;
use refold_telemetry::ProcessLabels;
use refold_telemetry::Telemetry;
use serde_json::Value;

/// A store in memory with the versions of the conformance fixtures.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) store: MemoryStore,
    /// What promotions are answered with in place of the store's own word.
    pub(crate) durability: Option<Durability>,
}

impl StoreHarness for World {
    fn sink(&self) -> &dyn Sink {
        &self.store
    }

    fn registry(&self) -> &dyn Registry {
        &self.store
    }

    fn read_model(&self) -> &dyn ReadModel {
        &self.store
    }

    fn break_next_commit(&self, _moment: Break) {
        // No test of the API breaks a writer.
    }
}

impl World {
    pub(crate) fn empty() -> Self {
        Self {
            store: MemoryStore::new(),
            durability: None,
        }
    }

    /// wide_v1 active and wide_v2 ready, ten rows in each of two partitions.
    pub(crate) async fn with_two_versions() -> Self {
        let world = Self::empty();
        let first = world.ready(&WIDE_V1).await;
        let active = world.store.activate_first(first, "test", None).await;
        active.expect("a ready version becomes active");
        world.ready(&WIDE_V2).await;
        world
    }

    pub(crate) async fn ready(&self, spec: &ProjectionSpec) -> VersionId {
        for partition in 0..PARTITIONS {
            let writer = loaded(self, spec, partition, 10).await;
            writer.expect("a partition is loaded");
        }
        let row = self.store.version(&spec.label()).await;
        let version = row.expect("the version is registered").id;
        let ready = self.store.make_ready(version).await;
        assert!(ready.expect("the registry answers"));
        version
    }

    pub(crate) fn deps(&self) -> ApiDeps {
        let labels = ProcessLabels {
            version: "0.1.0".to_owned(),
            revision: "abc".to_owned(),
            process: "api".to_owned(),
        };
        let telemetry = Telemetry::new(&labels).expect("a fresh registry takes the exporter");
        ApiDeps {
            registry: Arc::new(self.store.clone()),
            reads: Arc::new(self.store.clone()),
            promoter: Arc::new(AtOnce(self.store.clone(), self.durability)),
            specs: vec![Arc::new(WIDE_V1), Arc::new(WIDE_V2)],
            telemetry: Arc::new(telemetry),
            labels,
            shadow: None,
            history: None,
            read_report: Some(Arc::new(self.store.clone())),
        }
    }

    pub(crate) fn client(&self) -> TestClient<impl Endpoint> {
        TestClient::new(refold_api::endpoint(self.deps(), ApiOptions::default()))
    }
}

/// Promotes versions that stand at the same marks already: no wait, no actor.
struct AtOnce(MemoryStore, Option<Durability>);

#[async_trait]
impl Promoter for AtOnce {
    async fn promote(
        &self,
        label: &str,
        options: &CutoverOptions,
    ) -> Result<Promotion, RegistryError> {
        let to = self.0.version(label).await?;
        let active = self.0.active(&to.name).await?;
        let active =
            active.ok_or_else(|| RegistryError::Conflict("nothing is active".to_owned()))?;
        let barrier = if active.version == to.id {
            0
        } else {
            let barrier = self.0.set_barrier(active.version, to.id).await?.id;
            let columns = WIDE_V2.same_columns();
            let proof = self
                .0
                .compare_at_barrier(barrier, &WIDE_V1, &WIDE_V2, &columns);
            proof.await?;
            barrier
        };
        let request = PromoteRequest {
            to: to.id,
            barrier,
            if_generation: options.if_generation,
            allowed_lag: options.allowed_lag,
            max_scan_age: options.max_scan_age,
            forced: options.forced.clone(),
            actor: options.actor.clone(),
            dry_run: options.dry_run,
        };
        let mut promotion = self.0.promote(&request, &WIDE_V1, &WIDE_V2).await?;
        promotion.durability = self.1.or(promotion.durability);
        Ok(promotion)
    }
}

/// The body of a response as JSON.
pub(crate) async fn body(response: TestResponse) -> Value {
    let text = response.0.into_body().into_string().await;
    serde_json::from_str(&text.expect("a body")).expect("a body of JSON")
}

/// Checks that a response is a problem of this status and code, and returns it.
pub(crate) async fn problem(response: TestResponse, status: StatusCode, code: &str) -> Value {
    response.assert_status(status);
    response.assert_content_type("application/problem+json");
    let problem = body(response).await;
    assert_eq!(problem["code"], code, "{problem}");
    assert_eq!(problem["status"], status.as_u16());
    for field in ["type", "title", "detail", "instance", "retryable"] {
        assert!(
            problem.get(field).is_some(),
            "{field} is missing: {problem}"
        );
    }
    problem
}

/// `POST /cutover`.
pub(crate) async fn cut_over(world: &World, body: Value, if_match: Option<&str>) -> TestResponse {
    let client = world.client();
    let length = body.to_string().len();
    let mut request = client.post("/cutover").body_json(&body);
    request = request.header("Content-Length", length);
    if let Some(etag) = if_match {
        request = request.header("If-Match", etag);
    }
    request.send().await
}
