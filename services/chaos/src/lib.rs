//! Faults on purpose: which kinds there are ([`Kind`]), what a run consists of ([`Scenario`]),
//! in which order its faults come ([`Plan`]), and the [`Proxy`] that does harm to connections.
//!
//! Nothing here starts or kills a process: that is the business of whoever owns the processes.

mod kind;
mod plan;
mod proxy;
mod scenario;

pub use kind::Actors;
pub use kind::Kind;
pub use kind::Victim;
pub use plan::Phase;
pub use plan::Pick;
pub use plan::Plan;
pub use proxy::CommitCut;
pub use proxy::Harm;
pub use proxy::Protocol;
pub use proxy::Proxy;
pub use scenario::Fault;
pub use scenario::Scenario;
pub use scenario::ScenarioError;
pub use scenario::Version;
