//! A share of a table's keys.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Sets these hashes apart from those by which a join finds its places.
const SEED: u64 = 1;

/// One of `of` classes into which keys fall by their hash. What does not fit into the
/// memory as a whole is worked on class by class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyShare {
    class: u64,
    of: u64,
}

impl KeyShare {
    /// The class `class` of `of`; 0 of 1, or of 0, are all keys.
    pub fn new(class: u64, of: u64) -> Self {
        Self { class, of }
    }

    /// Whether a key, given as its cell, is in it.
    pub fn has(self, key: &[u8]) -> bool {
        self.of <= 1 || xxh3_64_with_seed(key, SEED) % self.of == self.class
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_exactly_one_class() {
        for key in 0..1_000_u32 {
            let key = key.to_be_bytes();
            assert!(KeyShare::new(0, 1).has(&key) && KeyShare::new(0, 0).has(&key));
            let classes = (0..7).filter(|class| KeyShare::new(*class, 7).has(&key));
            assert_eq!(classes.count(), 1);
        }
    }
}
