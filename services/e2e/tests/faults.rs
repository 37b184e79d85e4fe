//! What is below the product goes wrong or is short: the disk's word, the clock, processor,
//! memory and descriptors.

#[path = "faults/clock.rs"]
mod clock;
#[path = "faults/footprint.rs"]
mod footprint;
#[path = "faults/fsync.rs"]
mod fsync;
#[path = "faults/shim.rs"]
mod shim;

#[path = "faults/starved.rs"]
mod starved;

use std::time::Duration;

/// Bound of whatever a busy machine may take its time for.
const BOUND: Duration = Duration::from_secs(90);
