//! Errors as RFC 9457 `application/problem+json`.

use poem::IntoResponse;
use poem::Response;
use poem::http::StatusCode;
use poem_openapi::Object;
use poem_openapi::payload::Json;
use refold_domain::cutover::GateReport;
use refold_ports::registry::ReadError;
use refold_ports::registry::RegistryError;

/// The media type of every error.
pub const PROBLEM_JSON: &str = "application/problem+json";

const TYPES: &str = "https://refold.dev/problems/";

/// One gate's verdict.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct GateVerdict {
    /// The gate: caught-up, verified, parked, gaps, keys or lag.
    pub gate: String,
    /// Whether it lets the promotion pass.
    pub ok: bool,
    /// One sentence.
    pub detail: String,
    /// Why it does not count, when it is shut and somebody answers for it.
    pub forced: Option<String>,
}

impl From<&GateReport> for GateVerdict {
    fn from(report: &GateReport) -> Self {
        Self {
            gate: report.gate.word().to_owned(),
            ok: report.ok,
            detail: report.detail.clone(),
            forced: report.forced.clone(),
        }
    }
}

/// An error.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct Problem {
    /// A URI that names the kind of problem.
    #[oai(rename = "type")]
    pub kind: String,
    /// The kind in words; the same for every problem of the kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// The path that was asked for.
    pub instance: String,
    /// The kind as a machine reads it.
    pub code: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// The verdicts, when a gate refused.
    pub gates: Option<Vec<GateVerdict>>,
    /// The version that looked for the aggregate.
    pub projection_version: Option<String>,
    /// The generation of the registry in the same snapshot.
    pub generation: Option<i64>,
    /// The partition in which the aggregate is, or would be.
    pub partition: Option<i32>,
    /// The answering version's durable mark of that partition, exclusive: everything below
    /// is in its table.
    pub position: Option<i64>,
    /// `PARTITION:OFFSET` of the last event up to which the log has the aggregate's history whole.
    pub answerable_to: Option<String>,
    /// `PARTITION:OFFSET` from which on the aggregate's state is known all the same: of the last
    /// event in the serving row.
    pub earliest_answerable: Option<String>,
}

/// A problem is large; what returns one as an error without waiting returns it boxed.
impl From<Box<Problem>> for Problem {
    fn from(problem: Box<Problem>) -> Self {
        *problem
    }
}

impl Problem {
    /// A problem of a kind; `code` in kebab case.
    pub fn new(status: StatusCode, code: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("{TYPES}{code}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            instance: String::new(),
            code: code.replace('-', "_"),
            retryable: status == StatusCode::SERVICE_UNAVAILABLE,
            gates: None,
            projection_version: None,
            generation: None,
            partition: None,
            position: None,
            answerable_to: None,
            earliest_answerable: None,
        }
    }

    /// Names the path that was asked for.
    #[must_use]
    pub fn at(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }

    /// A projection that this process is not linked with.
    pub fn unknown_projection(name: Option<&str>) -> Self {
        let detail = match name {
            Some(name) => format!("this server knows no projection named {name:?}"),
            None => "this server is linked with no projection".to_owned(),
        };
        let code = "projection-not-found";
        Self::new(StatusCode::NOT_FOUND, code, "No such projection", detail)
    }

    /// A request that cannot be understood.
    pub fn unreadable(detail: impl Into<String>) -> Self {
        let title = "The request cannot be read";
        Self::new(StatusCode::BAD_REQUEST, "bad-request", title, detail)
    }

    /// What poem itself refused: an unknown path, a wrong method, a body that cannot be read.
    pub fn of_transport(error: &poem::Error) -> Self {
        let status = error.status();
        let (code, title) = match status {
            StatusCode::BAD_REQUEST => ("bad-request", "The request cannot be read"),
            StatusCode::NOT_FOUND => ("path-not-found", "No such path"),
            StatusCode::METHOD_NOT_ALLOWED => ("method-not-allowed", "No such method here"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => ("unsupported-media-type", "Send JSON"),
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::LENGTH_REQUIRED => {
                ("body-too-large", "The body is too large")
            }
            other if other.is_client_error() => ("bad-request", "The request cannot be served"),
            _ => ("internal", "The server failed"),
        };
        Self::new(status, code, title, error.to_string())
    }

    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status_code();
        Json(self)
            .into_response()
            .with_content_type(PROBLEM_JSON)
            .with_status(status)
            .into_response()
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        let detail = error.to_string();
        let (status, code, title) = match error {
            ReadError::BadKey(_) => (
                StatusCode::BAD_REQUEST,
                "bad-key",
                "Not an aggregate id of this projection",
            ),
            ReadError::NoActiveVersion(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "no-active-version",
                "Nothing serves this projection yet",
            ),
            ReadError::Unavailable(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "store-unreachable",
                "The read model cannot be reached",
            ),
        };
        Self::new(status, code, title, detail)
    }
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        let detail = error.to_string();
        let new = |status, code, title| Self::new(status, code, title, detail.clone());
        match error {
            RegistryError::UnknownVersion(_) => new(
                StatusCode::NOT_FOUND,
                "version-not-found",
                "No such version",
            ),
            RegistryError::CodeChanged { .. } => new(
                StatusCode::CONFLICT,
                "code-changed",
                "The version was built by other code",
            ),
            RegistryError::LogChanged { .. } => new(
                StatusCode::CONFLICT,
                "log-changed",
                "The version was built from another log",
            ),
            RegistryError::GateRefused(reports) => Self {
                // A gate that waits for offsets opens by itself; differences do not go away.
                retryable: reports
                    .iter()
                    .filter(|r| !r.passes())
                    .all(|r| r.gate != refold_domain::cutover::Gate::Verified),
                gates: Some(reports.iter().map(GateVerdict::from).collect()),
                ..new(
                    StatusCode::CONFLICT,
                    "gate-refused",
                    "The version is not ready",
                )
            },
            RegistryError::GenerationChanged { .. } => new(
                StatusCode::PRECONDITION_FAILED,
                "generation-changed",
                "The registry moved on",
            ),
            RegistryError::Conflict(_) => new(
                StatusCode::CONFLICT,
                "conflict",
                "The registry's state does not allow it",
            ),
            RegistryError::Unreachable(_) => new(
                StatusCode::SERVICE_UNAVAILABLE,
                "store-unreachable",
                "The registry cannot be reached",
            ),
            RegistryError::Failed(_) => new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "The registry failed",
            ),
        }
    }
}
