//! The guard: which events a row still has to see.
//!
//! The engine may read any part of the log again: after a crash, with an
//! offset given by hand, or when a batch overlaps the mark. Every event is asked
//! for admission on its own, because a batch that overlaps in part would pass
//! a guard on the row and apply its old half twice.

/// Where a row, or an event, stands in its aggregate's history and in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// Position in the aggregate's own history: 1, 2, 3 ...
    pub version: u64,
    /// Offset in the log's partition.
    pub offset: i64,
}

/// What to do with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Admission {
    /// It is the aggregate's next event.
    Apply,
    /// The row has seen it: skip it and count it.
    Duplicate,
    /// Events between the row and this one are missing.
    Gap {
        /// The version that should have come.
        expected: u64,
    },
}

/// Decides over one event. `stored` is the last event that the aggregate's row
/// (or its tombstone) has seen, `None` when it has seen none.
///
/// An event at or below the stored offset was read again; one at or below the
/// stored version was written to the log again. Both are duplicates. Versions
/// count from 1 without holes, so that lost events show as a gap.
#[inline]
pub fn admit(stored: Option<Position>, event: Position) -> Admission {
    let expected = stored.map_or(1, |stored| stored.version.saturating_add(1));
    let read_again = stored.is_some_and(|stored| event.offset <= stored.offset);
    if GUARDS && (read_again || event.version < expected) {
        Admission::Duplicate
    } else if event.version > expected {
        Admission::Gap { expected }
    } else {
        Admission::Apply
    }
}

/// Off in the deliberately broken build, where nothing counts as seen. CI builds it to show
/// that the tests of the guard fail without the guard.
const GUARDS: bool = cfg!(not(feature = "mutation-no-offset-guard"));

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(version: u64, offset: i64) -> Position {
        Position { version, offset }
    }

    #[test]
    fn the_next_version_is_applied() {
        assert_eq!(admit(None, at(1, 0)), Admission::Apply);
        assert_eq!(admit(Some(at(1, 0)), at(2, 9)), Admission::Apply);
    }

    #[test]
    fn an_event_at_or_below_the_rows_offset_is_a_duplicate() {
        assert_eq!(admit(Some(at(3, 9)), at(3, 9)), Admission::Duplicate);
        assert_eq!(admit(Some(at(3, 9)), at(1, 2)), Admission::Duplicate);
        assert_eq!(admit(Some(at(3, 9)), at(4, 8)), Admission::Duplicate);
    }

    #[test]
    fn an_event_that_the_log_holds_twice_is_a_duplicate() {
        assert_eq!(admit(Some(at(3, 9)), at(3, 10)), Admission::Duplicate);
        assert_eq!(admit(Some(at(3, 9)), at(1, 10)), Admission::Duplicate);
        assert_eq!(admit(None, at(0, 10)), Admission::Duplicate);
    }

    #[test]
    fn a_version_too_far_is_a_gap() {
        assert_eq!(admit(None, at(2, 0)), Admission::Gap { expected: 1 });
        assert_eq!(
            admit(Some(at(3, 9)), at(5, 10)),
            Admission::Gap { expected: 4 }
        );
    }
}
