//! Classes of keys: a history whose table does not fit the memory is folded
//! class by class.
//!
//! The class `(m, r)` holds the keys whose hash leaves `r` modulo `m`, a power
//! of two. A fold that outgrows its memory keeps one half of its class,
//! `(2m, r)`, and gives up the other, `(2m, r + m)`, which a later fold of the
//! same history takes. Hashes spread any keys evenly, so halves are halves.

use crate::position::Offset;

/// The largest number of classes: more would mean that one key alone does not fit.
const MOST: u32 = 1 << 20;

/// Some of the keys of a partition, told by their hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyClass {
    modulus: u32,
    remainder: u32,
    /// Events below were counted by the fold that gave the class up.
    counted_below: Offset,
}

impl KeyClass {
    /// Every key.
    pub(super) const ALL: Self = Self {
        modulus: 1,
        remainder: 0,
        counted_below: Offset(0),
    };

    /// Whether a key of this hash belongs to the class. The lower half of the
    /// hash decides; the upper one addresses the table.
    #[inline]
    pub(super) const fn has(self, hash: u64) -> bool {
        hash as u32 & (self.modulus - 1) == self.remainder
    }

    /// Events below this offset were counted before, exclusive.
    #[inline]
    pub(super) const fn counted_below(self) -> Offset {
        self.counted_below
    }

    /// The half that is kept, and the one that is given up by a fold that has
    /// counted all events below `next`. `None` when the class cannot get smaller.
    pub(super) fn halves(self, next: Offset) -> Option<(Self, Self)> {
        if self.modulus >= MOST {
            return None;
        }
        let modulus = self.modulus * 2;
        let kept = Self { modulus, ..self };
        let given_up = Self {
            modulus,
            remainder: self.remainder + self.modulus,
            counted_below: self.counted_below.max(next),
        };
        Some((kept, given_up))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_halves_hold_every_key_once() {
        let mut classes = vec![KeyClass::ALL];
        for turn in [0, 1, 0, 2, 3] {
            let (kept, given_up) = classes[turn].halves(Offset(7)).expect("large enough");
            classes[turn] = kept;
            classes.push(given_up);
        }
        for hash in (0..10_000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            let owners = classes.iter().filter(|class| class.has(hash)).count();
            assert_eq!(owners, 1, "{hash}");
        }
    }

    #[test]
    fn a_class_ends_getting_smaller() {
        let kept = |class: &KeyClass| class.halves(Offset(0)).map(|(kept, _)| kept);
        let classes = std::iter::successors(Some(KeyClass::ALL), kept);
        // The whole, and twenty halves of it one inside the other.
        assert_eq!(classes.take(40).count(), 21);
    }
}
