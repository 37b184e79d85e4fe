//! The outermost layer: every error becomes a problem, every request one record.

use std::sync::Arc;
use std::time::Instant;

use poem::Endpoint;
use poem::IntoResponse;
use poem::PathPattern;
use poem::Request;
use poem::Response;
use poem::http::Method;
use refold_telemetry::HttpRequest;
use refold_telemetry::Telemetry;

use crate::problem::Problem;

/// The route label of a request that matched none.
const UNMATCHED: &str = "unmatched";

/// Wraps an endpoint: turns its errors into problem+json and records route,
/// method, status and time. The label is the route's pattern and never the
/// path, which would be a series per aggregate.
pub(crate) struct Instrumented<E> {
    inner: E,
    telemetry: Arc<Telemetry>,
}

impl<E> Instrumented<E> {
    pub(crate) fn new(inner: E, telemetry: Arc<Telemetry>) -> Self {
        Self { inner, telemetry }
    }
}

impl<E: Endpoint> Endpoint for Instrumented<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let started = Instant::now();
        let method = method_label(request.method());
        let path = request.uri().path().to_owned();
        let (response, route) = match self.inner.call(request).await {
            Ok(output) => {
                let response = output.into_response();
                let route = response.data::<PathPattern>().cloned();
                (response, route)
            }
            Err(error) => {
                let route = error.data::<PathPattern>().cloned();
                (refusal(error, path), route)
            }
        };
        let route = route.as_ref().map_or(UNMATCHED, |p| route_label(&p.0));
        let seen = HttpRequest {
            route,
            method,
            status: response.status().as_u16(),
        };
        self.telemetry.http().record(seen, started.elapsed());
        Ok(response)
    }
}

/// The label of a matched pattern. poem-openapi numbers its parameters, and the
/// service that catches every path matches with an empty pattern.
fn route_label(pattern: &str) -> &str {
    match pattern {
        "/aggregate/:param0" => "/aggregate/:id",
        "/projections/:param0" => "/projections/:version",
        "/projections/:param0/shadow" => "/projections/:version/shadow",
        "/projections/:param0/partitions" => "/projections/:version/partitions",
        "" | "/" => UNMATCHED,
        other => other,
    }
}

/// An operation's own refusal is a problem already; poem's become one here.
fn refusal(error: poem::Error, path: String) -> Response {
    if error.is_from_response() {
        return error.into_response();
    }
    let problem = Problem::of_transport(&error).at(path);
    if problem.status >= 500 {
        tracing::error!(instance = %problem.instance, "{}", problem.detail);
    }
    problem.into_response()
}

/// Methods that clients invent are one label value, not one each.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}
