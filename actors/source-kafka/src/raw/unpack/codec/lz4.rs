//! LZ4 frames: blocks of their own or linked to those before, straight behind each other.
//!
//! The blocks are unpacked by the library of the format's author. Nothing else in a rebuild takes
//! as much of the processors; it is a fifth faster than `lz4_flex` on the events of
//! `examples/unpack_rate`; it writes into room that nobody has cleared before.
#![allow(unsafe_code)]

use std::ffi::c_char;
use std::ffi::c_int;

// For the library that is linked with it: the function below is not among those that it declares.
use lz4_sys as _;

use super::Fault;
use super::take;
use super::take_array;

unsafe extern "C" {
    /// Unpacks a block that may refer to what stands in front of its target. The number of bytes
    /// written, which is at most `target_bytes`, or a negative one for what is no such block.
    fn LZ4_decompress_safe_usingDict(
        source: *const c_char,
        target: *mut c_char,
        source_bytes: c_int,
        target_bytes: c_int,
        window: *const c_char,
        window_bytes: c_int,
    ) -> c_int;
}

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
        let window = match self.flags & INDEPENDENT {
            0 => start.max(at.saturating_sub(WINDOW)),
            _ => at,
        };
        if !append_block(block, out, window, self.block_bytes.min(most)) {
            return Err(INVALID);
        }
        Ok(true)
    }
}

/// Unpacks a block behind what is in `out`, to at most `room` bytes; it may reach back to what
/// stands from `window` on. Tells whether it is a block that does; if not, `out` is as it was.
fn append_block(block: &[u8], out: &mut Vec<u8>, window: usize, room: usize) -> bool {
    let at = out.len();
    let (Ok(block_bytes), Ok(room_bytes), Ok(window_bytes)) = (
        c_int::try_from(block.len()),
        c_int::try_from(room),
        c_int::try_from(at.saturating_sub(window)),
    ) else {
        return false;
    };
    out.reserve(room);
    let target = out.as_mut_ptr();
    // SAFETY: the block may be read for `block_bytes`; behind the first `at` bytes of `out` room
    // was made for `room_bytes`, which the function writes at most, whatever the block holds; and
    // the `window_bytes` in front of them have been written.
    let written = unsafe {
        LZ4_decompress_safe_usingDict(
            block.as_ptr().cast(),
            target.add(at).cast(),
            block_bytes,
            room_bytes,
            target.add(at - window_bytes as usize).cast(),
            window_bytes,
        )
    };
    match usize::try_from(written) {
        Ok(written) if written <= room => {
            // SAFETY: that much of the room was written.
            unsafe { out.set_len(at + written) };
            true
        }
        _ => false,
    }
}

const INVALID: Fault = Fault::Malformed("a block of it is invalid");
