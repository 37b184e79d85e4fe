//! A deterministic event log and the state that a right fold of it comes to.
mod account;
pub mod describe;
mod encode;
mod layout;
pub mod oracle;
mod parallel;
mod params;
mod random;
mod stream;
mod text;
mod zipf;

pub use account::Change;
pub use encode::Encoder;
pub use layout::{Layout, key_of, murmur2, partition_of_key};
pub use params::{InvalidParams, SeedParams};
pub use stream::{DrawnEvent, PartitionStream};
