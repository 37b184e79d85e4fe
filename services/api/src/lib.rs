//! The HTTP API: point reads, the registry, the switch between versions, and
//! what operators' machines ask for.
//!
//! Everything here is thin: a read is one call of a [`ReadModel`], a switch is
//! one of a [`Promoter`], and errors are one table in [`problem`].

mod aggregate;
mod as_of;
pub mod cutover;
mod failures;
mod freshness;
mod health;
mod instrument;
pub mod problem;
mod projections;
mod promotion;
mod read_times;
mod retirement;
mod rfc3339;
mod routes;
mod serving;
mod shadow;
mod shadow_answer;
mod state;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use poem::Endpoint;
use poem::Request;
use poem::Response;
use poem::endpoint::make;
use refold_domain::spec::ProjectionSpec;
use refold_ports::History;
use refold_ports::ReadReport;
use refold_ports::Registry;
use refold_ports::registry::ReadModel;
use refold_telemetry::ProcessLabels;
use refold_telemetry::Telemetry;
use tokio::net::TcpListener;

pub use as_of::past_json;
pub use health::serve_health;
pub use retirement::RetireOptions;
pub use retirement::drop_when_unread;
pub use retirement::may_pass;
pub use serving::DrainOptions;
pub use shadow::ShadowDeps;

use cutover::CutoverOptions;
use cutover::Promoter;
use health::Check;
use routes::Routes;
use shadow::Shadow;
use state::ApiState;

/// Between two looks at the registry for `refold_version_state`.
const STATES_EVERY: Duration = Duration::from_secs(1);

/// How long `/readyz` waits for the registry.
const READINESS_DEADLINE: Duration = Duration::from_secs(1);

/// What the server works with.
pub struct ApiDeps {
    /// The registry.
    pub registry: Arc<dyn Registry>,
    /// The point reads.
    pub reads: Arc<dyn ReadModel>,
    /// Whoever carries promotions out.
    pub promoter: Arc<dyn Promoter>,
    /// The versions that this process is linked with; the first one's projection is the default.
    pub specs: Vec<Arc<ProjectionSpec>>,
    /// The process's metrics.
    pub telemetry: Arc<Telemetry>,
    /// What `/version` says.
    pub labels: ProcessLabels,
    /// The candidate that a share of the reads is asked of as well.
    pub shadow: Option<ShadowDeps>,
    /// Where it is told what the reads take, for rebuilds that spare them.
    pub read_report: Option<Arc<dyn ReadReport>>,
    /// The past of single aggregates, when there is a log to ask.
    pub history: Option<Arc<dyn History>>,
}

impl std::fmt::Debug for ApiDeps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let specs: Vec<_> = self.specs.iter().map(|s| s.label()).collect();
        f.debug_struct("ApiDeps")
            .field("specs", &specs)
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

/// How the server behaves.
#[derive(Debug, Clone, Default)]
pub struct ApiOptions {
    /// What a promotion gets where its request says nothing.
    pub cutover: CutoverOptions,
    /// How the tables of retired versions go.
    pub retire: RetireOptions,
    /// How the server stops.
    pub drain: DrainOptions,
}

/// Serves until `shutdown` resolves: then `/readyz` says 503, the listener
/// closes, and open requests finish.
///
/// # Errors
/// The listener's.
pub async fn serve(
    listener: TcpListener,
    deps: ApiDeps,
    options: ApiOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let drain = options.drain;
    let read_report = deps.read_report.clone();
    let (state, endpoint) = assemble(deps, options);
    let announced = {
        let state = Arc::clone(&state);
        async move {
            shutdown.await;
            state.start_draining();
            tokio::time::sleep(drain.announce).await;
        }
    };
    let server = serving::run(listener, endpoint, announced, drain);
    tokio::select! {
        outcome = server => outcome,
        never = follow_versions(&state) => match never {},
        never = tell_reads(&state, read_report) => match never {},
    }
}

/// The whole API as an endpoint, without a listener.
pub fn endpoint(deps: ApiDeps, options: ApiOptions) -> impl Endpoint {
    assemble(deps, options).1
}

/// The API's description, as it is committed in `openapi.json`.
pub fn openapi_json(deps: ApiDeps) -> String {
    let (state, _) = state_of(deps);
    routes::service(Routes::new(state, &ApiOptions::default())).spec()
}

fn state_of(deps: ApiDeps) -> (Arc<ApiState>, (Arc<Telemetry>, ProcessLabels)) {
    let metrics = deps.telemetry.shadow().clone();
    let shadow = deps
        .shadow
        .and_then(|shadow| Shadow::start(shadow, &deps.specs, &deps.registry, metrics));
    let (registry, reads) = (deps.registry, deps.reads);
    let state = ApiState::new(
        registry,
        reads,
        deps.promoter,
        &deps.specs,
        shadow,
        deps.history,
    );
    (Arc::new(state), (deps.telemetry, deps.labels))
}

fn assemble(deps: ApiDeps, options: ApiOptions) -> (Arc<ApiState>, impl Endpoint) {
    let (state, (telemetry, labels)) = state_of(deps);
    telemetry.observe_versions(&state.states);
    let service = routes::service(Routes::new(Arc::clone(&state), &options));
    let ready = {
        let state = Arc::clone(&state);
        make(move |request: Request| {
            let state = Arc::clone(&state);
            async move { ready(&state, &request).await }
        })
    };
    let routes = health::common(Arc::clone(&telemetry), labels)
        .at("/readyz", poem::get(ready))
        .at("/openapi.json", poem::get(service.spec_endpoint()))
        .nest("/docs", service.swagger_ui())
        .nest("/", service);
    (state, health::finish(routes, telemetry))
}

/// Keeps `refold_version_state` current, also while nobody asks for the registry.
async fn follow_versions(state: &ApiState) -> std::convert::Infallible {
    let mut warned = false;
    loop {
        match state.versions().await {
            Ok(_) => warned = false,
            Err(error) => {
                if !warned {
                    tracing::warn!(%error, "the versions cannot be read");
                }
                warned = true;
            }
        }
        tokio::time::sleep(STATES_EVERY).await;
    }
}

async fn tell_reads(
    state: &ApiState,
    report: Option<Arc<dyn ReadReport>>,
) -> std::convert::Infallible {
    match report {
        Some(report) => read_times::tell(&state.measured, report).await,
        None => std::future::pending().await,
    }
}

/// Whether reads can be served: the registry answers, and a version is active.
async fn ready(state: &ApiState, request: &Request) -> Response {
    let mut checks = Vec::new();
    if state.is_draining() {
        checks.push(Check {
            name: "drain".to_owned(),
            outcome: Err("the server is stopping".to_owned()),
        });
    }
    let name = state.projection(None).unwrap_or_default();
    let active = state.registry.active(name);
    let (registry, active) = match tokio::time::timeout(READINESS_DEADLINE, active).await {
        Ok(Ok(Some(row))) => (
            Ok("ok".to_owned()),
            Ok(format!("{name} generation {}", row.generation)),
        ),
        Ok(Ok(None)) => (
            Ok("ok".to_owned()),
            Err(format!("no version of {name} is active")),
        ),
        Ok(Err(error)) => (Err(error.to_string()), Err("unknown".to_owned())),
        Err(_) => (
            Err("no answer in time".to_owned()),
            Err("unknown".to_owned()),
        ),
    };
    for (name, outcome) in [("registry", registry), ("active-version", active)] {
        checks.push(Check {
            name: name.to_owned(),
            outcome,
        });
    }
    health::readiness(request, &checks)
}
