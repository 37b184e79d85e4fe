//! A model of the seam, explored state by state: bulk load and batches, fence and take-over,
//! transactions of dead sessions that arrive late, reset, barrier, promotion, rollback, retire,
//! drop, readers, and a failover to a standby that misses commits.
//!
//! What decides in the model is what decides in the product: [`refold_domain::fence::admit`],
//! [`refold_domain::barrier::switch_vector`], [`refold_domain::cutover::judge`] and
//! [`refold_domain::version::VersionState::may_become`]. A [`Mutation`] takes one rule away; the
//! property that then breaks says what the rule is for.
//!
//! Two versions over two partitions, of two and three records, are a world small enough to exhaust in which
//! every rule is needed. Left out: the contents of rows (a record is counted, not folded), the tables'
//! bytes, and more than one projection.

mod bounds;
mod log;
mod model;
mod mutation;
mod properties;
mod report;
mod state;
mod step;

pub use bounds::Bounds;
pub use model::Seam;
pub use mutation::Mutation;
pub use report::Explored;
pub use report::explore;
