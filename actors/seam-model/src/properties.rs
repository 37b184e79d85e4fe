//! What holds in every state, and what has to be reachable so that it means something.

use refold_domain::version::VersionState;
use stateright::Expectation;
use stateright::Property;

use crate::bounds::Bounds;
use crate::log::last_position;
use crate::log::once_below;
use crate::model::Seam;
use crate::state::State;
use crate::step::Refusal;
use crate::step::places;

/// Each record of a partition is in the rows once when it lies below the mark, and not at all
/// otherwise (I1).
pub(crate) const EXACTLY_ONCE: &str = "every record below the mark counts once, no other does";
/// Rows are of the code that the version stands for (I2).
pub(crate) const OWN_CODE: &str = "no row comes from other code than the version's";
/// No commit puts a mark back (I2).
pub(crate) const FORWARD: &str = "a commit never puts a mark back";
/// The active version has passed the vector that it was switched to at (I3).
pub(crate) const PAST_SWITCH: &str = "the active version has passed its switch vector";
/// One version is active, and the registry points to it (I4).
pub(crate) const ONE_ACTIVE: &str = "one version is active and it is the one that serves";
/// No read fails (I5).
pub(crate) const READS: &str = "no read meets a table that is missing or short";
/// A switch is between equal rows (I6).
pub(crate) const EQUAL: &str = "a switch is between equal rows";
/// An ack holds the sums of exactly the switch offset (I6).
pub(crate) const EXACT_ACKS: &str = "an ack holds the records below the switch offset";
/// A barrier that waits can be completed by whoever has not reached it.
pub(crate) const COMPLETES: &str = "a barrier that waits can be completed";
/// Switch vectors ascend.
pub(crate) const ASCENDS: &str = "the vectors of switches never go back";
/// A switch at a log's end that is a marker.
pub(crate) const BEHIND_MARKER: &str = "a switch where the log ends with a marker";

/// All that are judged within the bounds: what must hold, and what must be reachable.
pub(crate) fn all(bounds: &Bounds) -> Vec<Property<Seam>> {
    let mut all = vec![
        always(EXACTLY_ONCE, exactly_once),
        always(OWN_CODE, |_, s| {
            places().all(|(v, p)| !s.db.marks[v][p].foreign)
        }),
        always(FORWARD, |_, s| !s.seen.mark_went_back),
        always(PAST_SWITCH, past_switch),
        always(ONE_ACTIVE, one_active),
        always(READS, |_, s| !s.seen.failed_read),
        always(EQUAL, |_, s| !s.seen.unequal_switch),
        always(EXACT_ACKS, exact_acks),
        always(COMPLETES, completes),
        always(ASCENDS, |_, s| !s.seen.vector_went_back),
        sometimes("a transaction of a dead session is admitted", |m, s| {
            let admitted = |message| m.decide(&s.db, message).is_ok();
            s.messages.iter().any(|x| !x.awaited && admitted(x))
        }),
        sometimes("a transaction of a dead session is refused", |m, s| {
            let refused = |message| m.decide(&s.db, message) == Err(Refusal::Over);
            s.messages.iter().any(|x| !x.awaited && refused(x))
        }),
    ];
    if bounds.barriers > 0 {
        all.push(sometimes("a barrier cuts a batch", |m, s| {
            let cut = |message| m.decide(&s.db, message) == Err(Refusal::Cut);
            s.messages.iter().any(cut)
        }));
    }
    if bounds.switches > 0 {
        all.push(sometimes(BEHIND_MARKER, |_, s| {
            s.db.generation > 0 && (0..2).all(|p| s.db.switched_at[p] == last_position(p, true))
        }));
        all.push(sometimes("a version is dropped", |_, s| {
            s.db.versions
                .iter()
                .any(|v| v.state == VersionState::Dropped)
        }));
    }
    if bounds.switches > 1 {
        all.push(sometimes("a rollback", |_, s| s.db.generation > 1));
    }
    if bounds.misfolds > 0 {
        all.push(sometimes("a wrong candidate is told apart", |_, s| {
            s.db.barrier.is_some_and(|b| b.equal == Some(false))
        }));
    }
    // Both partitions have to be taken over again.
    if bounds.resets > 0 && bounds.take_overs > 1 {
        all.push(sometimes("a version is built again to its end", |_, s| {
            let again = |v: usize| s.db.versions[v].code > 0;
            (0..2).any(|v| again(v) && s.db.marks[v].iter().all(|m| m.reached_end))
        }));
    }
    all
}

type Condition = fn(&Seam, &State) -> bool;

fn always(name: &'static str, condition: Condition) -> Property<Seam> {
    Property {
        expectation: Expectation::Always,
        name,
        condition,
    }
}

fn sometimes(name: &'static str, condition: Condition) -> Property<Seam> {
    Property {
        expectation: Expectation::Sometimes,
        name,
        condition,
    }
}

fn exactly_once(_: &Seam, state: &State) -> bool {
    places().all(|(version, partition)| {
        let mark = &state.db.marks[version][partition];
        // What a wrong fold loses is the comparison's to find.
        mark.damaged || mark.rows == once_below(partition, mark.next)
    })
}

fn past_switch(_: &Seam, state: &State) -> bool {
    let marks = &state.db.marks[usize::from(state.db.active)];
    let mut pairs = marks.iter().zip(state.db.switched_at);
    pairs.all(|(mark, at)| mark.next >= at)
}

fn one_active(_: &Seam, state: &State) -> bool {
    let active = |version: usize| state.db.versions[version].state == VersionState::Active;
    (0..2).all(|version| active(version) == (version == usize::from(state.db.active)))
}

fn exact_acks(_: &Seam, state: &State) -> bool {
    let Some(barrier) = &state.db.barrier else {
        return true;
    };
    places().all(|(version, partition)| {
        let mark = &state.db.marks[version][partition];
        let Some(rows) = barrier.acks[version][partition] else {
            return true;
        };
        mark.damaged || rows == once_below(partition, barrier.switch[partition])
    })
}

fn completes(_: &Seam, state: &State) -> bool {
    let Some(barrier) = &state.db.barrier else {
        return true;
    };
    places().all(|(version, partition)| {
        let acked = barrier.acks[version][partition].is_some();
        acked || state.db.marks[version][partition].next < barrier.switch[partition]
    })
}
