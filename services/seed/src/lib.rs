//! A deterministic event log, written to Kafka, and the state that a right
//! fold of it comes to.
//!
//! * [`seed()`] writes a log, or what is missing of it after a kill.
//! * [`tail()`] keeps appending to it, so that a rebuild has a moving end.
//! * [`describe()`] says what a log looks like.
//! * [`oracle::Oracle`] and [`expected()`] answer what any aggregate must look
//!   like at any offset, for both versions of the accounts projection.
//!
//! Everything follows from [`SeedParams`]. Each partition has an endless
//! stream of its own, and the n-th event of the stream is the record at offset
//! n: there are no transactions and no markers, so a position in the log is a
//! position in the stream.

mod account;
mod broker;
mod bulk;
mod codec;
mod describe;
mod encode;
mod error;
mod expected;
mod layout;
pub mod oracle;
mod pace;
mod parallel;
mod params;
mod progress;
mod random;
mod record;
mod resume;
mod seed;
mod stored;
mod stream;
mod tail;
mod text;
mod write;
mod zipf;

pub use account::Change;
pub use broker::{Target, end_offsets};
pub use codec::{BATCH_BYTES, Codec, Compression, UnknownCodec};
pub use describe::{Profile, describe};
pub use encode::Encoder;
pub use error::{Cause, SeedError};
pub use expected::{ExpectedFormat, ExpectedOptions, UnknownExpectedFormat, expected};
pub use layout::{Layout, key_of, murmur2, partition_of_key};
pub use params::{InvalidParams, SeedParams};
pub use progress::Progress;
pub use seed::{MIN_BATCH_BYTES, SeedOptions, SeedReport, seed};
pub use stored::stored_params;
pub use stream::{DrawnEvent, PartitionStream};
pub use tail::{TailOptions, TailReport, tail};
pub use write::{Acked, OnAcked};
