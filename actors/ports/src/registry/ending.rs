//! What is asked of the registry when a version ends, or begins once more.

use refold_domain::spec::ProjectionSpec;
use refold_domain::version::VersionId;

/// How a version is ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetireRequest {
    /// The version.
    pub version: VersionId,
    /// Only a build: a version that serves or served is refused.
    pub abort: bool,
    /// The generation that the caller saw, if it insists on it.
    pub if_generation: Option<i64>,
    /// Who asks, for the audit.
    pub actor: String,
    /// Why, for the audit.
    pub reason: String,
}

/// How a version is built again.
#[derive(Debug, Clone)]
pub struct ResetRequest {
    /// The version, a build: building, ready or failed.
    pub version: VersionId,
    /// The projection of the same label that builds it from now on.
    pub spec: ProjectionSpec,
    /// Who asks, for the audit.
    pub actor: String,
    /// Why, for the audit and the version's note.
    pub reason: String,
}
