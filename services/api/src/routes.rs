//! The described operations. Each one reads its request and names its answer;
//! the work is in the module of the same word.

use std::sync::Arc;

use poem::Endpoint;
use poem::EndpointExt;
use poem::middleware::SizeLimit;
use poem_openapi::ApiResponse;
use poem_openapi::OpenApi;
use poem_openapi::OpenApiService;
use poem_openapi::param::Header;
use poem_openapi::param::Path;
use poem_openapi::param::Query;
use poem_openapi::payload::Json;

use crate::aggregate;
use crate::aggregate::AggregateJson;
use crate::cutover::CutoverOptions;
use crate::problem::CutoverFailure;
use crate::problem::Problem;
use crate::problem::ReadFailure;
use crate::projections;
use crate::projections::PartitionsAnswer;
use crate::projections::ProjectionsAnswer;
use crate::promotion;
use crate::promotion::CutoverAnswer;
use crate::promotion::CutoverBody;
use crate::state::ApiState;

/// Bytes of a request body. The largest legal one names a label.
const BODY_LIMIT: usize = 16 * 1024;

/// The OpenAPI service over the routes.
pub(crate) fn service(routes: Routes) -> OpenApiService<Routes, ()> {
    OpenApiService::new(routes, "Refold", env!("CARGO_PKG_VERSION"))
        .summary("Reads of projections, their registry, and the switch between versions")
}

fn with_body_limit(endpoint: impl Endpoint) -> impl Endpoint {
    endpoint.with(SizeLimit::new(BODY_LIMIT))
}

#[derive(ApiResponse)]
enum AggregateResponse {
    /// The aggregate as the active version has it.
    #[oai(status = 200)]
    Found(
        AggregateJson,
        /// The version that answered.
        #[oai(header = "Projection-Version")]
        String,
        /// Partition and offset of the row's last event, as `PARTITION:OFFSET`.
        #[oai(header = "Applied-Offset")]
        String,
    ),
}

#[derive(ApiResponse)]
enum ProjectionsResponse {
    /// The registry.
    #[oai(status = 200)]
    Found(
        Json<ProjectionsAnswer>,
        /// The generation, for `If-Match`.
        #[oai(header = "ETag")]
        Option<String>,
    ),
}

#[derive(ApiResponse)]
enum PartitionsResponse {
    /// The version's partitions.
    #[oai(status = 200)]
    Found(Json<PartitionsAnswer>),
}

#[derive(ApiResponse)]
enum CutoverResponse {
    /// The version serves reads.
    #[oai(status = 200)]
    Switched(
        Json<CutoverAnswer>,
        /// The generation, for `If-Match`.
        #[oai(header = "ETag")]
        String,
    ),
}

/// The operations.
pub(crate) struct Routes {
    state: Arc<ApiState>,
    defaults: CutoverOptions,
}

impl Routes {
    pub(crate) fn new(state: Arc<ApiState>, defaults: CutoverOptions) -> Self {
        Self { state, defaults }
    }
}

#[OpenApi]
impl Routes {
    /// The current state of an aggregate.
    ///
    /// The version is resolved in the same snapshot as the row: a switch is seen
    /// by a read entirely or not at all.
    #[oai(path = "/aggregate/:id", method = "get", operation_id = "getAggregate")]
    async fn aggregate(
        &self,
        /// The aggregate's id: an integer, a UUID or a text, as the projection declares.
        id: Path<String>,
        /// The projection, where a server has several; the first one otherwise.
        projection: Query<Option<String>>,
    ) -> Result<AggregateResponse, ReadFailure> {
        let at = |problem: Problem| problem.at(format!("/aggregate/{}", id.0));
        let wanted = projection.0.as_deref();
        let name = self.state.projection(wanted);
        let name = name.ok_or_else(|| at(Problem::unknown_projection(wanted)))?;
        let found = aggregate::read(&self.state, name, &id.0)
            .await
            .map_err(at)?;
        Ok(AggregateResponse::Found(
            found.body,
            found.version,
            found.applied_offset,
        ))
    }

    /// All versions with their states and marks.
    #[oai(
        path = "/projections",
        method = "get",
        operation_id = "listProjections"
    )]
    async fn projections(
        &self,
        /// Only the versions of this projection.
        projection: Query<Option<String>>,
    ) -> Result<ProjectionsResponse, ReadFailure> {
        let at = |problem: Problem| problem.at("/projections");
        let only = projection.0.as_deref();
        let name = self.state.projection(only);
        let name = name.ok_or_else(|| at(Problem::unknown_projection(only)))?;
        let answer = projections::all(&self.state, only, name).await;
        let answer = answer.map_err(|e| at(e.into()))?;
        let etag = answer.generation.map(promotion::etag);
        Ok(ProjectionsResponse::Found(Json(answer), etag))
    }

    /// The partitions of one version.
    #[oai(
        path = "/projections/:version/partitions",
        method = "get",
        operation_id = "listPartitions"
    )]
    async fn partitions(
        &self,
        /// The version's label.
        version: Path<String>,
    ) -> Result<PartitionsResponse, ReadFailure> {
        let at = format!("/projections/{}/partitions", version.0);
        let answer = projections::partitions(&self.state, &version.0).await;
        let answer = answer.map_err(|e| Problem::from(e).at(at))?;
        Ok(PartitionsResponse::Found(Json(answer)))
    }

    /// Switches reads to a version.
    ///
    /// Waits until both versions stood exactly at one vector of offsets, compares
    /// their checksums there, and switches in one transaction that re-checks every
    /// gate. Asking again for the version that serves answers the same body with
    /// `changed: false`.
    #[oai(
        path = "/cutover",
        method = "post",
        operation_id = "cutover",
        transform = "with_body_limit"
    )]
    async fn cutover(
        &self,
        body: Json<CutoverBody>,
        /// The ETag of `GET /projections`; the switch is refused when the registry moved on.
        #[oai(name = "If-Match")]
        if_match: Header<Option<String>>,
        /// Who asks, for the audit.
        #[oai(name = "Refold-Actor")]
        actor: Header<Option<String>>,
    ) -> Result<CutoverResponse, CutoverFailure> {
        let at = |problem: Problem| problem.at("/cutover");
        let options = CutoverOptions {
            dry_run: body.0.dry_run,
            if_generation: promotion::if_match(if_match.0.as_deref())
                .map_err(|detail| at(Problem::unreadable(detail)))?,
            actor: actor.0.unwrap_or_else(|| self.defaults.actor.clone()),
            max_scan_age: promotion::younger(
                self.defaults.max_scan_age,
                body.0.max_scan_age_seconds,
            )
            .map_err(|detail| at(Problem::unreadable(detail)))?,
            forced: promotion::forced(body.0.force.as_ref())
                .map_err(|detail| at(Problem::unreadable(detail)))?,
            ..self.defaults.clone()
        };
        let answer = promotion::promote(&self.state, &body.0.version, &options).await;
        let answer = answer.map_err(at)?;
        let etag = promotion::etag(answer.generation);
        Ok(CutoverResponse::Switched(Json(answer), etag))
    }
}
