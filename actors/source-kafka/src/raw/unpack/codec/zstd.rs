//! Zstandard: one or more frames, with or without their content's size.

use std::io::Cursor;

use zstd::zstd_safe;
use zstd_safe::DCtx;
use zstd_safe::zstd_sys::ZSTD_ErrorCode;

use super::Fault;
use super::take;
use super::take_array;

const MAGIC: u32 = 0xfd2f_b528;

/// Sixteen magic numbers of frames that are to be skipped; the lowest four bits differ.
const SKIPPABLE: u32 = 0x184d_2a50;

/// Largest unpacked block, bytes.
const BLOCK_BYTES: usize = 128 << 10;

/// What is expected of the first payload: unpacked bytes per byte of payload.
const USUAL_RATIO: usize = 8;

/// The largest ratio for which room is made before it was seen, so that a
/// payload's claim costs no more memory than this many times its own length.
const LARGEST_GUESS: usize = 64;

/// Least room that is made, bytes.
const LEAST_ROOM: usize = 4 << 10;

/// Unpacks zstd; keeps its context.
///
/// A whole payload is unpacked by one call into memory that is large enough:
/// the streaming calls go through a window of their own and copy once more.
/// Producers stream, so frames seldom say their size; the ratio of the batch
/// before is a good guess for the next one, and a wrong guess costs a second
/// try. A damaged block can seem to lack room whatever room there is, so the
/// tries end at what the frames' blocks can hold at most.
pub(super) struct Zstd {
    context: Option<DCtx<'static>>,
    ratio: usize,
}

impl Default for Zstd {
    fn default() -> Self {
        Self {
            context: None,
            ratio: USUAL_RATIO,
        }
    }
}

impl Zstd {
    pub(super) fn unpack(
        &mut self,
        payload: &[u8],
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), Fault> {
        let start = out.len();
        let most = most_unpacked(payload);
        let mut room = self.guess(payload).min(most);
        loop {
            out.reserve(room);
            let space = out.capacity() - start;
            let mut behind = Cursor::new(&mut *out);
            behind.set_position(start as u64);
            let context = self.context.get_or_insert_with(DCtx::create);
            match context.decompress(&mut behind, payload) {
                Ok(bytes) => {
                    // A quarter more: batches of one topic differ by less.
                    self.ratio = (bytes + bytes / 4) / payload.len().max(1) + 1;
                    return Ok(());
                }
                Err(code) if !is_too_small(code) => {
                    return Err(Fault::Malformed(zstd_safe::get_error_name(code)));
                }
                Err(_) if space > limit => return Err(Fault::TooLarge(space)),
                Err(_) if space >= most => {
                    return Err(Fault::Malformed(
                        "a block of it is larger than blocks may be",
                    ));
                }
                Err(_) => room = space.saturating_mul(2).min(most).min(limit + 1),
            }
        }
    }

    /// Room for a payload, bytes.
    fn guess(&self, payload: &[u8]) -> usize {
        let most = payload.len().saturating_mul(LARGEST_GUESS);
        let expected = payload.len().saturating_mul(self.ratio);
        let claimed = zstd_safe::get_frame_content_size(payload).ok().flatten();
        let room = claimed.and_then(|bytes| usize::try_from(bytes).ok());
        room.unwrap_or(expected).min(most).max(LEAST_ROOM)
    }
}

/// Whether an error says that the output did not fit.
fn is_too_small(code: zstd_safe::ErrorCode) -> bool {
    // The library returns its error numbers, which are fixed, negated.
    code == 0_usize.wrapping_sub(ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall as usize)
}

/// What the blocks of a payload's frames can hold at most, bytes; of a payload
/// that is damaged, those before the damage.
fn most_unpacked(payload: &[u8]) -> usize {
    let mut rest = payload;
    let mut most = LEAST_ROOM;
    while !rest.is_empty() && pass_frame(&mut rest, &mut most).is_ok() {}
    most
}

/// Passes a frame and adds what its blocks can hold.
fn pass_frame(rest: &mut &[u8], most: &mut usize) -> Result<(), Fault> {
    let magic = u32::from_le_bytes(take_array(rest)?);
    if magic & !0xf == SKIPPABLE {
        let length = u32::from_le_bytes(take_array(rest)?);
        take(rest, length as usize)?;
        return Ok(());
    }
    if magic != MAGIC {
        return Err(Fault::Malformed("it does not begin like a Zstandard frame"));
    }
    let [descriptor] = take_array(rest)?;
    let single_segment = usize::from(descriptor >> 5 & 1);
    let window = 1 - single_segment;
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let content_size = [single_segment, 2, 4, 8][usize::from(descriptor >> 6)];
    take(rest, window + dictionary + content_size)?;
    loop {
        let [low, middle, high] = take_array(rest)?;
        let header = u32::from_le_bytes([low, middle, high, 0]);
        let size = (header >> 3) as usize;
        // Stored, one byte repeated, or compressed.
        let (held, length) = match header >> 1 & 3 {
            0 => (size, size),
            1 => (size, 1),
            _ => (BLOCK_BYTES, size),
        };
        *most += held.min(BLOCK_BYTES);
        take(rest, length)?;
        if header & 1 != 0 {
            break;
        }
    }
    let checksum = if descriptor & 4 != 0 { 4 } else { 0 };
    take(rest, checksum)?;
    Ok(())
}
