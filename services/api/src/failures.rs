//! The problems that each operation answers with, by status.

use poem_openapi::ApiResponse;
use poem_openapi::payload::Json;

use crate::problem::Problem;

/// What `Retry-After` says with a 503, in seconds: a read that finds the store again costs
/// little, and one that does not fails in two seconds.
const RETRY_AFTER: u32 = 1;

/// An operation's failures: those of its own by status, and the two that every operation has, of
/// which a 503 says what may be away.
macro_rules! failures {
    ($(
        $(#[doc = $doc:tt])*
        $name:ident, 503 for ($(#[doc = $away:tt])*) {
            $($(#[doc = $why:tt])* $status:literal $variant:ident,)*
        }
    )*) => {$(
        $(#[doc = $doc])*
        #[derive(ApiResponse)]
        pub(crate) enum $name {
            $(
                $(#[doc = $why])*
                #[oai(status = $status, content_type = "application/problem+json")]
                $variant(Json<Problem>),
            )*
            /// Something broke in the server.
            #[oai(status = 500, content_type = "application/problem+json")]
            Internal(Json<Problem>),
            $(#[doc = $away])*
            #[oai(status = 503, content_type = "application/problem+json")]
            Unavailable(
                Json<Problem>,
                /// Seconds.
                #[oai(header = "Retry-After")]
                u32,
            ),
        }

        impl From<Problem> for $name {
            fn from(problem: Problem) -> Self {
                match problem.status {
                    $($status => Self::$variant(Json(problem)),)*
                    503 => Self::Unavailable(Json(problem), RETRY_AFTER),
                    _ => Self::Internal(Json(problem)),
                }
            }
        }
    )*};
}

failures! {
    /// The errors of a point read.
    AggregateFailure, 503 for (
        /// No version is active, or the store is away.
    ) {
        /// The aggregate id is not of the projection's key type, or `min_offset` or `wait` cannot
        /// be read, or `min_offset` is of another partition than the aggregate.
        400 BadRequest,
        /// No such aggregate or projection.
        404 NotFound,
        /// The serving version's mark has not passed `min_offset`; ask again later.
        409 NotCaughtUp,
    }
    /// The errors of a question about the past.
    AsOfFailure, 503 for (
        /// The log or the store is away, nothing serves, or too many ask about the past.
    ) {
        /// The point or the aggregate id cannot be read, or the offset is of another partition.
        400 BadRequest,
        /// No such projection or version, or no such aggregate at that point.
        404 NotFound,
        /// The version was built from another log than this server reads.
        409 Conflict,
        /// The log does not hold what the answer needs: compacted, expired, lost or not readable.
        410 Gone,
        /// The point has not come yet.
        422 NotYet,
        /// This server was started without a log.
        501 NoLog,
    }
    /// The errors of reading the registry.
    ReadFailure, 503 for (
        /// The store is away.
    ) {
        /// The request cannot be read.
        400 BadRequest,
        /// No such projection or version.
        404 NotFound,
    }
    /// The errors of a promotion.
    CutoverFailure, 503 for (
        /// The store is away.
    ) {
        /// The body or the `If-Match` header cannot be read.
        400 BadRequest,
        /// No such version.
        404 NotFound,
        /// A gate refused, or the registry's state does not allow it.
        409 Conflict,
        /// The registry is at another generation than `If-Match` says.
        412 PreconditionFailed,
    }
    /// The errors of ending a version.
    RetireFailure, 503 for (
        /// The store is away.
    ) {
        /// The `If-Match` header cannot be read.
        400 BadRequest,
        /// No such version.
        404 NotFound,
        /// The version serves, or its name was not said once more in `confirm`.
        409 Conflict,
        /// The registry is at another generation than `If-Match` says.
        412 PreconditionFailed,
        /// There is no `If-Match`.
        428 PreconditionRequired,
    }
}
