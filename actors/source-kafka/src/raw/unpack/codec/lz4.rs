//! LZ4 frames: blocks of their own or linked to those before, straight behind each other.

use lz4_flex::block::decompress_into;
use lz4_flex::block::decompress_into_with_dict;

use super::Fault;
use super::take;
use super::take_array;

const MAGIC: u32 = 0x184d_2204;

const VERSION_BITS: u8 = 0b1100_0000;
const VERSION: u8 = 0b0100_0000;
const INDEPENDENT: u8 = 1 << 5;
const BLOCK_CHECKSUM: u8 = 1 << 4;
const CONTENT_SIZE: u8 = 1 << 3;
const CONTENT_CHECKSUM: u8 = 1 << 2;
const DICTIONARY: u8 = 1;

/// In a block's length: the block is stored as it is.
const STORED: u32 = 1 << 31;

/// How far back a linked block may reach, bytes.
const WINDOW: usize = 64 << 10;

/// No byte of a block yields more than 255; the last ones of a match are in its token.
const LARGEST_RATIO: usize = 255;

/// What a frame's descriptor says.
struct Frame {
    flags: u8,
    /// Largest unpacked block, bytes.
    block_bytes: usize,
    content_bytes: Option<u64>,
}

/// Appends what the frames of `payload` hold; stops soon after `limit` bytes.
pub(super) fn unpack(payload: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), Fault> {
    let end = out.len() + limit;
    let mut rest = payload;
    while !rest.is_empty() {
        let frame = Frame::take(&mut rest)?;
        let start = out.len();
        while frame.block(&mut rest, out, start)? {
            if out.len() > end {
                return Err(Fault::TooLarge(limit + (out.len() - end)));
            }
        }
        if frame.flags & CONTENT_CHECKSUM != 0 {
            take(&mut rest, 4)?;
        }
        let bytes = (out.len() - start) as u64;
        if frame.content_bytes.is_some_and(|claimed| claimed != bytes) {
            return Err(Fault::Malformed("its size is not what its frame says"));
        }
    }
    Ok(())
}

impl Frame {
    fn take(rest: &mut &[u8]) -> Result<Self, Fault> {
        if u32::from_le_bytes(take_array(rest)?) != MAGIC {
            return Err(Fault::Malformed("it does not begin like an LZ4 frame"));
        }
        let [flags, descriptor] = take_array(rest)?;
        if flags & VERSION_BITS != VERSION {
            return Err(Fault::Malformed("its frame has an unknown version"));
        }
        if flags & DICTIONARY != 0 {
            return Err(Fault::Malformed("its frame needs a dictionary"));
        }
        let block_bytes = match descriptor >> 4 & 7 {
            size @ 4..=7 => 1 << (8 + 2 * size),
            _ => return Err(Fault::Malformed("its frame has an unknown block size")),
        };
        let content_bytes = if flags & CONTENT_SIZE != 0 {
            Some(u64::from_le_bytes(take_array(rest)?))
        } else {
            None
        };
        let _descriptor_checksum = take_array::<1>(rest)?;
        Ok(Self {
            flags,
            block_bytes,
            content_bytes,
        })
    }

    /// Unpacks the next block of the frame that began at `start` of `out`;
    /// `false` at the end mark.
    fn block(&self, rest: &mut &[u8], out: &mut Vec<u8>, start: usize) -> Result<bool, Fault> {
        let length = u32::from_le_bytes(take_array(rest)?);
        if length == 0 {
            return Ok(false);
        }
        let block = take(rest, (length & !STORED) as usize)?;
        if self.flags & BLOCK_CHECKSUM != 0 {
            take(rest, 4)?;
        }
        if length & STORED != 0 {
            if block.len() > self.block_bytes {
                return Err(INVALID);
            }
            out.extend_from_slice(block);
            return Ok(true);
        }
        let at = out.len();
        let most = block.len().saturating_mul(LARGEST_RATIO);
        // Zeroing what is overwritten at once costs next to nothing: it brings
        // a block's worth of memory into the cache where it is wanted.
        out.resize(at + self.block_bytes.min(most), 0);
        let (before, space) = out.split_at_mut(at);
        let written = if self.flags & INDEPENDENT != 0 {
            decompress_into(block, space)
        } else {
            let window = start.max(at.saturating_sub(WINDOW));
            decompress_into_with_dict(block, space, &before[window..])
        };
        out.truncate(at + written.map_err(|_| INVALID)?);
        Ok(true)
    }
}

const INVALID: Fault = Fault::Malformed("a block of it is invalid");
