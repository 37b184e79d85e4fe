//! The port to what a rebuild may do harm to: the database's write-ahead log and its standbys.

use async_trait::async_trait;
use refold_domain::throttle::Readings;

use crate::sink::StoreError;

/// Somebody who looks at what bears on the database.
///
/// # Promise
/// A look changes nothing, holds no transaction or lock open, and answers or fails within a few
/// seconds, whatever the database does. Each of its figures is at least as young as the call.
#[async_trait]
pub trait Pressure: Send + Sync {
    /// Looks.
    ///
    /// # Errors
    /// Any [`StoreError`]; nothing is known of the moment then. That the role may not look at
    /// something is no error: it is [`Hidden`](refold_domain::throttle::Reading::Hidden).
    async fn look(&self) -> Result<Readings, StoreError>;
}
