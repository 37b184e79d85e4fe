//! Apache Kafka as Refold's log.
//!
//! ```text
//! KafkaSource --- identity, watermarks ---> a client that asks, never reads
//!     |
//!     +- open(Bulk) -> RawReader -> a connection of its own to the partition's leader
//!     |        or, by choice, KafkaReader -> PartitionFeed -> a client of its own
//!     +- open(Tail) -> KafkaReader -> PartitionFeed -> a client shared by all tail readers
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | `config` | what a user may say about the connection, and what is refused |
//! | `settings` | every librdkafka setting that Refold forces, with its reason |
//! | `client` | one librdkafka client, its log lines and its errors |
//! | `question` | identity and watermarks, asked from the broker with a deadline |
//! | `failure` | which error means what |
//! | `feed` | the one module that calls librdkafka's C interface: batches of one partition |
//! | `reader` | the `ChunkReader` over a feed |
//! | `raw` | the bulk reader on Kafka's protocol: connections, requests, batches unpacked in place |
//! | `group` | membership of a consumer group, which shares partitions out and nothing else |
//! | `witness` | the plain reader of those who testify about the others |
//! | `tail` | which tail client a partition is read through |
//! | `wait` | librdkafka's waits, by a clock that nobody sets |
//!
//! Partitions are read through librdkafka's consumer *without* a group: a
//! client that knows no group cannot join one, commit to one, wait for a
//! coordinator, or need rights on one. Positions are the caller's alone.

mod client;
mod config;
mod failure;
mod feed;
mod group;
mod question;
#[doc(hidden)]
pub mod raw;
mod reader;
mod settings;
mod source;
mod tail;
#[cfg(test)]
mod testing;
mod wait;
mod witness;

pub use config::BulkClient;
pub use config::ConfigError;
pub use config::KafkaConfig;
pub use group::GroupProtocol;
pub use group::KafkaGroup;
pub use source::KafkaSource;
pub use witness::each_record;
