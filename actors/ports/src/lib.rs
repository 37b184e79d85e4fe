//! The plug points of Refold: where its core meets a log, a store and a reader.
//!
//! Each port is a promise in prose first and a trait second; the conformance
//! suites in [`conformance`] hold every implementation to it.

pub mod conformance;
pub mod history;
pub mod membership;
pub mod memory;
pub mod pair;
pub mod pressure;
pub mod probe;
pub mod registry;
pub mod sink;
pub mod source;

pub use history::History;
pub use pair::PairReads;
pub use pressure::Pressure;
pub use pressure::ReadReport;
pub use registry::Registry;
pub use sink::PartitionWriter;
pub use sink::Sink;
pub use source::ChunkReader;
pub use source::LogSource;
