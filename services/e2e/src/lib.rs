//! Refold as its users run it: real processes on a real broker and a real database.
//!
//! ```text
//! World ── a fresh database, a topic of its own, the seeded log
//!   ├─ projector(mode, version) / refold(args) ──> Process: stderr lines, signals, exit, metrics
//!   ├─ sql(..), marks(..), watch of all marks   ──> psql sessions
//!   └─ assert_equals_oracle(version)            ──> every aggregate against the known final state
//! ```
//! Nothing sleeps and hopes: everything is awaited as a condition with a bound.
//! What a test started ends with the value that holds it, and with the test
//! process, however that dies. This is test code: what does not hold panics.

mod api;
mod binary;
mod dice;
pub mod failpoints;
pub mod http;
mod leash;
mod lines;
mod metrics;
mod oracle;
mod process;
mod psql;
mod topic;
mod watch;
mod world;
mod writer;

pub use api::Api;
pub use binary::refold_binary;
pub use dice::Dice;
pub use failpoints::Failpoint;
pub use lines::Lines;
pub use metrics::Metrics;
pub use process::Exit;
pub use process::Launch;
pub use process::Process;
pub use psql::Psql;
pub use psql::SqlError;
pub use topic::Record;
pub use topic::Topic;
pub use watch::MarkWatch;
pub use world::Answer;
pub use world::Mark;
pub use world::Mode;
pub use world::Stream;
pub use world::World;
pub use writer::Backend;
