//! From the record bytes of Fetch answers to chunks: checked, decompressed and
//! walked in place. Pure: bytes in, chunks out.
//!
//! ```text
//! accept: answer --- batch headers ---> queue, next_fetch
//! fill:   queue -> batch -> CRC -> skip (marker, aborted, empty, passed)?
//!                            |
//!                            +-> codec -> chunk's buffer -> walk -> spans
//!                                  |                         | the limit cuts the batch
//!                                  +-> leftover <------------+
//!                                         +-> walk -> copies, into the next chunk
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | `unpacker` | the queue of answers and what a fill does with it |
//! | `answer` | one answer: its batches in order, its aborted transactions |
//! | `header` | the 61 bytes before a batch's records |
//! | `aborted` | which transactional batches are to be skipped |
//! | `walk` | the records of an unpacked batch |
//! | `varint` | the numbers inside records |
//! | `codec` | none, gzip, snappy, lz4 and zstd |
//! | `error` | what can be wrong with a batch |
//!
//! What the CRC does not cover is a batch's place: its base offset, its length,
//! its leader epoch and its format. A wrong format or length fails at once. A
//! wrong base offset cannot be told from a compaction hole by one batch alone,
//! but batches of an answer must stand in order, and both neighbours of a
//! disorder are refused.

mod aborted;
mod answer;
mod codec;
mod error;
mod header;
mod unpacker;
mod varint;
mod walk;

pub use aborted::AbortedTransaction;
pub use codec::Codec;
pub use error::UnpackError;
pub use error::UnpackErrorKind;
pub use unpacker::Filled;
pub use unpacker::MAX_BATCH_BYTES;
pub use unpacker::Unpacker;
