//! The actors of Refold.
//!
//! ```text
//! process
//!  |- Governor              holds a rebuild while the database falls behind
//!  '- Supervisor            restarts, backs off, breaks, drains
//!      |- Projector p0      owner of the mark of one (version, partition)
//!      |   |- bulk thread   reads, folds, sorts and encodes history
//!      |   '- tail thread   reads the moving end
//!      '- Projector p1 ...
//! api process
//!  '- Barrier               one promotion per name at a time
//! ```
//! They know ports and the pure core, and no broker or database.

#[cfg(not(panic = "unwind"))]
compile_error!("supervision rests on unwinding: build with panic = \"unwind\"");

pub mod barrier;
mod bulk;
mod context;
pub mod dice;
mod gate;
mod governor;
mod history;
pub mod labour;
mod member;
mod observer;
pub mod options;
mod outcome;
mod plan;
mod plugs;
mod projector;
mod reader;
mod run;
mod shared_pace;
mod supervisor;
mod thread_cpu;

pub use history::LogHistory;
pub use observer::BatchObserver;
pub use observer::CommittedBatch;
pub use options::Mode;
pub use options::PartitionSelection;
pub use options::ProjectorOptions;
pub use outcome::Failure;
pub use outcome::Outcome;
pub use plugs::Plugs;
pub use run::ProjectorHandle;
pub use run::run_projector;
pub use run::start_projector;
pub use supervisor::Status;
