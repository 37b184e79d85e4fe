//! The harness finds what it is for: each test breaks one promise.

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::{CellValue, Change, Column, ColumnType, Compare, DecodeError, Envelope, Row};
use crate::{Fingerprint, Payload};

/// A row by hand: the derive macro is not usable inside its own library.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sum<const V: u32> {
    cents: i64,
    events: i64,
}

impl<const V: u32> Row for Sum<V> {
    const COLUMNS: &'static [Column] = &[
        Column {
            name: "cents",
            ty: ColumnType::Int8,
            nullable: false,
            compare: Compare::Same,
        },
        Column {
            name: "events",
            ty: ColumnType::Int8,
            nullable: false,
            compare: if V == 2 { Compare::New } else { Compare::Same },
        },
    ];

    fn encode(&self, out: &mut Vec<u8>) {
        self.cents.write(out);
        self.events.write(out);
    }

    fn decode(cells: &mut crate::cell::CellReader<'_>) -> Result<Self, crate::cell::CellError> {
        // Version 9 breaks the contract of rows.
        let cents = i64::read(cells)? + i64::from(V == 9);
        Ok(Self {
            cents,
            events: i64::read(cells)?,
        })
    }
}

/// Version 2 also counts what was paid back; version 3 forgets the sign.
#[derive(Debug, Default)]
pub(super) struct Sums<const V: u32> {
    calls: AtomicI64,
}

impl<const V: u32> Projection for Sums<V> {
    type Key = i64;
    type Event<'a> = i64;
    type Row = Sum<V>;
    const NAME: &'static str = "sums";
    const VERSION: u32 = V;
    const HANDLES: &'static [&'static str] = &["Paid", "Refunded", "Voided", "Noted"];
    const CODE: Fingerprint = Fingerprint(V as u128);

    fn decode<'a>(_: &'a str, payload: Payload<'a>) -> Result<i64, DecodeError> {
        match payload {
            Payload::Json(text) => text.parse().map_err(DecodeError::new),
            Payload::Proto([cents]) => Ok(i64::from(*cents)),
            Payload::Proto(_) => Err(DecodeError::new("one byte was expected")),
        }
    }

    fn fold(&self, row: Option<Sum<V>>, e: &Envelope<'_, i64>) -> Change<Sum<V>> {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        let (cents, events) = row.map_or((0, 0), |row| (row.cents, row.events));
        let cents = match e.kind {
            "Paid" => cents + e.event,
            "Refunded" if V == 3 => cents + e.event,
            "Refunded" => cents - e.event,
            "Voided" => return Change::Delete,
            _ => return Change::Skip,
        };
        let events = if V == 7 { calls } else { events + 1 };
        Change::Put(Sum { cents, events })
    }
}

pub(super) fn v<const V: u32>() -> Sums<V> {
    Sums::default()
}

pub(super) fn sum<const V: u32>(cents: i64, events: i64) -> Sum<V> {
    Sum { cents, events }
}

/// An event in both forms, which need not agree.
#[derive(Debug)]
pub(super) struct Both(pub(super) u8, pub(super) i64);

impl TestEvent for Both {
    fn kind(&self) -> &str {
        "Paid"
    }
    fn proto(&self) -> Option<Vec<u8>> {
        Some(vec![self.0])
    }
    fn json(&self) -> Option<String> {
        Some(self.1.to_string())
    }
}

pub(super) fn log() -> Given<Sums<2>> {
    given(v::<2>())
        .event(7, ("Paid", "500"))
        .event(8, ("Paid", "5"))
        .event(7, ("Noted", "0"))
        .event(7, ("Unknown", "no number"))
        .event(8, ("Voided", "0"))
        .event(7, ("Refunded", "100"))
}

#[test]
fn rows_are_checked_now_and_as_of_any_version() {
    log()
        .then(7, sum(400, 2))
        .as_of(7, 1, sum(500, 1))
        .as_of(7, 3, sum(500, 1))
        .as_of(8, 1, sum(5, 1))
        .as_of_none(8, 2)
        .then_none(8)
        .then_none(9);
}

#[test]
fn a_wrong_row_is_shown_with_its_columns_and_events() {
    let message = log()
        .check_row(&7, u64::MAX, Some(&sum(401, 2)))
        .expect_err("the sum is 400");
    assert!(
        message.starts_with("sums_v2: key 7 is not as expected"),
        "{message}"
    );
    let line = message
        .lines()
        .find(|l| l.contains("cents"))
        .expect("the column is shown");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words, ["cents", "401", "400"]);
    assert!(
        !message.contains("events  "),
        "equal columns are left out: {message}"
    );
    assert!(
        message.contains("offset 5  v4  2024-01-01T00:00:05Z  (\"Refunded\", \"100\")"),
        "{message}"
    );
    assert!(
        !message.contains("\"5\""),
        "other aggregates are left out: {message}"
    );
}

#[test]
fn a_row_that_should_not_be_there_and_a_missing_one_are_shown() {
    let message = log()
        .check_row(&7, u64::MAX, None)
        .expect_err("there is a row");
    assert!(message.contains("expected no row"), "{message}");
    let message = log()
        .check_row(&8, u64::MAX, Some(&sum(5, 1)))
        .expect_err("there is no row");
    assert!(message.contains("found    no row"), "{message}");
}

#[test]
fn there_is_no_state_after_the_last_event() {
    let message = log().check_row(&8, 3, None).expect_err("two events only");
    assert!(message.contains("key 8 has 2 events"), "{message}");
}

#[test]
fn time_passes_between_events_unless_the_test_sets_it() {
    let script = given(v::<1>())
        .event(1, ("Paid", "1"))
        .at(Timestamp(5))
        .event(1, ("Paid", "1"))
        .event(2, ("Paid", "1"))
        .into_script();
    let times: Vec<i64> = script.events().iter().map(|e| e.ts_micros).collect();
    assert_eq!(times, [FIRST_TS.0, 5, 1_000_005]);
    let versions: Vec<u64> = script.events().iter().map(|e| e.version).collect();
    assert_eq!(versions, [1, 2, 1]);
}

#[test]
fn a_script_answers_its_rows_at_any_offset() {
    let script = log().into_script();
    assert_eq!(script.rows().expect("it folds"), [(7, sum(400, 2))].into());
    let early = script.rows_before(2).expect("it folds");
    assert_eq!(early, [(7, sum(500, 1)), (8, sum(5, 1))].into());
}

#[test]
fn reading_any_part_of_the_log_again_changes_nothing() {
    log().then_replay_safe();
    let long = (0..250).map(|i| (i % 7, ("Paid", "1")));
    given(v::<1>()).events(long).then_replay_safe();
}

#[test]
fn a_fold_that_counts_its_calls_is_not_deterministic() {
    log().then_deterministic();
    let script = given(v::<7>())
        .event(1, ("Paid", "1"))
        .event(2, ("Paid", "1"))
        .into_script();
    let message = replay::check_deterministic(&script).expect_err("it counts");
    assert!(message.contains("folded twice"), "{message}");
}

#[test]
fn versions_are_compared_in_the_columns_that_are_the_same() {
    log().then_agrees_with(v::<1>());
    let script = log().into_script();
    let message = agree::check(&script, &v::<3>()).expect_err("v3 forgets the sign");
    assert!(
        message.contains(
            "sums_v2 (found) does not agree with sums_v3 (expected) on key 7 after offset 5"
        ),
        "{message}"
    );
    let line = message
        .lines()
        .find(|l| l.contains("cents"))
        .expect("the column is shown");
    assert_eq!(
        line.split_whitespace().collect::<Vec<_>>(),
        ["cents", "600", "400"]
    );
}

#[test]
fn the_two_wire_forms_of_an_event_must_fold_to_one_row() {
    given(v::<1>()).event(1, Both(5, 5)).then_forms_agree();
    let script = given(v::<1>())
        .event(1, Both(5, 5))
        .event(1, Both(5, 6))
        .into_script();
    let message = replay::check_forms(&script).expect_err("5 is not 6");
    assert!(message.contains("of offset 1 differ"), "{message}");
    let message = replay::check_forms(&log().into_script()).expect_err("JSON only");
    assert!(message.contains("it has no Proto form"), "{message}");
}

#[test]
fn an_undecodable_event_is_named() {
    let log = || {
        given(v::<1>())
            .event(1, ("Paid", "1"))
            .event(1, ("Paid", "one"))
    };
    log().then_undecodable();
    let message = log().into_script().rows().expect_err("one is no number");
    assert_eq!(
        message,
        "offset 1, key 1, version 2, (\"Paid\", \"one\"): it cannot be decoded: invalid digit found in string"
    );
    let fine = given(v::<1>()).event(1, ("Paid", "1")).into_script();
    assert!(replay::check_undecodable(&fine).is_err());
}

#[test]
fn a_row_that_is_not_read_back_as_itself_is_refused() {
    let script = given(v::<9>()).event(1, ("Paid", "1")).into_script();
    let message = script.rows().expect_err("the row changes");
    assert!(message.contains("was read back as"), "{message}");
}

#[derive(Debug, Clone, PartialEq)]
struct Note(String);

impl Row for Note {
    const COLUMNS: &'static [Column] = &[Column {
        name: "note",
        ty: ColumnType::Text,
        nullable: false,
        compare: Compare::Same,
    }];

    fn encode(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }

    fn decode(cells: &mut crate::cell::CellReader<'_>) -> Result<Self, crate::cell::CellError> {
        String::read(cells).map(Self)
    }
}

#[derive(Debug)]
struct Notes;

impl Projection for Notes {
    type Key = crate::Uuid;
    type Event<'a> = &'a str;
    type Row = Note;
    const NAME: &'static str = "notes";
    const VERSION: u32 = 1;
    const HANDLES: &'static [&'static str] = &["Noted"];
    const CODE: Fingerprint = Fingerprint(1);

    fn decode<'a>(_: &'a str, payload: Payload<'a>) -> Result<&'a str, DecodeError> {
        match payload {
            Payload::Json(text) => Ok(text),
            Payload::Proto(_) => Err(DecodeError::new("JSON was expected")),
        }
    }

    fn fold(&self, _: Option<Note>, e: &Envelope<'_, &str>) -> Change<Note> {
        Change::Put(Note(e.event.to_owned()))
    }
}

#[test]
fn a_text_that_the_database_cannot_store_is_refused() {
    let id = crate::Uuid([3; 16]);
    given(Notes)
        .event(id, ("Noted", "fine"))
        .then(id, Note("fine".to_owned()));
    let script = given(Notes).event(id, ("Noted", "a\0b")).into_script();
    let message = script.rows().expect_err("it holds NUL");
    assert!(message.contains("column note holds NUL"), "{message}");
}
