//! Sixteen bytes of text at one look: whether they are ASCII, and where a JSON string may end.
//!
//! The crate's only unsafe code: one conversion of bytes that were found to be ASCII, and one
//! call of a function that every x86-64 processor can run.
#![allow(unsafe_code)]

/// The top bits of all bytes of a window.
const TOP_BITS: u128 = u128::from_ne_bytes([0x80; WIDTH]);

/// Bytes that are looked at together.
pub(crate) const WIDTH: usize = 16;

/// The first `len` of `bytes`, if they are ASCII and 16 bytes stand there at least.
///
/// A check of the standard library goes byte by byte up to an aligned address,
/// which is somewhere else in every record: a branch that no processor guesses.
#[inline(always)]
pub(crate) fn text(bytes: &[u8], len: usize) -> Option<&str> {
    let text = bytes.get(..len)?;
    let tops = match text.last_chunk::<WIDTH>() {
        // The last window overlaps the one before it.
        Some(last) => {
            let whole = text.chunks_exact(WIDTH);
            whole.fold(word(last), |tops, chunk| {
                tops | chunk.first_chunk().map_or(u128::MAX, word)
            })
        }
        // The lowest `len` bytes of a window that goes on behind the text.
        None => word(bytes.first_chunk()?) & (1_u128 << (8 * len)).wrapping_sub(1),
    };
    if tops & TOP_BITS != 0 {
        return None;
    }
    // SAFETY: all of `text`, and nothing else that counts, went into `tops`; no byte of it has
    // its top bit set, such bytes are ASCII, and ASCII is UTF-8.
    Some(unsafe { std::str::from_utf8_unchecked(text) })
}

#[inline(always)]
fn word(window: &[u8; WIDTH]) -> u128 {
    u128::from_le_bytes(*window)
}

/// A bit for every byte that ends the plain part of a JSON string: a quote, a backslash or a
/// control character. The lowest bit is the first byte's.
#[inline(always)]
pub(crate) fn specials(block: &[u8; WIDTH]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the function needs SSE2, which is part of x86-64.
    let specials = unsafe { specials_sse2(word(block)) };
    #[cfg(not(target_arch = "x86_64"))]
    let specials = specials_of_each(block);
    specials
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
fn specials_sse2(block: u128) -> u32 {
    use std::arch::x86_64::*;
    let block = _mm_set_epi64x((block >> 64) as i64, block as i64);
    let quote = _mm_cmpeq_epi8(block, _mm_set1_epi8(b'"' as i8));
    let backslash = _mm_cmpeq_epi8(block, _mm_set1_epi8(b'\\' as i8));
    // What the smaller one of the byte and the last control character leaves as it is.
    let control = _mm_cmpeq_epi8(_mm_min_epu8(block, _mm_set1_epi8(0x1f)), block);
    _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), control)) as u32
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn specials_of_each(block: &[u8; WIDTH]) -> u32 {
    let bytes = block.iter().enumerate();
    bytes.fold(0, |bits, (at, byte)| {
        bits | u32::from(matches!(byte, b'"' | b'\\' | 0..0x20)) << at
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_in_every_place_is_special_or_not() {
        for at in 0..WIDTH {
            for byte in 0..=u8::MAX {
                let mut block = *b"0123456789abcdef";
                block[at] = byte;
                assert_eq!(specials(&block), specials_of_each(&block), "{byte} at {at}");
            }
        }
    }

    #[test]
    fn text_is_taken_when_every_byte_is_ascii() {
        let mut bytes = *b"Deposited by a company with a name that is longer than any window";
        for len in 0..=bytes.len() {
            let whole = std::str::from_utf8(&bytes[..len]).expect("it is ASCII");
            assert_eq!(text(&bytes, len), Some(whole));
        }
        for at in 0..bytes.len() {
            bytes[at] |= 0x80;
            for len in 0..=bytes.len() {
                assert_eq!(text(&bytes, len).is_some(), len <= at, "{at} of {len}");
            }
            bytes[at] &= 0x7f;
        }
    }

    #[test]
    fn text_outside_of_the_bytes_or_too_near_to_their_end_is_not() {
        let bytes = *b"twenty bytes of text";
        assert_eq!(text(&bytes, 21), None);
        assert_eq!(text(&bytes[..15], 3), None);
        assert_eq!(text(&bytes[..16], 3), Some("twe"));
    }
}
