//! `/metrics`, `/livez`, `/readyz` and `/version`, for servers and for processes
//! that have nothing else to serve.

use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::sync::Arc;

use poem::Endpoint;
use poem::EndpointExt;
use poem::IntoResponse;
use poem::Request;
use poem::Response;
use poem::Route;
use poem::endpoint::make_sync;
use poem::http::StatusCode;
use poem::middleware::CatchPanic;
use poem::web::Json;
use refold_domain::observe::Board;
use refold_domain::observe::Phase;
use refold_telemetry::METRICS_CONTENT_TYPE;
use refold_telemetry::ProcessLabels;
use refold_telemetry::Telemetry;
use tokio::net::TcpListener;

use crate::instrument::Instrumented;
use crate::problem::Problem;
use crate::serving;
use crate::serving::DrainOptions;

/// One line of `/readyz?verbose`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) name: String,
    /// `Err` says why it fails.
    pub(crate) outcome: Result<String, String>,
}

/// 200 when every check passed, else 503. The lines are for people; a machine
/// looks at the status alone.
pub(crate) fn readiness(request: &Request, checks: &[Check]) -> Response {
    let ok = checks.iter().all(|c| c.outcome.is_ok());
    let verbose = request.uri().query().is_some_and(asks_for_detail);
    let mut body = String::new();
    if verbose || !ok {
        for check in checks {
            let (sign, detail) = match &check.outcome {
                Ok(detail) => ('+', detail),
                Err(reason) => ('-', reason),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(body, "[{sign}]{} {detail}", check.name);
        }
    }
    body.push_str(if ok { "ready\n" } else { "not ready\n" });
    let status = if ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Response::builder()
        .status(status)
        .content_type("text/plain; charset=utf-8")
        .body(body)
}

fn asks_for_detail(query: &str) -> bool {
    query
        .split('&')
        .any(|pair| pair == "verbose" || (pair.starts_with("verbose=") && pair != "verbose=false"))
}

/// The routes that every process has, apart from `/readyz`.
pub(crate) fn common(telemetry: Arc<Telemetry>, labels: ProcessLabels) -> Route {
    let version = serde_json::json!({
        "version": labels.version,
        "revision": labels.revision,
        "process": labels.process,
    });
    Route::new()
        .at("/livez", poem::get(make_sync(|_| "ok\n")))
        .at(
            "/version",
            poem::get(make_sync(move |_| Json(version.clone()))),
        )
        .at(
            "/metrics",
            poem::get(make_sync(move |_| metrics(&telemetry))),
        )
}

fn metrics(telemetry: &Telemetry) -> Response {
    match telemetry.render() {
        Ok(body) => Response::builder()
            .content_type(METRICS_CONTENT_TYPE)
            .body(body),
        Err(error) => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Problem::new(status, "internal", "The server failed", error.to_string())
                .at("/metrics")
                .into_response()
        }
    }
}

/// Adds what every server has around its routes: a panic in a handler answers
/// 500, errors are problems, requests are counted.
pub(crate) fn finish(routes: Route, telemetry: Arc<Telemetry>) -> impl Endpoint {
    let panic = CatchPanic::new().with_handler(|_| {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The server failed",
            "a handler panicked; the server's log says where",
        )
        .into_response()
    });
    Instrumented::new(routes.with(panic), telemetry)
}

/// Serves `/metrics`, `/livez`, `/readyz` and `/version` of a process whose
/// projectors stand on `board`, until `shutdown` resolves.
///
/// Ready means that no projector is halted or broken. A stalled or slow one is
/// an alert's business: restarting the process would not help it.
///
/// # Errors
/// The listener's.
pub async fn serve_health(
    listener: TcpListener,
    telemetry: Arc<Telemetry>,
    labels: ProcessLabels,
    board: Board,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let ready = poem::get(poem::endpoint::make_sync(move |request| {
        readiness(&request, &projector_checks(&board))
    }));
    let routes = common(Arc::clone(&telemetry), labels).at("/readyz", ready);
    let endpoint = finish(routes, telemetry);
    serving::run(listener, endpoint, shutdown, DrainOptions::default()).await
}

fn projector_checks(board: &Board) -> Vec<Check> {
    let actors = board.all().into_iter();
    actors
        .map(|(id, actor)| {
            let reason = actor.reason.as_deref();
            let stands = format!("{} at {}, lag {}", actor.phase, actor.next, actor.lag());
            Check {
                name: format!("{}/{}", id.version, id.partition),
                outcome: match (actor.phase, reason) {
                    (Phase::Halted | Phase::Broken, reason) => Err(format!(
                        "{}: {}",
                        actor.phase,
                        reason.unwrap_or("no reason given")
                    )),
                    (_, Some(reason)) => Ok(format!("{stands}: {reason}")),
                    (_, None) => Ok(stands),
                },
            }
        })
        .collect()
}
