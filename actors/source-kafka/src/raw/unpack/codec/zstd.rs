//! Zstandard: one or more frames, with or without their content's size.

use std::io::Cursor;

use zstd::zstd_safe;
use zstd_safe::DCtx;
use zstd_safe::zstd_sys::ZSTD_ErrorCode;

use super::Fault;

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
/// before is a good guess for the next one, and a wrong guess costs a second try.
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
        let mut room = self.guess(payload);
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
                // More than `space` would have been written, so memory stays
                // within twice of what there is to unpack.
                Err(_) => room = space.saturating_mul(2).min(limit + 1),
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
