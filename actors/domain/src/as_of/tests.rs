use proptest::prelude::*;
use refold_projection::Change;
use refold_projection::Column;
use refold_projection::ColumnType;
use refold_projection::Compare;
use refold_projection::DecodeError;
use refold_projection::Envelope;
use refold_projection::Fingerprint;
use refold_projection::Payload;
use refold_projection::Projection;
use refold_projection::Row;
use refold_projection::cell::CellError;
use refold_projection::cell::CellReader;
use refold_projection::cell::write_bytes;

use super::*;
use crate::fold::erase;
use crate::log::Chunk;
use crate::position::Partition;

/// Adds, and takes the row away at zero.
struct Sum;

#[derive(Debug, Clone, PartialEq)]
struct Total(i64);

impl Row for Total {
    const COLUMNS: &'static [Column] = &[Column {
        name: "total",
        ty: ColumnType::Int8,
        nullable: false,
        compare: Compare::Same,
    }];

    fn encode(&self, out: &mut Vec<u8>) {
        write_bytes(out, &self.0.to_be_bytes());
    }

    fn decode(cells: &mut CellReader<'_>) -> Result<Self, CellError> {
        let total = cells.next_cell()?.and_then(|b| b.try_into().ok());
        let total = total.ok_or_else(|| cells.error("total"))?;
        Ok(Self(i64::from_be_bytes(total)))
    }
}

impl Projection for Sum {
    type Key = i64;
    type Event<'a> = i64;
    type Row = Total;
    const NAME: &'static str = "sum";
    const VERSION: u32 = 1;
    const HANDLES: &'static [&'static str] = &["Added"];
    const CODE: Fingerprint = Fingerprint(1);

    fn decode<'a>(_kind: &'a str, payload: Payload<'a>) -> Result<i64, DecodeError> {
        match payload {
            Payload::Json(text) => text.parse().map_err(DecodeError::new),
            Payload::Proto(_) => Err(DecodeError::new("this test writes JSON")),
        }
    }

    fn fold(&self, row: Option<Total>, event: &Envelope<'_, i64>) -> Change<Total> {
        match (row.map_or(0, |row| row.0) * 10 + event.event) % 1_000_003 {
            0 => Change::Delete,
            total => Change::Put(Total(total)),
        }
    }
}

/// What one record says: aggregate, number, time in seconds, amount.
type Said = (i64, u64, i64, i64);

fn value((id, seq, time, amount): Said) -> String {
    let time = Timestamp(time * 1_000_000);
    format!(
        r#"{{"format":1,"aggregate_id":{id},"version":{seq},"type":"Added","ts":"{time}","payload":{amount}}}"#
    )
}

/// A partition with these records, each at its offset.
fn log(records: &[(i64, Said)]) -> Chunk {
    let mut chunk = Chunk::new(Partition(0), Offset(0));
    for (offset, said) in records {
        let key = said.0.to_string();
        assert!(chunk.push(
            Offset(*offset),
            0,
            key.as_bytes(),
            Some(value(*said).as_bytes())
        ));
    }
    chunk
}

fn ask(chunk: &Chunk, low: i64, point: Point) -> Result<(Past, usize), Gone> {
    let mut as_of = AsOf::new(&*erase(Sum), WireFormat::Json, KeyRef::Int(7), point, true);
    let mut read = 0;
    for record in chunk.records() {
        read += 1;
        if as_of.take(&record)? {
            break;
        }
    }
    Ok((as_of.finish(Offset(low))?, read))
}

fn at(offset: i64) -> Point {
    Point::At(Partition(0), Offset(offset))
}

fn time(seconds: i64) -> Point {
    Point::Time(Timestamp(seconds * 1_000_000))
}

fn total(past: &Past) -> Option<i64> {
    let cells = past.cells.as_deref()?;
    Some(Total::decode(&mut CellReader::new(cells)).expect("a row").0)
}

/// State, number of the last event in it, number of the next one.
fn told(answer: Result<(Past, usize), Gone>) -> (Option<i64>, Option<u64>, Option<u64>) {
    let (past, _) = answer.expect("an answer");
    let seq = |event: &Option<Event>| event.as_ref().map(|event| event.seq);
    (total(&past), seq(&past.stopped_at), seq(&past.next))
}

#[test]
fn a_point_takes_what_is_at_or_below_it() {
    let chunk = log(&[
        (0, (7, 1, 10, 1)),
        (1, (8, 1, 11, 9)),
        (2, (7, 2, 12, 2)),
        (3, (8, 2, 13, 9)),
        (4, (7, 3, 14, 3)),
    ]);
    assert_eq!(told(ask(&chunk, 0, at(0))), (Some(1), Some(1), None));
    // Nothing behind the point needs to be looked at.
    assert_eq!(told(ask(&chunk, 0, at(1))), (Some(1), Some(1), None));
    assert_eq!(told(ask(&chunk, 0, at(2))), (Some(12), Some(2), None));
    assert_eq!(told(ask(&chunk, 0, at(4))), (Some(123), Some(3), None));
    assert_eq!(told(ask(&chunk, 0, time(9))), (None, None, Some(1)));
    assert_eq!(told(ask(&chunk, 0, time(12))), (Some(12), Some(2), Some(3)));
    assert_eq!(told(ask(&chunk, 0, time(13))), (Some(12), Some(2), Some(3)));
    assert_eq!(
        told(ask(&chunk, 0, Point::Seq(1))),
        (Some(1), Some(1), None)
    );
    assert_eq!(
        told(ask(&chunk, 0, Point::Seq(9))),
        (Some(123), Some(3), None)
    );
}

#[test]
fn a_log_without_holes_is_read_no_further_than_the_point() {
    let chunk = log(&[
        (0, (7, 1, 10, 1)),
        (1, (8, 1, 11, 9)),
        (2, (8, 2, 12, 9)),
        (3, (8, 3, 13, 9)),
        (4, (7, 2, 14, 2)),
    ]);
    let (past, read) = ask(&chunk, 0, at(1)).expect("an answer");
    assert_eq!((total(&past), read), (Some(1), 3));
    let (_, read) = ask(&chunk, 0, Point::Seq(1)).expect("an answer");
    assert_eq!(read, 1);
}

#[test]
fn what_may_be_missing_on_either_side_of_the_point_is_no_answer() {
    // Compaction took event 2 out of offset 1.
    let chunk = log(&[(0, (7, 1, 10, 1)), (3, (7, 3, 14, 3)), (4, (7, 4, 15, 4))]);
    let gone = Gone::Missing {
        from: 2,
        to: 3,
        at: Offset(3),
    };
    for point in [
        at(1),
        at(2),
        at(3),
        at(4),
        time(10),
        time(99),
        Point::Seq(2),
    ] {
        let told = ask(&chunk, 0, point).expect_err("no answer");
        assert_eq!(told, gone, "{point}");
    }
    let wanted = "event 2 of the aggregate is not in the log, in front of 3 at offset 3";
    assert_eq!(gone.to_string(), wanted);
    assert_eq!(told(ask(&chunk, 0, Point::Seq(1))).0, Some(1));
    // At its own offset the log is whole.
    assert_eq!(told(ask(&chunk, 0, at(0))).0, Some(1));
}

#[test]
fn a_hole_of_markers_is_seen_through_by_the_next_event() {
    let chunk = log(&[(0, (7, 1, 10, 1)), (5, (8, 1, 11, 9)), (6, (7, 2, 12, 2))]);
    let (past, read) = ask(&chunk, 0, at(3)).expect("an answer");
    assert_eq!((total(&past), read), (Some(1), 3));
    assert_eq!(past.next.map(|event| event.offset), Some(Offset(6)));
}

#[test]
fn a_log_without_its_head_answers_for_nobody_whose_first_event_was_there() {
    let chunk = log(&[(5, (7, 3, 10, 3)), (6, (8, 1, 11, 9))]);
    let gone = ask(&chunk, 5, at(5)).expect_err("no answer");
    let wanted = "events 1 to 2 of the aggregate are not in the log, in front of 3 at offset 5";
    assert_eq!(gone.to_string(), wanted);
    let others = log(&[(6, (8, 1, 11, 9))]);
    let gone = ask(&others, 6, at(6)).expect_err("no answer");
    assert_eq!(gone, Gone::BeforeStart { low: Offset(6) });
    let wanted = "the log begins at offset 6 and holds no event of the aggregate from there on";
    assert_eq!(gone.to_string(), wanted);
    // From its own first event on, it is known.
    let born_later = log(&[(5, (8, 3, 10, 3)), (6, (7, 1, 11, 9))]);
    assert_eq!(told(ask(&born_later, 5, at(6))).0, Some(9));
}

#[test]
fn an_event_that_is_too_late_is_left_out_and_those_behind_it_stay() {
    let chunk = log(&[(0, (7, 1, 10, 1)), (1, (7, 2, 99, 2)), (2, (7, 3, 12, 3))]);
    let (past, _) = ask(&chunk, 0, time(50)).expect("an answer");
    assert_eq!(
        (total(&past), past.order),
        (Some(13), TimeOrder::Disordered)
    );
    assert_eq!(past.next.as_ref().map(|event| event.seq), Some(2));
    let (past, _) = ask(&chunk, 0, at(1)).expect("an answer");
    assert_eq!(past.order.word(), "monotone");
    let (past, _) = ask(&chunk, 0, at(2)).expect("an answer");
    assert_eq!(past.order.word(), "disordered");
    let at_once = log(&[(0, (7, 1, 10, 1)), (1, (7, 2, 10, 2))]);
    let (past, _) = ask(&at_once, 0, at(1)).expect("an answer");
    assert_eq!(past.order, TimeOrder::Monotone);
}

#[test]
fn a_question_tells_whose_it_is_and_how_far_it_is() {
    let chunk = log(&[(0, (7, 1, 10, 1))]);
    let mut as_of = AsOf::new(
        &*erase(Sum),
        WireFormat::Json,
        KeyRef::Int(7),
        Point::Seq(2),
        false,
    );
    let first = chunk.records().next().expect("a record");
    assert_eq!(as_of.take(&first), Ok(false));
    let told = format!("{as_of:?}");
    assert!(told.contains(r#"key: "7""#), "{told}");
    assert!(told.contains("seen: 1"), "{told}");
    assert_eq!((as_of.seen(), as_of.whole_to()), (1, Some(Offset(0))));
    let later = log(&[(1, (7, 2, 11, 2)), (4, (7, 3, 12, 3))]);
    let mut later = later.records();
    let second = later.next().expect("a record");
    assert_eq!(as_of.take(&second), Ok(true));
    assert_eq!((as_of.seen(), as_of.whole_to()), (2, Some(Offset(1))));
}

#[test]
fn an_aggregate_is_found_by_an_id_of_any_type_and_no_other_is() {
    let uuid = |last| refold_projection::Uuid([7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, last]);
    let own = OneKey::of(KeyRef::Uuid(uuid(1)));
    assert!(own.is(&IdRef::Uuid(uuid(1).0)));
    assert!(!own.is(&IdRef::Uuid(uuid(2).0)));
    assert!(!own.is(&IdRef::Int(7)));
    let own = OneKey::of(KeyRef::Text("DE-7"));
    assert!(own.is(&IdRef::Text("DE-7".into())));
    assert!(!own.is(&IdRef::Text("DE-8".into())));
    assert!(!own.is(&IdRef::Int(7)));
    let own = OneKey::of(KeyRef::Int(7));
    assert!(own.is(&IdRef::Text("7".into())));
    assert!(!own.is(&IdRef::Int(8)));
}

#[test]
fn an_event_that_was_written_twice_counts_once() {
    let chunk = log(&[(0, (7, 1, 10, 1)), (1, (7, 1, 10, 1)), (2, (7, 2, 11, 2))]);
    assert_eq!(told(ask(&chunk, 0, at(2))), (Some(12), Some(2), None));
}

#[test]
fn a_record_that_cannot_be_read_ends_the_history_of_its_own_aggregate_only() {
    let mut chunk = log(&[(0, (7, 1, 10, 1))]);
    assert!(chunk.push(Offset(1), 0, b"8", Some(b"poison")));
    assert!(chunk.push(Offset(2), 0, b"8", None));
    assert!(chunk.push(Offset(3), 0, b"7", Some(value((7, 2, 11, 2)).as_bytes())));
    assert_eq!(told(ask(&chunk, 0, at(3))).0, Some(12));
    for poison in [Some(&b"poison"[..]), None] {
        let mut chunk = chunk.clone();
        assert!(chunk.push(Offset(4), 0, b"7", poison));
        let gone = ask(&chunk, 0, at(4)).expect_err("no answer");
        assert!(
            matches!(gone, Gone::Unreadable { at: Offset(4), .. }),
            "{gone}"
        );
        assert!(
            gone.to_string()
                .starts_with("the record at offset 4 cannot be folded: ")
        );
        assert_eq!(told(ask(&chunk, 0, at(3))).0, Some(12));
    }
    // An envelope that says what the author's code does not know.
    let said = value((7, 3, 12, 3)).replace(":3}", ":true}");
    assert!(chunk.push(Offset(4), 0, b"7", Some(said.as_bytes())));
    let gone = ask(&chunk, 0, at(4)).expect_err("no answer");
    assert!(matches!(gone, Gone::Unreadable { .. }), "{gone}");
}

#[test]
fn a_trace_tells_the_row_around_each_event_and_keeps_the_last_ones() {
    let chunk = log(&[(0, (7, 1, 10, 1)), (1, (7, 2, 11, -10)), (2, (7, 3, 12, 3))]);
    let (past, _) = ask(&chunk, 0, at(2)).expect("an answer");
    let row = |cells: &Option<Vec<u8>>| {
        let cells = cells.as_deref()?;
        Some(Total::decode(&mut CellReader::new(cells)).expect("a row").0)
    };
    let steps = past.steps.iter();
    let steps: Vec<_> = steps
        .map(|step| (step.event.seq, row(&step.before), row(&step.after)))
        .collect();
    assert_eq!(
        steps,
        [(1, None, Some(1)), (2, Some(1), None), (3, None, Some(3))]
    );
    let many: Vec<_> = (0..2_500)
        .map(|i| (i, (7, i as u64 + 1, i, i % 3)))
        .collect();
    let (past, _) = ask(&log(&many), 0, at(2_400)).expect("an answer");
    let seqs: Vec<_> = past.steps.iter().map(|step| step.event.seq).collect();
    assert_eq!(seqs, (1_402..=2_401).collect::<Vec<_>>());
    assert_eq!(past.folded, 2_401);
}

proptest! {
    /// Whatever compaction leaves of a log, a point is answered as by the whole log or not at all.
    #[test]
    fn a_log_with_holes_answers_as_the_whole_log_does_or_not_at_all(
        script in prop::collection::vec((6_i64..9, 0_i64..40, 0_i64..3), 1..40),
        kept in prop::collection::vec(any::<bool>(), 40),
        head in 0_usize..10,
        asked in 0_i64..50,
    ) {
        let mut seqs = [0_u64; 9];
        let records: Vec<_> = (0..).zip(&script).map(|(offset, (id, time, amount))| {
            seqs[*id as usize] += 1;
            (offset, (*id, seqs[*id as usize], *time, *amount))
        }).collect();
        // Compaction keeps the last record of every key; retention takes the head, whoever's it is.
        let is_last = |said: &Said| said.1 == seqs[said.0 as usize];
        let left: Vec<_> = records.iter().zip(&kept)
            .filter(|((_, said), kept)| **kept || is_last(said))
            .map(|(record, _)| *record)
            .filter(|(offset, _)| *offset >= head as i64)
            .collect();
        let (whole, left) = (log(&records), log(&left));
        let seq = Point::Seq(asked as u64 + 1);
        for point in [at(asked.min(script.len() as i64 - 1)), time(asked), seq] {
            let state = |answer: &Result<(Past, usize), Gone>| {
                let past = answer.as_ref().ok().map(|(past, _)| past);
                past.map(|past| (past.cells.clone(), past.stopped_at.clone()))
            };
            let wanted = state(&ask(&whole, 0, point));
            let found = state(&ask(&left, head as i64, point));
            prop_assert!(wanted.is_some());
            prop_assert!(found.is_none() || found == wanted, "{point}: {found:?} and not {wanted:?}");
        }
    }
}
