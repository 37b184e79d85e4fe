//! A JSON payload that is left for the author's decoder to check is folded, and refused, as one
//! that was checked with its envelope.

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::sample::select;
use refold_projection::Change;
use refold_projection::DecodeError;
use refold_projection::Envelope;
use refold_projection::Fingerprint;
use refold_projection::Payload;
use refold_projection::Projection;

use super::tests::Entry;
use super::tests::Ledger;
use super::*;
use crate::decode::WireFormat;
use crate::position::Partition;

const OPTIONS: FoldOptions = FoldOptions {
    wire: WireFormat::Json,
    complete_log: true,
};

/// A ledger whose payloads are `{"n":NUMBER}` and nothing else.
struct JsonLedger<const LEAVES: bool>;

impl<const LEAVES: bool> Projection for JsonLedger<LEAVES> {
    type Key = i64;
    type Event<'a> = Option<i64>;
    type Row = Entry;
    const NAME: &'static str = "ledger";
    const VERSION: u32 = 1;
    const HANDLES: &'static [&'static str] = Ledger::HANDLES;
    const CODE: Fingerprint = Fingerprint(2);
    const REFUSES_MALFORMED_JSON: bool = LEAVES;

    fn decode<'a>(_: &'a str, payload: Payload<'a>) -> Result<Option<i64>, DecodeError> {
        let Payload::Json(text) = payload else {
            return Err(DecodeError::new("this test writes JSON"));
        };
        let number = text
            .strip_prefix("{\"n\":")
            .and_then(|rest| rest.strip_suffix('}'))
            .filter(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
            .ok_or_else(|| DecodeError::new("not what a ledger writes"))?;
        number.parse().map(Some).map_err(DecodeError::new)
    }

    fn fold(&self, row: Option<Entry>, event: &Envelope<'_, Option<i64>>) -> Change<Entry> {
        Ledger.fold(row, event)
    }
}

fn event(id: i64, version: u64, kind: &str, number: usize) -> String {
    format!(
        "{{\"format\":1,\"aggregate_id\":{id},\"version\":{version},\"type\":\"{kind}\",\
         \"ts\":5,\"payload\":{{\"n\":{number}}}}}"
    )
}

/// Two accounts' events, one of a type that is not handled and one that comes twice.
fn events() -> Vec<String> {
    vec![
        event(1, 1, "Add", 11),
        event(2, 1, "Add", 12),
        event(1, 2, "Noise", 13),
        event(2, 2, "Add", 14),
        event(2, 2, "Add", 14),
        event(1, 3, "Add", 15),
    ]
}

/// Which of them comes for the second time.
const DUPLICATE: usize = 4;

fn chunk_of(values: &[String]) -> Chunk {
    let mut chunk = Chunk::new(Partition(0), Offset(0));
    for (offset, value) in values.iter().enumerate() {
        assert!(chunk.push(Offset(offset as i64), 0, b"key", Some(value.as_bytes())));
    }
    chunk
}

/// The report and the tuples of a fold, of half of the keys if that is wanted.
fn folded<const LEAVES: bool>(chunk: &Chunk, half: bool) -> (FoldReport, Vec<u8>) {
    let mut engine = erase(JsonLedger::<LEAVES>).bulk_fold(OPTIONS);
    if half {
        assert!(engine.give_up_half(Offset(0)));
    }
    let report = engine.fold(chunk, 0, Offset(i64::MAX));
    let mut run = engine.into_tuples();
    let mut tuples = Vec::new();
    while let Some(bytes) = run.next_tuples(64) {
        tuples.extend(bytes);
    }
    (report, tuples)
}

/// What both folds of all keys say.
fn agree(values: &[String]) -> FoldReport {
    let chunk = chunk_of(values);
    let (left, checked) = (
        folded::<true>(&chunk, false),
        folded::<false>(&chunk, false),
    );
    assert_eq!(left, checked, "{values:#?}");
    left.0
}

/// Folds of half of the keys end alike. Which half it is depends on each fold's own hashes, so
/// that their rows need not be the same, and nor is what is a duplicate to one and another's
/// event to the other.
fn halves_agree(values: &[String]) {
    let chunk = chunk_of(values);
    let (left, checked) = (folded::<true>(&chunk, true), folded::<false>(&chunk, true));
    assert_eq!(left.0.halt, checked.0.halt, "{values:#?}");
    assert_eq!(left.0.index, checked.0.index, "{values:#?}");
}

/// Pieces that break a value, or only look as if they did.
const PIECES: [&str; 12] = [
    "}",
    "{",
    "\"",
    ",",
    " ",
    "7",
    "x",
    "\\",
    ",\"later\":{}",
    ",\"type\":\"Add\"",
    "\"format\":1,",
    "}}",
];

proptest! {
    #[test]
    fn a_value_with_a_piece_too_much_or_too_little_ends_both_alike(
        which in 0..6_usize,
        at in any::<Index>(),
        removed in 0..3_usize,
        piece in select(&PIECES[..]),
    ) {
        let mut values = events();
        let value = &mut values[which];
        let at = at.index(value.len() + 1);
        let end = value.len().min(at + removed);
        value.replace_range(at..end, piece);
        agree(&values);
        values.remove(DUPLICATE);
        halves_agree(&values);
    }
}

#[test]
fn what_nobody_decodes_is_checked_all_the_same() {
    // Of a type that is not handled, and one that is a duplicate.
    for which in [2, DUPLICATE] {
        let mut values = events();
        values[which] = values[which].replace("{\"n\":1", "{\"n\":+1");
        let halt = agree(&values).halt.expect("it is no JSON");
        assert_eq!(halt.offset, Offset(which as i64));
    }
}

#[test]
fn members_behind_the_payload_are_read() {
    let mut values = events();
    values[3] = values[3].replace("}}", "},\"later\":{\"n\":3}}");
    let report = agree(&values);
    assert_eq!((report.halt, report.applied), (None, 4));
    values[3] = values[3].replace("\"later\":", "\"type\":");
    assert!(agree(&values).halt.is_some(), "a type comes twice");
}

#[test]
fn an_aggregate_whose_first_event_is_refused_has_no_row() {
    for payload in ["{\"m\":11}", "{\"n\":}"] {
        let mut values = events();
        values[1] = values[1].replace("{\"n\":12}", payload);
        let halt = agree(&values).halt.expect("it is refused");
        assert_eq!(halt.offset, Offset(1));
        let alone = chunk_of(&values[1..2]);
        assert_eq!(folded::<true>(&alone, false).1, Vec::<u8>::new());
        assert_eq!(folded::<false>(&alone, false).1, Vec::<u8>::new());
    }
}
