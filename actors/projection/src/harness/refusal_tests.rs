//! What an author sees of a check that does not hold, and rows that keep to no contract.

use std::panic::AssertUnwindSafe;

use super::tests::Both;
use super::tests::Sums;
use super::tests::log;
use super::tests::sum;
use super::tests::v;
use super::*;
use crate::CellValue;
use crate::Change;
use crate::Column;
use crate::ColumnType;
use crate::Compare;
use crate::DecodeError;
use crate::Envelope;
use crate::Fingerprint;
use crate::Payload;
use crate::Row;
use crate::cell::CellError;
use crate::cell::CellReader;
use crate::cell::write_null;

/// The message that a check panics with.
fn refusal<T>(check: impl FnOnce() -> T) -> String {
    let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| drop(check())));
    let message = panicked.expect_err("the check does not hold");
    *message.downcast::<String>().expect("a sentence")
}

#[test]
fn every_check_that_does_not_hold_fails_the_test() {
    let wrong_row = "sums_v2: key 7 is not as expected\n";
    for message in [
        refusal(|| log().then(7, sum(1, 1))),
        refusal(|| log().then_none(7)),
        refusal(|| log().as_of(7, 1, sum(1, 1))),
        refusal(|| log().as_of_none(7, 1)),
    ] {
        assert!(message.starts_with(wrong_row), "{message}");
    }
    let one = || log().event(7, ("Paid", "one"));
    let message = refusal(|| one().then_replay_safe());
    assert!(message.contains("it cannot be decoded"), "{message}");
    let counted = given(v::<7>()).event(1, ("Paid", "1"));
    let message = refusal(|| counted.then_deterministic());
    assert!(
        message.contains("the same log was folded twice"),
        "{message}"
    );
    let message = refusal(|| log().then_agrees_with(v::<3>()));
    assert!(message.contains("does not agree with sums_v3"), "{message}");
    let message = refusal(|| given(v::<1>()).event(1, Both(5, 6)).then_forms_agree());
    assert!(message.contains("of offset 0 differ"), "{message}");
    let message = refusal(|| log().then_undecodable());
    assert!(message.ends_with("can be decoded"), "{message}");
}

#[test]
fn only_the_events_that_led_to_a_row_are_shown_and_the_latest_of_many() {
    let paid = |count: i64| given(v::<1>()).events((0..count).map(|_| (7, ("Paid", "1"))));
    let history = |count: i64, version: u64| {
        let given = paid(count).event(8, ("Paid", "5"));
        let message = given.check_row(&7, version, None).expect_err("a row");
        let lines = message
            .lines()
            .skip_while(|line| !line.contains("events of"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        history(3, 2),
        [
            "  events of key 7:",
            "    offset 0  v1  2024-01-01T00:00:00Z  (\"Paid\", \"1\")",
            "    offset 1  v2  2024-01-01T00:00:01Z  (\"Paid\", \"1\")",
        ]
    );
    assert_eq!(history(20, u64::MAX).len(), 21);
    let many = history(23, u64::MAX);
    assert_eq!(many.len(), 22);
    assert_eq!(many[1], "    ... 3 earlier ones");
    assert!(many[2].contains("offset 3  v4"), "{}", many[2]);
}

/// An event that has one form only.
#[derive(Debug)]
struct Byte(u8);

impl TestEvent for Byte {
    fn kind(&self) -> &str {
        "Paid"
    }
    fn proto(&self) -> Option<Vec<u8>> {
        Some(vec![self.0])
    }
}

#[test]
fn an_event_has_the_forms_that_its_crate_gives_it_and_is_lent_with_them() {
    let lent = &Both(7, 8);
    let script = given(v::<1>())
        .event(1, Byte(5))
        .event(1, ("Paid", "6"))
        .event(1, lent)
        .into_script();
    let forms: Vec<_> = script
        .events()
        .iter()
        .map(|event| {
            let both = [Form::Proto, Form::Json].map(|form| event.payload(form));
            (event.kind.as_str(), event.first_form(), both)
        })
        .collect();
    let (five, seven) = (&[5][..], &[7][..]);
    assert_eq!(
        forms,
        [
            ("Paid", Form::Proto, [Some(Payload::Proto(five)), None]),
            ("Paid", Form::Json, [None, Some(Payload::Json("6"))]),
            (
                "Paid",
                Form::Proto,
                [Some(Payload::Proto(seven)), Some(Payload::Json("8"))]
            ),
        ]
    );
    assert_eq!([1, 2].map(|key| script.version_of(&key)), [3, 0]);
    assert_eq!(script.rows(), Ok([(1, sum(18, 3))].into()));
    assert_eq!(script.rows_before(1), Ok([(1, sum(5, 1))].into()));
}

/// What a row of [`Rows`] writes, whatever it holds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Writes {
    Right,
    NullInPlain,
    TooFew,
    TooMany,
    Otherwise,
}

#[derive(Debug, Clone)]
struct Odd {
    writes: Writes,
    note: Option<String>,
}

/// Its notes do not count.
impl PartialEq for Odd {
    fn eq(&self, other: &Self) -> bool {
        self.writes == other.writes
    }
}

const fn column(name: &'static str, ty: ColumnType, nullable: bool) -> Column {
    Column {
        name,
        ty,
        nullable,
        compare: Compare::Same,
    }
}

impl Row for Odd {
    const COLUMNS: &'static [Column] = &[
        column("writes", ColumnType::Int8, false),
        column("note", ColumnType::Text, true),
    ];

    fn encode(&self, out: &mut Vec<u8>) {
        match self.writes {
            Writes::NullInPlain => write_null(out),
            writes => (writes as i64).write(out),
        }
        if self.writes != Writes::TooFew {
            self.note.write(out);
        }
        if self.writes == Writes::TooMany {
            self.note.write(out);
        }
    }

    fn decode(cells: &mut CellReader<'_>) -> Result<Self, CellError> {
        let writes = match i64::read(cells)? {
            0 => Writes::Right,
            _ => Writes::TooMany,
        };
        let note = Option::read(cells)?;
        Ok(Self { writes, note })
    }
}

#[derive(Debug)]
struct Rows(Writes);

impl Projection for Rows {
    type Key = i64;
    type Event<'a> = Option<String>;
    type Row = Odd;
    const NAME: &'static str = "rows";
    const VERSION: u32 = 1;
    const HANDLES: &'static [&'static str] = &["Noted"];
    const CODE: Fingerprint = Fingerprint(1);

    fn decode<'a>(_: &'a str, payload: Payload<'a>) -> Result<Option<String>, DecodeError> {
        match payload {
            Payload::Json("") => Ok(None),
            Payload::Json(text) => Ok(Some(text.to_owned())),
            Payload::Proto(_) => Err(DecodeError::new("JSON was expected")),
        }
    }

    fn fold(&self, _: Option<Odd>, event: &Envelope<'_, Option<String>>) -> Change<Odd> {
        Change::Put(Odd {
            writes: self.0,
            note: event.event.clone(),
        })
    }
}

#[test]
fn a_row_that_breaks_its_contract_is_refused_with_the_column() {
    let refused = |writes, note| {
        let script = given(Rows(writes)).event(1, ("Noted", note)).into_script();
        let rows = script.rows().map(drop);
        rows.map_err(|message| message.replace("offset 0, key 1, version 1, ", ""))
    };
    let held = |writes, reason: &str| {
        let message = format!("(\"Noted\", \"a\"): its row is no row: {reason}");
        assert_eq!(refused(writes, "a"), Err(message));
    };
    assert_eq!(refused(Writes::Right, "a"), Ok(()));
    assert_eq!(refused(Writes::Right, ""), Ok(()), "a note may be null");
    held(Writes::NullInPlain, "column writes is null");
    held(
        Writes::TooFew,
        "no cell for column note: cell 1: the row ends before its length",
    );
    held(
        Writes::TooMany,
        "it encodes to more cells than it has columns",
    );
    held(
        Writes::Otherwise,
        "it was Odd { writes: Otherwise, note: Some(\"a\") } and was read back as \
         Odd { writes: TooMany, note: Some(\"a\") }",
    );
}

#[test]
fn rows_are_the_same_when_their_values_and_their_bytes_are() {
    let odd = |note: &str| Odd {
        writes: Writes::Right,
        note: Some(note.to_owned()),
    };
    let given = given(Rows(Writes::Right)).event(1, ("Noted", "a"));
    assert_eq!(given.check_row(&1, u64::MAX, Some(&odd("a"))), Ok(()));
    // They compare equal, and the database would store others.
    let message = given.check_row(&1, u64::MAX, Some(&odd("b")));
    let message = message.expect_err("the notes differ");
    let lines: Vec<_> = message.lines().take(3).collect();
    assert_eq!(
        lines,
        [
            "rows_v1: key 1 is not as expected",
            "  column                           expected                         found",
            "  note                             \"b\"                              \"a\"",
        ]
    );
}

/// The sums again, with a column of another type.
#[derive(Debug, Clone, PartialEq)]
struct Other {
    cents: String,
}

impl Row for Other {
    const COLUMNS: &'static [Column] = &[column("cents", ColumnType::Text, false)];

    fn encode(&self, out: &mut Vec<u8>) {
        self.cents.write(out);
    }

    fn decode(cells: &mut CellReader<'_>) -> Result<Self, CellError> {
        String::read(cells).map(|cents| Self { cents })
    }
}

#[derive(Debug)]
struct Others;

impl Projection for Others {
    type Key = i64;
    type Event<'a> = ();
    type Row = Other;
    const NAME: &'static str = "others";
    const VERSION: u32 = 1;
    const HANDLES: &'static [&'static str] = &["Noted"];
    const CODE: Fingerprint = Fingerprint(1);

    fn decode<'a>(_: &'a str, _: Payload<'a>) -> Result<(), DecodeError> {
        Ok(())
    }

    fn fold(&self, _: Option<Other>, _: &Envelope<'_, ()>) -> Change<Other> {
        Change::Put(Other {
            cents: String::new(),
        })
    }
}

#[test]
fn versions_that_have_other_columns_or_rows_do_not_agree() {
    let script = log().into_script();
    assert_eq!(
        agree::check(&script, &Others),
        Err("column cents is text in others_v1 and bigint in sums_v2".to_owned())
    );
    assert_eq!(
        agree::check(&script, &Rows(Writes::Right)),
        Err(
            "sums_v2 declares column cents as the same, but rows_v1 does not have it: \
             mark it `#[row(new)]`"
                .to_owned()
        )
    );
    let noted = given(Rows(Writes::Right)).event(1, ("Noted", "a"));
    let message = agree::check(&noted.into_script(), &Mute).expect_err("one row");
    let heading = "rows_v1 (found) does not agree with mute_v1 (expected) on key 1 after \
                   offset 0\n  only rows_v1 has a row\n";
    assert!(message.starts_with(heading), "{message}");
    let noted = given(Mute).event(1, ("Noted", "a"));
    let message = agree::check(&noted.into_script(), &Rows(Writes::Right));
    let message = message.expect_err("one row");
    assert!(
        message.contains("\n  only rows_v1 has a row\n"),
        "{message}"
    );
    assert_eq!(
        agree::check(&log().into_script(), &Sums::<2>::default()),
        Ok(())
    );
}

/// Sees no event and has no row.
#[derive(Debug)]
struct Mute;

impl Projection for Mute {
    type Key = i64;
    type Event<'a> = Option<String>;
    type Row = Odd;
    const NAME: &'static str = "mute";
    const VERSION: u32 = 1;
    const HANDLES: &'static [&'static str] = &[];
    const CODE: Fingerprint = Fingerprint(1);

    fn decode<'a>(kind: &'a str, payload: Payload<'a>) -> Result<Option<String>, DecodeError> {
        Rows::decode(kind, payload)
    }

    fn fold(&self, row: Option<Odd>, event: &Envelope<'_, Option<String>>) -> Change<Odd> {
        Rows(Writes::Right).fold(row, event)
    }
}
