//! Records as they stand in a batch of Kafka's format 2.

/// Bytes of a batch in front of its records.
pub(crate) const BATCH_HEADER: usize = 61;

/// Appends one record without headers. The deltas are those to the first
/// record of the batch.
#[inline]
pub(crate) fn push_record(
    out: &mut Vec<u8>,
    (timestamp_delta, offset_delta): (i64, i64),
    key: &[u8],
    value: &[u8],
) {
    let length = 1
        + zigzag_len(timestamp_delta)
        + zigzag_len(offset_delta)
        + zigzag_len(key.len() as i64)
        + key.len()
        + zigzag_len(value.len() as i64)
        + value.len()
        + 1;
    zigzag(out, length as i64);
    // No attributes are defined.
    out.push(0);
    zigzag(out, timestamp_delta);
    zigzag(out, offset_delta);
    zigzag(out, key.len() as i64);
    out.extend_from_slice(key);
    zigzag(out, value.len() as i64);
    out.extend_from_slice(value);
    // No headers.
    out.push(0);
}

fn folded(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn zigzag_len(value: i64) -> usize {
    let bits = u64::BITS - (folded(value) | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

fn zigzag(out: &mut Vec<u8>, value: i64) {
    let mut rest = folded(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_number_is_known_before_it_is_written() {
        let edges = (0..63).flat_map(|bit| [1_i64 << bit, (1 << bit) - 1, -(1 << bit)]);
        for value in edges.chain([i64::MIN, i64::MAX]) {
            let mut out = Vec::new();
            zigzag(&mut out, value);
            assert_eq!(out.len(), zigzag_len(value), "{value}");
        }
    }

    #[test]
    fn a_record_is_laid_out_as_the_format_says() {
        let mut out = Vec::new();
        push_record(&mut out, (-1, 64), b"7", b"ab");
        let expected = [10 * 2, 0, 1, 0x80, 1, 2, b'7', 4, b'a', b'b', 0];
        assert_eq!(out, expected);
    }
}
