//! Deterministic simulation of the actors: the whole system on the adapters in memory, one
//! thread, a clock that jumps, and one seed that decides every delay, every fault and every
//! order. What a seed finds, the seed shows again.
//!
//! ```text
//! author --> MemoryLog <-- SimLog --.                       .-- keeper: kills, drains, freezes,
//!                                   Supervisor, Projectors  |           overlaps processes
//! reader --> MemoryStore <- SimSink -'      Barrier <-------+-- operators: promote, retire, drop
//!                 |
//!               judge: after every step at the far end, everything that must hold
//! ```

mod author;
mod branch;
mod chance;
mod judge;
mod keeper;
mod labour;
mod ledger;
mod log;
mod mutation;
mod network;
mod operator;
mod panics;
mod plan;
mod reader;
mod registry;
mod report;
mod run;
mod stages;
mod store;
mod switch;
mod trace;
mod truth;
mod world;

pub use branch::Branch;
pub use branch::Branches;
pub use mutation::Mutation;
pub use report::Campaign;
pub use report::find_mutation;
pub use report::run_seeds;
pub use run::Ended;
pub use run::MakeRuntime;
pub use run::simulate;
pub use world::Finding;
