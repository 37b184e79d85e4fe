//! The fence as a predicate: who may move a mark, from where, and how far.
//!
//! The store asks it inside the transaction that writes the rows, under the lock of the mark's
//! row. The memory store and the model of the seam call it; Postgres states the same rule in
//! `0002_fence.sql`, and the conformance suite holds the two to one behaviour.

use crate::position::Offset;
use crate::position::OffsetRange;
use crate::version::VersionState;

/// The mark that a transaction meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FencedMark {
    /// Raised by every take-over.
    pub epoch: i64,
    /// The durable mark, exclusive.
    pub next: Offset,
    /// The state of the version that it belongs to.
    pub state: VersionState,
}

/// What a transaction claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The epoch that its writer took the partition over with.
    pub epoch: i64,
    /// The range `[from, to)` that it moves the mark across.
    pub range: OffsetRange,
}

/// Why a transaction is refused as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FenceRefusal {
    /// The partition was taken over since.
    OtherEpoch,
    /// The mark is not where the range begins.
    OtherMark,
    /// Nothing writes to versions in this state.
    NotProjected(VersionState),
    /// A barrier waits inside the range; the batch may end there.
    CutAt(Offset),
}

/// Whether `claim` may move `mark`, when barriers wait for its partition at `switches`.
///
/// Epoch and mark are both needed: the epoch alone would let a transaction that is sent twice
/// apply its events twice, the mark alone would let a writer of older code write into a version
/// that was reset to the same offset.
///
/// # Errors
/// The first rule that refuses the claim, in the order of [`FenceRefusal`].
pub fn admit(
    mark: &FencedMark,
    claim: &Claim,
    switches: impl IntoIterator<Item = Offset>,
) -> Result<(), FenceRefusal> {
    if claim.epoch != mark.epoch {
        return Err(FenceRefusal::OtherEpoch);
    }
    let OffsetRange { from, to } = claim.range;
    if from != mark.next {
        return Err(FenceRefusal::OtherMark);
    }
    if !mark.state.is_projected() {
        return Err(FenceRefusal::NotProjected(mark.state));
    }
    let inside = switches.into_iter().filter(|x| from < *x && *x < to);
    inside.min().map_or(Ok(()), |x| Err(FenceRefusal::CutAt(x)))
}

/// Whether a commit that puts the mark at `to` is the ack of a barrier that waits at `switch`:
/// at exactly that offset, since sums of any other one prove nothing.
pub fn is_ack(switch: Offset, to: Offset) -> bool {
    switch == to
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: FencedMark = FencedMark {
        epoch: 3,
        next: Offset(10),
        state: VersionState::Building,
    };

    fn claim(epoch: i64, from: i64, to: i64) -> Claim {
        let range = OffsetRange::new(Offset(from), Offset(to)).expect("ascends");
        Claim { epoch, range }
    }

    #[test]
    fn only_the_owner_moves_the_mark_and_only_from_where_it_is() {
        assert_eq!(admit(&MARK, &claim(3, 10, 20), []), Ok(()));
        for epoch in [2, 4] {
            let refused = admit(&MARK, &claim(epoch, 10, 20), []);
            assert_eq!(refused, Err(FenceRefusal::OtherEpoch));
        }
        for from in [9, 11] {
            let refused = admit(&MARK, &claim(3, from, 20), []);
            assert_eq!(refused, Err(FenceRefusal::OtherMark));
        }
    }

    #[test]
    fn a_version_that_is_not_projected_takes_nothing() {
        for state in VersionState::ALL {
            let mark = FencedMark { state, ..MARK };
            let admitted = admit(&mark, &claim(3, 10, 20), []);
            let expected = match state.is_projected() {
                true => Ok(()),
                false => Err(FenceRefusal::NotProjected(state)),
            };
            assert_eq!(admitted, expected, "{state}");
        }
    }

    #[test]
    fn the_lowest_switch_inside_the_range_cuts_it_and_one_at_an_end_does_not() {
        let at = |switches: &[i64]| {
            let switches = switches.iter().map(|x| Offset(*x));
            admit(&MARK, &claim(3, 10, 20), switches)
        };
        assert_eq!(at(&[10, 20, 21]), Ok(()));
        assert_eq!(at(&[19, 11, 15]), Err(FenceRefusal::CutAt(Offset(11))));
        assert!(is_ack(Offset(20), Offset(20)) && !is_ack(Offset(20), Offset(21)));
    }
}
