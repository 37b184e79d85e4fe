//! What can be wrong with a batch.

use refold_domain::position::Offset;

use super::codec::Codec;

/// A batch that cannot be delivered. Reading does not go past it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the batch at offset {offset} {kind}")]
pub struct UnpackError {
    /// First offset of the batch, as its header gives it.
    pub offset: Offset,
    /// What is wrong with it.
    pub kind: UnpackErrorKind,
}

/// What is wrong with a batch; completes a sentence that begins with the batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnpackErrorKind {
    /// Written in a format before 2, or one that is not known yet.
    #[error(
        "is in message format {0}, but only format 2 can be read; \
         convert the topic, or read it through librdkafka"
    )]
    Format(i8),
    /// The checksum does not fit the bytes.
    #[error(
        "is damaged: its CRC-32C is {stored:#010x}, but its bytes give {computed:#010x}; \
         check the disk of the partition's leader"
    )]
    Checksum {
        /// What the batch carries.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// Larger than what is unpacked, bytes.
    #[error(
        "takes {bytes} bytes, but at most {limit} are unpacked; \
         read the topic through librdkafka, or write it in smaller batches"
    )]
    TooLarge {
        /// What it takes, or at least takes.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A compression that is not known.
    #[error("is compressed with codec {0}, which is unknown; update this program")]
    UnknownCodec(u8),
    /// The payload does not unpack.
    #[error("does not unpack as {codec}: {reason}; its producer is at fault")]
    Payload {
        /// The codec that its header names.
        codec: Codec,
        /// What the codec met.
        reason: &'static str,
    },
    /// The header contradicts itself or its neighbours.
    #[error("has a header that cannot be: {0}; check the log of the partition's leader")]
    Header(&'static str),
    /// A record does not parse.
    #[error("holds a malformed record (the {number}th): {reason}; its producer is at fault")]
    Record {
        /// Its place in the batch, counted from 1.
        number: u32,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl UnpackErrorKind {
    /// This, in the batch that begins at `offset`.
    pub(super) fn at(self, offset: i64) -> UnpackError {
        UnpackError {
            offset: Offset(offset),
            kind: self,
        }
    }
}
