//! Where the marks of JSON stand in sixty-four bytes of text, all of them at one look.
//!
//! Beside `ascii`, the only place with unsafe code: calls of functions that need an instruction
//! set, behind the question whether the processor has it.
#![allow(unsafe_code)]

/// Bytes that are looked at together: a bit each in a [`Marks`].
pub(crate) const WIDTH: usize = 64;

/// A bit for every byte that is such a mark. The lowest bit is the first byte's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// `"`
    pub(crate) quotes: u64,
    /// `,`
    pub(crate) commas: u64,
    /// `:`
    pub(crate) colons: u64,
    /// Backslashes and control characters, which no plain string holds.
    pub(crate) breaks: u64,
}

impl Marks {
    /// The marks behind the first `count` bytes, counted from there; `count` is below [`WIDTH`].
    #[inline(always)]
    pub(crate) fn behind(self, count: usize) -> Self {
        Self {
            quotes: self.quotes >> count,
            commas: self.commas >> count,
            colons: self.colons >> count,
            breaks: self.breaks >> count,
        }
    }

    /// Those among the bytes of `mask`.
    #[inline(always)]
    pub(crate) fn within(self, mask: u64) -> Self {
        Self {
            quotes: self.quotes & mask,
            commas: self.commas & mask,
            colons: self.colons & mask,
            breaks: self.breaks & mask,
        }
    }
}

/// What is done with the marks of many blocks, in the terms of one instruction set.
pub(crate) trait Work {
    type Outcome;

    /// `marks` finds the marks of a block. `parities` has a bit for every place up to which, itself
    /// included, an odd number of bits is set.
    fn work(
        self,
        marks: impl Fn(&[u8; WIDTH]) -> Marks,
        parities: impl Fn(u64) -> u64,
    ) -> Self::Outcome;
}

/// Does `work` with the widest instructions that the processor has.
#[inline]
pub(crate) fn with_widest<W: Work>(work: W) -> W::Outcome {
    #[cfg(target_arch = "x86_64")]
    {
        if wide::is_there() {
            // SAFETY: the processor has what the function needs.
            return unsafe { wide::with(work) };
        }
        narrow::with(work)
    }
    #[cfg(not(target_arch = "x86_64"))]
    work.work(marks_of_each, parities_by_shifts)
}

/// What every way there is makes of it.
#[cfg(test)]
pub(crate) fn with_each<W: Work + Clone>(work: &W) -> Vec<W::Outcome> {
    vec![
        work.clone().work(marks_of_each, parities_by_shifts),
        #[cfg(target_arch = "x86_64")]
        narrow::with(work.clone()),
        with_widest(work.clone()),
    ]
}

#[inline(always)]
fn parities_by_shifts(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn marks_of_each(block: &[u8; WIDTH]) -> Marks {
    let bits = |is: fn(u8) -> bool| {
        let bytes = block.iter().enumerate();
        bytes.fold(0, |bits, (at, byte)| bits | u64::from(is(*byte)) << at)
    };
    Marks {
        quotes: bits(|byte| byte == b'"'),
        commas: bits(|byte| byte == b','),
        colons: bits(|byte| byte == b':'),
        breaks: bits(|byte| matches!(byte, b'\\' | 0..0x20)),
    }
}

/// With SSE2, which is part of x86-64.
#[cfg(target_arch = "x86_64")]
mod narrow {
    use std::arch::x86_64::*;

    use super::{Marks, WIDTH, Work, parities_by_shifts};

    #[inline(always)]
    pub(super) fn with<W: Work>(work: W) -> W::Outcome {
        // SAFETY: the function needs SSE2.
        work.work(|block| unsafe { marks(block) }, parities_by_shifts)
    }

    #[target_feature(enable = "sse2")]
    #[inline]
    fn marks(block: &[u8; WIDTH]) -> Marks {
        let mut marks = Marks::default();
        for (nth, lane) in block.as_chunks::<16>().0.iter().enumerate() {
            let word = u128::from_le_bytes(*lane);
            let lane = _mm_set_epi64x((word >> 64) as i64, word as i64);
            let bits = |found: __m128i| u64::from(_mm_movemask_epi8(found) as u32) << (16 * nth);
            let are = |byte: u8| _mm_cmpeq_epi8(lane, _mm_set1_epi8(byte as i8));
            // What the smaller one of the byte and the last control character leaves as it is.
            let control = _mm_cmpeq_epi8(_mm_min_epu8(lane, _mm_set1_epi8(0x1f)), lane);
            marks.quotes |= bits(are(b'"'));
            marks.commas |= bits(are(b','));
            marks.colons |= bits(are(b':'));
            marks.breaks |= bits(_mm_or_si128(are(b'\\'), control));
        }
        marks
    }
}

/// With AVX2 and the multiplication without carries, which processors have since 2013.
#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::*;

    use super::{Marks, WIDTH, Work};

    #[inline(always)]
    pub(super) fn is_there() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("pclmulqdq")
    }

    #[target_feature(enable = "avx2,pclmulqdq")]
    pub(super) fn with<W: Work>(work: W) -> W::Outcome {
        work.work(|block| marks(block), |bits| parities(bits))
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn marks(block: &[u8; WIDTH]) -> Marks {
        let mut marks = Marks::default();
        for (nth, lane) in block.as_chunks::<32>().0.iter().enumerate() {
            // SAFETY: 32 bytes stand there, and the load wants no alignment.
            let lane = unsafe { _mm256_loadu_si256(lane.as_ptr().cast()) };
            let bits = |found: __m256i| u64::from(_mm256_movemask_epi8(found) as u32) << (32 * nth);
            let are = |byte: u8| _mm256_cmpeq_epi8(lane, _mm256_set1_epi8(byte as i8));
            let control = _mm256_cmpeq_epi8(_mm256_min_epu8(lane, _mm256_set1_epi8(0x1f)), lane);
            marks.quotes |= bits(are(b'"'));
            marks.commas |= bits(are(b','));
            marks.colons |= bits(are(b':'));
            marks.breaks |= bits(_mm256_or_si256(are(b'\\'), control));
        }
        marks
    }

    /// A product without carries by ones everywhere adds up, for each place, the bits up to it.
    #[target_feature(enable = "pclmulqdq")]
    #[inline]
    fn parities(bits: u64) -> u64 {
        let product = _mm_clmulepi64_si128::<0>(_mm_set_epi64x(0, bits as i64), _mm_set1_epi8(-1));
        _mm_cvtsi128_si64(product) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the functions answer for a block and its quotes.
    #[derive(Clone)]
    struct Look<'a>(&'a [u8; WIDTH]);

    impl Work for Look<'_> {
        type Outcome = (Marks, u64);

        fn work(
            self,
            marks: impl Fn(&[u8; WIDTH]) -> Marks,
            parities: impl Fn(u64) -> u64,
        ) -> Self::Outcome {
            let marks = marks(self.0);
            (marks, parities(marks.quotes))
        }
    }

    #[test]
    fn every_byte_in_every_place_is_what_it_is() {
        for at in 0..WIDTH {
            for byte in 0..=u8::MAX {
                let mut block = [b'a'; WIDTH];
                block[at] = byte;
                let each = marks_of_each(&block);
                for (seen, _) in with_each(&Look(&block)) {
                    assert_eq!(seen, each, "{byte} at {at}");
                }
            }
        }
    }

    #[test]
    fn a_parity_counts_the_bits_up_to_its_place() {
        let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..1_000 {
            bits = bits.wrapping_mul(0xd129_0c4c_6b5a_9b25).rotate_left(17);
            let block = std::array::from_fn(|at| match bits >> at & 1 {
                0 => b' ',
                _ => b'"',
            });
            let counted = (0..64).fold(0_u64, |seen, at| {
                let upto = bits << (63 - at);
                seen | u64::from(upto.count_ones() % 2 == 1) << at
            });
            for (marks, parities) in with_each(&Look(&block)) {
                assert_eq!((marks.quotes, parities), (bits, counted));
            }
        }
    }

    #[test]
    fn marks_are_counted_from_where_they_are_wanted() {
        let mut block = [b' '; WIDTH];
        block[..8].copy_from_slice(b"\",:\\\",:\\");
        let marks = marks_of_each(&block);
        assert_eq!(marks.behind(4), marks.within(0xf));
        assert_eq!(marks.behind(4).quotes, 1);
        assert_eq!(marks.behind(5).breaks, 0b100);
    }
}
