//! The header of a record batch, format 2.

use super::error::UnpackErrorKind;
use super::unpacker::MAX_BATCH_BYTES;

/// Bytes before the first record.
pub(super) const HEADER_BYTES: usize = 61;

/// Base offset and length: what the length does not count.
const PREFIX_BYTES: usize = 12;

/// Bytes of a header up to and with the format, which stands at the same place in every format.
const FORMAT_END: usize = 17;

/// Where the bytes begin that the CRC covers.
const CHECKED_FROM: usize = 21;

const CODEC_BITS: i16 = 0b111;
const APPEND_TIME_BIT: i16 = 1 << 3;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;

/// A batch's header. Nothing but the frame is checked by reading it: see [`check`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) base: i64,
    /// Offset of the last record that the batch was written with, inclusive.
    pub(super) last: i64,
    crc: u32,
    attributes: i16,
    /// What the records' timestamps are relative to. In a compacted batch with
    /// a delete horizon it is that horizon, and the records are relative to it.
    pub(super) base_millis: i64,
    max_millis: i64,
    pub(super) producer_id: i64,
    pub(super) records: i32,
}

/// What stands at the head of some bytes.
pub(super) enum Framed {
    /// A whole batch of so many bytes, with its header.
    Whole(Header, usize),
    /// The head of a batch; so many bytes would hold it, or its header.
    Partial(usize),
}

/// First offset of the batch that `bytes` begin with.
pub(super) fn base_offset(bytes: &[u8]) -> Option<i64> {
    bytes.first_chunk().map(|b| i64::from_be_bytes(*b))
}

impl Header {
    /// Looks at the batch that `bytes` begin with.
    pub(super) fn frame(bytes: &[u8]) -> Result<Framed, UnpackErrorKind> {
        let Some(head) = bytes.first_chunk::<FORMAT_END>() else {
            return Ok(Framed::Partial(HEADER_BYTES));
        };
        let format = head[16] as i8;
        if format != 2 {
            return Err(UnpackErrorKind::Format(format));
        }
        let length = i32::from_be_bytes([head[8], head[9], head[10], head[11]]);
        let size = usize::try_from(length).map_or(0, |length| length + PREFIX_BYTES);
        if size < HEADER_BYTES {
            return Err(UnpackErrorKind::Header(
                "its length is less than a header's",
            ));
        }
        if size > MAX_BATCH_BYTES {
            return Err(UnpackErrorKind::TooLarge {
                bytes: size,
                limit: MAX_BATCH_BYTES,
            });
        }
        match bytes.first_chunk::<HEADER_BYTES>() {
            Some(header) if bytes.len() >= size => Ok(Framed::Whole(Self::parse(header)?, size)),
            _ => Ok(Framed::Partial(size)),
        }
    }

    fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, UnpackErrorKind> {
        let i64_at = |at: usize| i64::from_be_bytes(array(bytes, at));
        let i32_at = |at: usize| i32::from_be_bytes(array(bytes, at));
        let base = i64_at(0);
        let last_delta = i32_at(23);
        if base < 0 || last_delta < 0 {
            return Err(UnpackErrorKind::Header("its offsets are negative"));
        }
        // One past the last offset must still be an offset.
        let last = base
            .checked_add(i64::from(last_delta))
            .filter(|last| *last < i64::MAX)
            .ok_or(UnpackErrorKind::Header("its offsets pass the largest one"))?;
        let records = i32_at(57);
        if records < 0 {
            return Err(UnpackErrorKind::Header("its record count is negative"));
        }
        Ok(Self {
            base,
            last,
            crc: u32::from_be_bytes(array(bytes, 17)),
            attributes: i16::from_be_bytes(array(bytes, 21)),
            base_millis: i64_at(27),
            max_millis: i64_at(35),
            producer_id: i64_at(43),
            records,
        })
    }

    /// Compares the CRC with the bytes that it covers; `batch` is the whole batch.
    pub(super) fn check(&self, batch: &[u8]) -> Result<(), UnpackErrorKind> {
        let computed = crc32c::crc32c(&batch[CHECKED_FROM..]);
        if computed == self.crc {
            return Ok(());
        }
        Err(UnpackErrorKind::Checksum {
            stored: self.crc,
            computed,
        })
    }

    /// The codec's number.
    pub(super) fn codec(&self) -> u8 {
        (self.attributes & CODEC_BITS) as u8
    }

    /// The timestamp of every record, if the broker's clock gave it.
    pub(super) fn append_millis(&self) -> Option<i64> {
        (self.attributes & APPEND_TIME_BIT != 0).then_some(self.max_millis)
    }

    pub(super) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    pub(super) fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }
}

fn array<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}
