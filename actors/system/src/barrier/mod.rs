//! The barrier: drives one promotion from an order to its answer.
//!
//! ```text
//! resolve -> set barrier at a switch vector -> wait for both versions' sums there
//!         -> compare -> promote (one transaction)          failure -> drop the barrier
//! ```
//! The barrier itself is rows in the registry; who drives it may die at any step
//! and another may begin again. [`BarrierRef`] keeps two orders for one
//! projection from driving at the same time in one process.

mod actor;
mod drive;
mod pace;

pub use actor::BarrierError;
pub use actor::BarrierRef;
pub use drive::PromotionOrder;
pub use drive::drive;
