//! Text that needs no more than one look to be known as UTF-8.
//!
//! The crate's only unsafe code: one conversion of bytes that were found to be ASCII.
#![allow(unsafe_code)]

/// The top bits of all bytes of a window.
const TOP_BITS: u128 = u128::from_ne_bytes([0x80; WIDTH]);

/// Bytes that are looked at together.
const WIDTH: usize = 16;

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

#[cfg(test)]
mod tests {
    use super::text;

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
