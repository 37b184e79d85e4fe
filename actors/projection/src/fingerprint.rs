//! The fingerprint of a projection's code.

use std::fmt;

/// 128 bits over the tokens of the projection's source file (comments, white
/// space, documentation and test modules do not count) as
/// [`crate::source_fingerprint!`] computes them at build time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u128);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_shown_in_32_digits() {
        let shown = Fingerprint(0xab).to_string();
        assert_eq!(shown, "000000000000000000000000000000ab");
        assert_eq!(Fingerprint(u128::MAX).to_string(), "f".repeat(32));
    }
}
