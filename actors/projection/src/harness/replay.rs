//! Checks that fold one script in several ways.

use crate::Projection;

use super::script::{Form, Script};
use super::show;
use super::table::Table;

/// Up to this many events a stop is followed by a start at every offset before it.
const SMALL: usize = 100;
/// In longer scripts a start lies at most this many events before the stop.
const OVERLAP: usize = 3;

pub(super) fn check<P: Projection>(script: &Script<P>) -> Result<(), String> {
    let events = script.events();
    let mut stopped = Table::new(&script.projection);
    for cut in 0..=events.len() {
        if cut > 0 {
            stopped.apply(&events[cut - 1], events[cut - 1].first_form())?;
        }
        for overlap in 0..=longest_overlap(events.len(), cut) {
            let again = cut - overlap;
            resume(script, &stopped, again, cut)?;
        }
    }
    // The stop at the end with the longest overlap is the whole log twice.
    resume(script, &stopped, 0, events.len())
}

/// How many events before a stop at `cut` a start may lie, in a script of so many `events`.
fn longest_overlap(events: usize, cut: usize) -> usize {
    if events <= SMALL {
        cut
    } else {
        cut.min(OVERLAP)
    }
}

/// Reads `[again, cut)` once more on top of the table of `[0, cut)`.
fn resume<P: Projection>(
    script: &Script<P>,
    stopped: &Table<'_, P>,
    again: usize,
    cut: usize,
) -> Result<(), String> {
    let mut resumed = stopped.clone();
    for event in &script.events()[again..cut] {
        resumed.apply(event, event.first_form())?;
    }
    let Some(key) = stopped.first_difference(&resumed) else {
        return Ok(());
    };
    let what = format!(
        "stopped at offset {cut} and started again at offset {again}, which must change nothing"
    );
    Err(differing(script, &what, &key, (stopped, &resumed)))
}

pub(super) fn check_deterministic<P: Projection>(script: &Script<P>) -> Result<(), String> {
    let events = script.events();
    let mut first = Table::new(&script.projection);
    let mut second = Table::new(&script.projection);
    for table in [&mut first, &mut second] {
        for event in events {
            table.apply(event, event.first_form())?;
        }
    }
    let mut apart = Table::new(&script.projection);
    let mut by_key: Vec<_> = events.iter().collect();
    by_key.sort_by(|a, b| b.key.cmp(&a.key).then(a.offset.cmp(&b.offset)));
    for event in by_key {
        apart.apply(event, event.first_form())?;
    }
    for (other, what) in [
        (&second, "the same log was folded twice"),
        (&apart, "the log was folded one aggregate after the other"),
    ] {
        if let Some(key) = first.first_difference(other) {
            return Err(differing(script, what, &key, (&first, other)));
        }
    }
    Ok(())
}

pub(super) fn check_forms<P: Projection>(script: &Script<P>) -> Result<(), String> {
    let mut proto = Table::new(&script.projection);
    let mut json = Table::new(&script.projection);
    for event in script.events() {
        proto.apply(event, Form::Proto)?;
        json.apply(event, Form::Json)?;
        if proto.row(&event.key) != json.row(&event.key) {
            let what = format!(
                "the protobuf form (expected) and the JSON form (found) of offset {} differ",
                event.offset
            );
            return Err(differing(script, &what, &event.key, (&proto, &json)));
        }
    }
    Ok(())
}

pub(super) fn check_undecodable<P: Projection>(script: &Script<P>) -> Result<(), String> {
    let Some((last, before)) = script.events().split_last() else {
        return Err("the log is empty".to_owned());
    };
    let mut table = Table::new(&script.projection);
    for event in before {
        table.apply(event, event.first_form())?;
    }
    let form = last.first_form();
    if !P::HANDLES.contains(&last.kind.as_str()) {
        return Err(format!("{} is not a type that is decoded", last.kind));
    }
    match last
        .payload(form)
        .map(|p| P::decode(&last.kind, p).is_err())
    {
        Some(true) => Ok(()),
        _ => Err(format!("{} can be decoded", last.shown)),
    }
}

fn differing<P: Projection>(
    script: &Script<P>,
    what: &str,
    key: &P::Key,
    (expected, found): (&Table<'_, P>, &Table<'_, P>),
) -> String {
    format!(
        "{}: {what}\n{}{}",
        crate::label::<P>(),
        show::difference(expected.row(key), found.row(key)),
        show::history(script, key, u64::MAX),
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::log;
    use super::*;

    #[test]
    fn every_start_is_tried_in_a_small_script_and_the_nearest_ones_in_a_longer_one() {
        for (events, cut, longest) in [(100, 0, 0), (100, 100, 100), (101, 2, 2), (101, 100, 3)] {
            assert_eq!(longest_overlap(events, cut), longest, "{events} {cut}");
        }
    }

    #[test]
    fn a_table_that_is_changed_by_what_it_has_seen_is_told_with_both_places() {
        let script = log().into_script();
        // It has seen nothing, so that what it is said to have seen changes it.
        let stopped = Table::new(&script.projection);
        let message = resume(&script, &stopped, 0, 4).expect_err("a row comes up");
        let heading = "sums_v2: stopped at offset 4 and started again at offset 0, which must \
                       change nothing\n  expected no row\n  \
                       found    Sum { cents: 500, events: 1 }\n  events of key 7:\n";
        assert!(message.starts_with(heading), "{message}");
    }

    #[test]
    fn an_event_that_cannot_be_folded_fails_the_checks_that_fold_it() {
        let script = log().event(7, ("Paid", "one")).into_script();
        let reason = "offset 6, key 7, version 5, (\"Paid\", \"one\"): it cannot be decoded: \
                      invalid digit found in string";
        assert_eq!(check(&script), Err(reason.to_owned()));
        assert_eq!(check_deterministic(&script), Err(reason.to_owned()));
        assert_eq!(check_undecodable(&script), Ok(()));
    }

    #[test]
    fn what_is_no_undecodable_event_is_told() {
        let check = |script: super::super::Given<_>| check_undecodable(&script.into_script());
        assert_eq!(
            check(log()),
            Err("(\"Refunded\", \"100\") can be decoded".to_owned())
        );
        assert_eq!(
            check(log().event(7, ("Unknown", "one"))),
            Err("Unknown is not a type that is decoded".to_owned())
        );
        let empty = super::super::given(super::super::tests::v::<2>());
        assert_eq!(check(empty), Err("the log is empty".to_owned()));
    }
}
