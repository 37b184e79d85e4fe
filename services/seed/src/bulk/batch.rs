//! Building record batches: format 2, without a producer id.

use std::io::{self, Write};

use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};

use crate::codec::{Codec, Compression};
use crate::record::{BATCH_HEADER, push_record};
use crate::seed::MIN_BATCH_BYTES;

/// A whole batch, ready to be sent, and again if need be.
#[derive(Debug)]
pub(super) struct Batch {
    /// Offset that its first record has in the stream.
    pub(super) base: u64,
    /// Records in it.
    pub(super) count: u32,
    /// Header and compressed records.
    pub(super) bytes: Vec<u8>,
}

impl Batch {
    /// Offset after its last record.
    pub(super) fn end(&self) -> u64 {
        self.base + u64::from(self.count)
    }
}

/// Collects the records of the next batch.
pub(super) struct Builder {
    compressor: Compressor,
    /// Record bytes after which the batch is closed.
    batch_bytes: usize,
    records: Vec<u8>,
    compressed: Vec<u8>,
    count: u32,
    first_ms: i64,
    last_ms: i64,
}

enum Compressor {
    None,
    Lz4,
    Zstd(zstd::bulk::Compressor<'static>),
}

/// What the client takes when no level is asked for.
pub(crate) const ZSTD_LEVEL: i32 = 3;

impl Builder {
    /// `None` for what only the client library can compress.
    pub(super) fn new(compression: Compression, batch_bytes: usize) -> Option<io::Result<Self>> {
        let compressor = match (compression.codec(), compression.level()) {
            (Codec::None, _) => Ok(Compressor::None),
            (Codec::Lz4, None | Some(0)) => Ok(Compressor::Lz4),
            (Codec::Zstd, level) => {
                let level = level.map_or(ZSTD_LEVEL, i32::from);
                zstd::bulk::Compressor::new(level).map(Compressor::Zstd)
            }
            (Codec::Lz4 | Codec::Gzip | Codec::Snappy, _) => return None,
        };
        Some(compressor.map(|compressor| Self {
            compressor,
            batch_bytes: batch_bytes.max(MIN_BATCH_BYTES),
            records: Vec::new(),
            compressed: Vec::new(),
            count: 0,
            first_ms: 0,
            last_ms: 0,
        }))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn is_full(&self) -> bool {
        self.records.len() >= self.batch_bytes
    }

    /// Adds a record. Timestamps ascend.
    #[inline]
    pub(super) fn push(&mut self, key: &[u8], value: &[u8], timestamp_ms: i64) {
        if self.count == 0 {
            self.first_ms = timestamp_ms;
        }
        self.last_ms = timestamp_ms;
        let deltas = (timestamp_ms - self.first_ms, i64::from(self.count));
        push_record(&mut self.records, deltas, key, value);
        self.count += 1;
    }

    /// Closes the batch into `bytes`, whose content is replaced.
    ///
    /// # Errors
    /// What the codec reports; compressing in memory has no reason to fail.
    pub(super) fn seal(&mut self, base: u64, mut bytes: Vec<u8>) -> io::Result<Batch> {
        let (codec, records) = match &mut self.compressor {
            Compressor::None => (0_i16, &self.records),
            Compressor::Lz4 => {
                self.compressed.clear();
                // Blocks that depend on each other are refused by brokers.
                let info = FrameInfo::new().block_size(BlockSize::Max64KB);
                let mut frame = FrameEncoder::with_frame_info(info, &mut self.compressed);
                frame.write_all(&self.records)?;
                frame.finish()?;
                (3, &self.compressed)
            }
            Compressor::Zstd(zstd) => {
                let bound = zstd::zstd_safe::compress_bound(self.records.len());
                self.compressed.clear();
                self.compressed.reserve(bound);
                zstd.compress_to_buffer(&self.records, &mut self.compressed)?;
                (4, &self.compressed)
            }
        };
        bytes.clear();
        // Base offset: the broker puts in its own.
        bytes.extend_from_slice(&0_i64.to_be_bytes());
        let length = BATCH_HEADER - 12 + records.len();
        bytes.extend_from_slice(&(length as i32).to_be_bytes());
        // Leader epoch, again the broker's; format 2; room for the checksum.
        bytes.extend_from_slice(&(-1_i32).to_be_bytes());
        bytes.push(2);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&codec.to_be_bytes());
        bytes.extend_from_slice(&(self.count as i32 - 1).to_be_bytes());
        bytes.extend_from_slice(&self.first_ms.to_be_bytes());
        bytes.extend_from_slice(&self.last_ms.to_be_bytes());
        // No producer id, no producer epoch, no sequence.
        bytes.extend_from_slice(&[0xff; 8 + 2 + 4]);
        bytes.extend_from_slice(&self.count.to_be_bytes());
        bytes.extend_from_slice(records);
        let sum = crc32c::crc32c(&bytes[CHECKED_FROM..]);
        bytes[CHECKED_FROM - 4..CHECKED_FROM].copy_from_slice(&sum.to_be_bytes());
        let count = std::mem::take(&mut self.count);
        self.records.clear();
        Ok(Batch { base, count, bytes })
    }
}

/// The checksum covers everything from the attributes on.
const CHECKED_FROM: usize = 21;
