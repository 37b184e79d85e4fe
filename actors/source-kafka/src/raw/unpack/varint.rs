//! The numbers inside records: base 128, low groups first, zigzag.

/// Reads a number of at most 32 bits at `at` and moves behind it; `None` when
/// the bytes end first or the number is longer.
#[inline(always)]
pub(super) fn read_i32(bytes: &[u8], at: &mut usize) -> Option<i32> {
    match read_short(bytes, at)? {
        Some(short) => Some(unzigzag(short)),
        None => read_wide(bytes, at, 32).map(|wide| unzigzag(wide as u32)),
    }
}

/// Reads a number of at most 64 bits at `at` and moves behind it; `None` when
/// the bytes end first or the number is longer.
#[inline(always)]
pub(super) fn read_i64(bytes: &[u8], at: &mut usize) -> Option<i64> {
    match read_short(bytes, at)? {
        Some(short) => Some(i64::from(unzigzag(short))),
        None => {
            let wide = read_wide(bytes, at, 64)?;
            Some((wide >> 1) as i64 ^ -((wide & 1) as i64))
        }
    }
}

/// Reads a number of one or two bytes, which nearly all lengths and deltas
/// are, and moves behind it; `Some(None)` for a longer one.
#[inline(always)]
fn read_short(bytes: &[u8], at: &mut usize) -> Option<Option<u32>> {
    let low = *bytes.get(*at)?;
    if low < 0x80 {
        *at += 1;
        return Some(Some(u32::from(low)));
    }
    let high = *bytes.get(*at + 1)?;
    if high < 0x80 {
        *at += 2;
        return Some(Some(u32::from(low & 0x7f) | u32::from(high) << 7));
    }
    Some(None)
}

fn unzigzag(n: u32) -> i32 {
    (n >> 1) as i32 ^ -((n & 1) as i32)
}

#[inline(never)]
fn read_wide(bytes: &[u8], at: &mut usize, bits: u32) -> Option<u64> {
    let mut wide = 0_u64;
    let mut shift = 0;
    for (index, byte) in bytes.get(*at..)?.iter().enumerate() {
        let group = u64::from(byte & 0x7f);
        // The last group may hold fewer bits than seven.
        if shift >= bits || (bits - shift < 7 && group >> (bits - shift) != 0) {
            return None;
        }
        wide |= group << shift;
        if *byte < 0x80 {
            *at += index + 1;
            return Some(wide);
        }
        shift += 7;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(mut wide: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while wide >= 0x80 {
            out.push(wide as u8 | 0x80);
            wide >>= 7;
        }
        out.push(wide as u8);
        out
    }

    fn zigzag(n: i64) -> u64 {
        (n << 1) as u64 ^ (n >> 63) as u64
    }

    #[test]
    fn every_length_of_number_is_read_back() {
        for bits in 0..64 {
            for n in [(1_i64 << bits).wrapping_sub(1), 1 << bits, !(1 << bits)] {
                let bytes = encode(zigzag(n));
                let mut at = 0;
                assert_eq!(read_i64(&bytes, &mut at), Some(n));
                assert_eq!(at, bytes.len());
                let mut at = 0;
                let narrow = i32::try_from(n).ok();
                assert_eq!(read_i32(&bytes, &mut at), narrow, "{n}");
                assert_eq!(at, narrow.map_or(0, |_| bytes.len()));
            }
        }
    }

    #[test]
    fn a_number_that_is_cut_or_too_long_is_refused() {
        for cut in [&[][..], &[0x80], &[0xff, 0xff], &[0x80; 9]] {
            assert_eq!(read_i32(cut, &mut 0), None, "{cut:?}");
            assert_eq!(read_i64(cut, &mut 0), None, "{cut:?}");
        }
        assert_eq!(read_i32(&[0xff, 0xff, 0xff, 0xff, 0x10], &mut 0), None);
        assert_eq!(
            read_i32(&[0xff, 0xff, 0xff, 0xff, 0x0f], &mut 0),
            Some(i32::MIN)
        );
        let mut ten = [0xff; 10];
        ten[9] = 2;
        assert_eq!(read_i64(&ten, &mut 0), None);
        ten[9] = 1;
        assert_eq!(read_i64(&ten, &mut 0), Some(i64::MIN));
        assert_eq!(read_i64(&[0x80; 11], &mut 0), None);
        assert_eq!(read_i32(&[], &mut 7), None);
    }
}
