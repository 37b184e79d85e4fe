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

use crate::ApiOptions;
use crate::aggregate;
use crate::aggregate::AggregateJson;
use crate::as_of;
use crate::as_of::AsOfJson;
use crate::cutover::CutoverOptions;
use crate::failures::AggregateFailure;
use crate::failures::AsOfFailure;
use crate::failures::CutoverFailure;
use crate::failures::ReadFailure;
use crate::failures::RetireFailure;
use crate::freshness::Fresh;
use crate::problem::Problem;
use crate::projections;
use crate::projections::PartitionsAnswer;
use crate::projections::ProjectionsAnswer;
use crate::projections::VersionAnswer;
use crate::promotion;
use crate::promotion::CutoverAnswer;
use crate::promotion::CutoverBody;
use crate::retirement;
use crate::retirement::Asked;
use crate::retirement::RetireAnswer;
use crate::retirement::RetireOptions;
use crate::shadow_answer;
use crate::shadow_answer::ShadowAnswer;
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
        /// Names the answer, for `If-None-Match`.
        #[oai(header = "ETag")]
        String,
    ),
    /// The answer is the one that `If-None-Match` names.
    #[oai(status = 304)]
    NotModified(
        /// The version that answered.
        #[oai(header = "Projection-Version")]
        String,
        /// Partition and offset of the row's last event, as `PARTITION:OFFSET`.
        #[oai(header = "Applied-Offset")]
        String,
        /// Names the answer.
        #[oai(header = "ETag")]
        String,
    ),
}

#[derive(ApiResponse)]
enum AsOfResponse {
    /// The aggregate as it was at the point.
    #[oai(status = 200)]
    Found(AsOfJson),
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
enum VersionResponse {
    /// The version.
    #[oai(status = 200)]
    Found(
        Json<VersionAnswer>,
        /// The generation, for `If-Match`.
        #[oai(header = "ETag")]
        Option<String>,
    ),
}

#[derive(ApiResponse)]
enum RetireResponse {
    /// It is projected no more, and its tables go once nobody can read them.
    #[oai(status = 202)]
    Accepted(
        Json<RetireAnswer>,
        /// Where to look how far that is.
        #[oai(header = "Location")]
        String,
    ),
}

#[derive(ApiResponse)]
enum ShadowResponse {
    /// What was found.
    #[oai(status = 200)]
    Found(Json<ShadowAnswer>),
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
    /// The version serves reads, and no synchronous standby of the database is known to have the
    /// switch: `durability` is `pending`. The same request waits for the standby again.
    #[oai(status = 202)]
    Pending(
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
    retire: RetireOptions,
}

impl Routes {
    pub(crate) fn new(state: Arc<ApiState>, options: &ApiOptions) -> Self {
        Self {
            state,
            defaults: options.cutover.clone(),
            retire: options.retire,
        }
    }
}

impl Routes {
    async fn past(&self, asked: as_of::Asked, of: &str) -> Result<AsOfResponse, AsOfFailure> {
        let at = format!("/aggregate/{}/{of}", asked.id);
        let found = as_of::read(&self.state, asked).await;
        Ok(AsOfResponse::Found(
            found.map_err(|problem| problem.at(at))?,
        ))
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
        /// `PARTITION:OFFSET` of an event, such as one that the caller wrote: the answer has
        /// it, or is a 409.
        min_offset: Query<Option<String>>,
        /// How long to wait for `min_offset`, such as 500ms; nothing when it is missing, and
        /// 5s at most.
        wait: Query<Option<String>>,
        /// The ETag of an answer that the caller has.
        #[oai(name = "If-None-Match")]
        if_none_match: Header<Option<String>>,
    ) -> Result<AggregateResponse, AggregateFailure> {
        let at = |problem: Problem| problem.at(format!("/aggregate/{}", id.0));
        let fresh = Fresh::parse(min_offset.0.as_deref(), wait.0.as_deref());
        let fresh = fresh.map_err(|problem| at(*problem))?;
        let wanted = projection.0.as_deref();
        let name = self.state.projection(wanted);
        let name = name.ok_or_else(|| at(Problem::unknown_projection(wanted)))?;
        let found = aggregate::read(&self.state, name, &id.0, fresh).await;
        let found = found.map_err(at)?;
        let is_known = found.is_known(if_none_match.0.as_deref());
        let (version, offset, etag) = (found.version, found.applied_offset, found.etag);
        Ok(match is_known {
            true => AggregateResponse::NotModified(version, offset, etag),
            false => AggregateResponse::Found(found.body, version, offset, etag),
        })
    }

    /// An aggregate as it was: folded from the log up to a point.
    ///
    /// The point is one of `ts`, `offset` and `seq`. The answer is exact or there is none: what
    /// compaction or retention took out of the log is noticed by the numbers of the aggregate's
    /// events.
    #[oai(
        path = "/aggregate/:id/as-of",
        method = "get",
        operation_id = "getAggregateAsOf"
    )]
    async fn as_of(
        &self,
        /// The aggregate's id: an integer, a UUID or a text, as the projection declares.
        id: Path<String>,
        /// The version whose fold counts, or the name of a projection for the version of it that
        /// serves; the first projection's otherwise.
        version: Query<Option<String>>,
        /// A moment in UTC, such as 2026-03-01T09:14:00Z: the events that are not later by their
        /// own time, in the order of their offsets.
        ts: Query<Option<String>>,
        /// `PARTITION:OFFSET`: the events at or below it.
        offset: Query<Option<String>>,
        /// The number of an event in the aggregate: the events up to it.
        seq: Query<Option<String>>,
    ) -> Result<AsOfResponse, AsOfFailure> {
        let asked = as_of::Asked::of(&id.0, version.0, (offset.0, ts.0, seq.0));
        self.past(asked, "as-of").await
    }

    /// The same, with what each event changed on the way to it.
    #[oai(
        path = "/aggregate/:id/trace",
        method = "get",
        operation_id = "getAggregateTrace"
    )]
    async fn trace(
        &self,
        /// As in `/aggregate/{id}/as-of`.
        id: Path<String>,
        /// As in `/aggregate/{id}/as-of`.
        version: Query<Option<String>>,
        /// As in `/aggregate/{id}/as-of`.
        ts: Query<Option<String>>,
        /// As in `/aggregate/{id}/as-of`.
        offset: Query<Option<String>>,
        /// As in `/aggregate/{id}/as-of`.
        seq: Query<Option<String>>,
    ) -> Result<AsOfResponse, AsOfFailure> {
        let asked = as_of::Asked::of(&id.0, version.0, (offset.0, ts.0, seq.0));
        self.past(asked.traced(), "trace").await
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

    /// One version with its state and mark.
    #[oai(
        path = "/projections/:version",
        method = "get",
        operation_id = "getVersion"
    )]
    async fn version(
        &self,
        /// The version's label.
        version: Path<String>,
    ) -> Result<VersionResponse, ReadFailure> {
        let at = format!("/projections/{}", version.0);
        let found = projections::one(&self.state, &version.0).await;
        let (answer, generation) = found.map_err(|e| Problem::from(e).at(at))?;
        let etag = generation.map(promotion::etag);
        Ok(VersionResponse::Found(Json(answer), etag))
    }

    /// Ends a version: gives a build up, or retires one that serves no more.
    ///
    /// It is projected no more from now on, no switch goes to it, and reads forget it. Its
    /// tables are dropped by this server once a grace is over and no transaction is left that
    /// may read them; those of a build that nobody could read go at once. If the server ends
    /// before that, the version stays retired, and asking once more goes on. What is dropped
    /// comes back by a rebuild only.
    #[oai(
        path = "/projections/:version",
        method = "delete",
        operation_id = "endVersion"
    )]
    async fn retire(
        &self,
        /// The version's label. Not of the one that serves.
        version: Path<String>,
        /// The label once more.
        confirm: Query<Option<String>>,
        /// The ETag of `GET /projections`, or `*`; refused when the registry moved on.
        #[oai(name = "If-Match")]
        if_match: Header<Option<String>>,
        /// Who asks, for the audit.
        #[oai(name = "Refold-Actor")]
        actor: Header<Option<String>>,
    ) -> Result<RetireResponse, RetireFailure> {
        let at = format!("/projections/{}", version.0);
        let asked = Asked {
            label: &version.0,
            confirm: confirm.0.as_deref(),
            if_match: if_match.0.as_deref(),
            actor: actor.0.unwrap_or_else(|| self.defaults.actor.clone()),
        };
        let answer = retirement::retire(&self.state, asked, self.retire).await;
        let answer = answer.map_err(|problem| problem.at(at.clone()))?;
        Ok(RetireResponse::Accepted(Json(answer), at))
    }

    /// What the shadow reads of this server found of a version.
    ///
    /// A share of the answered reads is asked of the version as well, in one snapshot with the
    /// one that serves, and compared by the rules that the authors declared.
    #[oai(
        path = "/projections/:version/shadow",
        method = "get",
        operation_id = "getShadow"
    )]
    async fn shadow(
        &self,
        /// The version's label.
        version: Path<String>,
    ) -> Result<ShadowResponse, ReadFailure> {
        let at = format!("/projections/{}/shadow", version.0);
        let answer = shadow_answer::of(&self.state, &version.0);
        Ok(ShadowResponse::Found(Json(
            answer.map_err(|problem| problem.at(at))?,
        )))
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
    /// `changed: false`. The answer is 200 once the database's synchronous standbys have the
    /// switch, also when asked again; 202 when they did not confirm it in time.
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
        let respond = match answer.is_pending() {
            true => CutoverResponse::Pending,
            false => CutoverResponse::Switched,
        };
        Ok(respond(Json(answer), etag))
    }
}
