//! The command line: flags as the source document spells them, exit codes, and
//! the words in which failures are told.

mod args;
mod as_of;
mod chaos;
mod count;
mod ending;
mod exit;
mod experiments;
mod kafka;
mod normalise;
mod parked;
mod proof_cost;
mod repair;
mod runs;
mod seeded_corruptions;
mod thousand_switches;
mod verify;

pub use args::*;
pub use as_of::AsOfArgs;
pub use chaos::Chaos;
pub use chaos::ChaosArgs;
pub use chaos::ChaosRunArgs;
pub use count::Count;
pub use count::Percent;
pub use count::Share;
pub use ending::AbortArgs;
pub use ending::EndingArgs;
pub use ending::RetireArgs;
pub use exit::Failure;
pub use exit::Kind;
pub use experiments::*;
pub use kafka::BulkClient;
pub use kafka::KafkaArgs;
pub use kafka::Property;
pub use normalise::normalise;
pub use parked::ParkedArgs;
pub use proof_cost::BenchProofCostArgs;
pub use repair::DiffArgs;
pub use repair::DiffFormat;
pub use repair::RepairArgs;
pub use runs::*;
pub use seeded_corruptions::BenchSeededCorruptionsArgs;
pub use thousand_switches::BenchThousandSwitchesArgs;
pub use verify::VerifyArgs;
