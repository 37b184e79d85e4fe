//! Reading the plain JSON that producers write, in one pass and in place.
//!
//! A log holds millions of events that look alike: members in any order, strings without an
//! escape, integers. [`Scan`] reads those and nothing else. At the first thing that is
//! not plain (an escape, a number with an exponent, a `null`, nesting beyond
//! [`MAX_NESTING`], and every error) it answers `None`, and the caller starts again with
//! `serde_json`, which alone decides what is refused and why. So whatever is read here has
//! to be what `serde_json` reads: the tests in `json_differential` hold it to that, on built
//! and on mutated text.

use crate::ascii::{WIDTH, specials};
use crate::only_text;

/// How deep passed-over values may nest here.
const MAX_NESTING: u32 = 32;

/// A position in a JSON text.
pub(crate) struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Behind the first `at` bytes.
    #[cfg(test)]
    pub(crate) fn behind(text: &'a str, at: usize) -> Self {
        Self { text, at }
    }

    #[inline(always)]
    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    /// The next byte that is not white space, not taken.
    #[inline(always)]
    fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes().get(self.at)?;
            if !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    #[inline(always)]
    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    #[inline(always)]
    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.take()? == byte).then_some(())
    }

    /// Nothing but white space is left.
    #[inline]
    pub(crate) fn end(&mut self) -> Option<()> {
        self.peek().is_none().then_some(())
    }

    /// An object. `member` is called with every name and has to read the value.
    #[inline]
    pub(crate) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &'a str) -> Option<()>,
    ) -> Option<()> {
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            let name = self.string()?;
            self.expect(b':')?;
            member(self, name)?;
            match self.take()? {
                b',' => {}
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }

    /// A string without an escape.
    #[inline(always)]
    pub(crate) fn string(&mut self) -> Option<&'a str> {
        self.expect(b'"')?;
        let start = self.at;
        self.seek_quote()?;
        let text = self.text.get(start..self.at)?;
        self.at += 1;
        Some(text)
    }

    /// Moves to the closing quote, sixteen bytes at a time.
    #[inline(always)]
    fn seek_quote(&mut self) -> Option<()> {
        let bytes = self.bytes();
        while let Some(block) = bytes.get(self.at..).and_then(<[u8]>::first_chunk) {
            let specials = specials(block);
            if specials != 0 {
                self.at += specials.trailing_zeros() as usize;
                return (bytes[self.at] == b'"').then_some(());
            }
            self.at += WIDTH;
        }
        loop {
            match *bytes.get(self.at)? {
                b'"' => return Some(()),
                b'\\' | 0..0x20 => return None,
                _ => self.at += 1,
            }
        }
    }

    /// Passes over `literal`, if exactly that comes next.
    #[inline(always)]
    pub(crate) fn literal<const N: usize>(&mut self, literal: &[u8; N]) -> Option<()> {
        let found = self.bytes().get(self.at..)?.first_chunk::<N>()?;
        self.at += N;
        (found == literal).then_some(())
    }

    /// Passes over the rest of an object and of the text, if that is members of text without
    /// white space around them, and none is called `name`.
    #[inline(always)]
    pub(crate) fn only_text_follows(&mut self, name: &str) -> Option<()> {
        match only_text::follows(self.bytes(), self.at, name) {
            Some(follows) => {
                self.at = self.text.len();
                follows.then_some(())
            }
            None => self.only_text_follows_one_by_one(name),
        }
    }

    /// The same member by member.
    pub(crate) fn only_text_follows_one_by_one(&mut self, name: &str) -> Option<()> {
        loop {
            match *self.bytes().get(self.at..)? {
                [b',', b'"', ..] => self.at += 2,
                [b'}'] => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
            let start = self.at;
            self.seek_quote()?;
            if &self.bytes()[start..self.at] == name.as_bytes() {
                return None;
            }
            self.literal(b"\":\"")?;
            self.seek_quote()?;
            self.at += 1;
        }
    }

    /// What was not read yet.
    #[inline(always)]
    pub(crate) fn rest(&self) -> Option<&'a str> {
        self.text.get(self.at..)
    }

    /// An integer of at most 18 digits, so that it fits wherever it is wanted.
    #[inline(always)]
    pub(crate) fn int(&mut self) -> Option<i64> {
        let negative = self.peek()? == b'-';
        self.at += usize::from(negative);
        let start = self.at;
        let mut value = 0_i64;
        if let Some(word) = self.bytes().get(start..).and_then(<[u8]>::first_chunk) {
            let (read, digits) = leading_digits(*word);
            value = read as i64;
            self.at += digits;
        }
        // What does not end within a word, and what stands too near to the end for one.
        while let Some(digit @ b'0'..=b'9') = self.bytes().get(self.at) {
            // Too many digits are noticed below; until then they may wrap.
            value = value.wrapping_mul(10).wrapping_add(i64::from(digit - b'0'));
            self.at += 1;
        }
        let digits = self.at - start;
        let zero_in_front = digits > 1 && self.bytes()[start] == b'0';
        let goes_on = matches!(self.bytes().get(self.at), Some(b'.' | b'e' | b'E'));
        if !(1..=18).contains(&digits) || zero_in_front || goes_on {
            return None;
        }
        match (negative, value) {
            // A float to the library.
            (true, 0) => None,
            (true, value) => Some(-value),
            (false, value) => Some(value),
        }
    }

    /// The same for a number that is never negative.
    #[inline(always)]
    pub(crate) fn uint(&mut self) -> Option<u64> {
        self.int()?.try_into().ok()
    }

    /// Whether a string comes next.
    #[inline(always)]
    pub(crate) fn is_string(&mut self) -> bool {
        self.peek() == Some(b'"')
    }

    /// Passes over an object and gives its text.
    #[inline]
    pub(crate) fn object_text(&mut self) -> Option<&'a str> {
        if self.peek()? != b'{' {
            return None;
        }
        let start = self.at;
        self.skip()?;
        self.text.get(start..self.at)
    }

    /// Passes over any value.
    #[inline]
    pub(crate) fn skip(&mut self) -> Option<()> {
        self.skip_nested(MAX_NESTING)
    }

    #[inline]
    fn skip_nested(&mut self, levels: u32) -> Option<()> {
        match self.peek()? {
            b'"' => {
                self.at += 1;
                self.seek_quote()?;
                self.at += 1;
                Some(())
            }
            b'{' => self.skip_object(levels),
            b'[' => self.skip_array(levels),
            b'-' | b'0'..=b'9' => self.int().map(|_| ()),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => None,
        }
    }

    fn skip_object(&mut self, levels: u32) -> Option<()> {
        let levels = levels.checked_sub(1)?;
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            self.expect(b'"')?;
            self.seek_quote()?;
            self.at += 1;
            self.expect(b':')?;
            self.skip_nested(levels)?;
            match self.take()? {
                b',' => {}
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }

    fn skip_array(&mut self, levels: u32) -> Option<()> {
        let levels = levels.checked_sub(1)?;
        self.expect(b'[')?;
        if self.peek()? == b']' {
            self.at += 1;
            return Some(());
        }
        loop {
            self.skip_nested(levels)?;
            match self.take()? {
                b',' => {}
                b']' => return Some(()),
                _ => return None,
            }
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        let rest = self.bytes().get(self.at..)?;
        self.at += word.len();
        rest.starts_with(word).then_some(())
    }
}

/// The number that the digits in front make, and how many there are: 0 and none, or up to eight.
///
/// All eight bytes at once: where a number ends is what no processor guesses.
#[inline(always)]
fn leading_digits(word: [u8; 8]) -> (u64, usize) {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // 0 to 9 for a digit, and more for anything else.
    let values = u64::from_le_bytes(word) ^ (EACH * 0x30);
    // The top bit of a byte that is none. A carry out of such a byte spoils only those behind it.
    let others = (values.wrapping_add(EACH * 0x76) | values) & (EACH * 0x80);
    let digits = others.trailing_zeros() as usize / 8;
    if digits == 0 {
        return (0, 0);
    }
    // The first digit is the lowest byte; zeros in front of it change nothing. Then two, four and
    // eight digits are put together, each time in all places at once.
    let ones = values << (64 - 8 * digits);
    let pairs = (ones.wrapping_mul(10) + (ones >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100) + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    let number = fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff;
    (number, digits)
}

/// Keeps the first value of a member; a second one is the library's to refuse.
#[inline]
pub(crate) fn once<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    if slot.is_some() {
        return None;
    }
    *slot = Some(value);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_digits_are_those_up_to_the_first_other_byte() {
        let text = b"1234567890";
        for digits in 0..=8_usize {
            for other in (0..=u8::MAX).filter(|byte| !byte.is_ascii_digit()) {
                let word = std::array::from_fn(|at| match at.cmp(&digits) {
                    std::cmp::Ordering::Less => text[at],
                    std::cmp::Ordering::Equal => other,
                    // Digits behind the other byte count no more.
                    std::cmp::Ordering::Greater => b'9',
                });
                let number = text[..digits]
                    .iter()
                    .fold(0, |number, byte| number * 10 + u64::from(byte - b'0'));
                assert_eq!(leading_digits(word), (number, digits), "{word:?}");
            }
        }
        assert_eq!(leading_digits(*b"99999999"), (99_999_999, 8));
        assert_eq!(leading_digits(*b"00000007"), (7, 8));
    }
}
