//! The plain reader of JSON against `serde_json`: whatever the first one reads, the
//! second one reads as the same.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::accounts::{self, KINDS};
use crate::envelope::Payload;
use crate::{EnvelopeRef, envelope_json};

const EVENT: &str = r#"{"format":1,"aggregate_id":42,"version":7,"type":"Deposited","ts":"2024-02-29T12:00:00.000123Z","payload":{"after":{"balance_cents":-12,"status":"open","version":7},"cents":500,"note":"Miete März","tags":["a",true,null]}}"#;
const USUAL: &str = r#"{"after":{"balance_cents":5,"status":"open","version":7},"cents":500,"channel":"atm","note":"a b"}"#;
const OPENED: &str = r#"{"after":{"balance_cents":0},"owner":"Anna Grün","currency":"EUR","overdraft_limit_cents":50000,"x":[[],{}]}"#;

/// Compares both readers; tells whether the plain one read the text.
fn agree(bytes: &[u8]) -> Result<bool, TestCaseError> {
    let library = envelope_json::by_library(bytes);
    // What a reader of the log sees, whoever read it.
    let seen = envelope_json::decode(bytes);
    prop_assert_eq!(&seen, &library);
    heads_agree(bytes)?;
    let Some(event) = envelope_json::plain(bytes) else {
        return Ok(false);
    };
    prop_assert_eq!(Ok(&event), library.as_ref());
    if let EnvelopeRef {
        payload: Payload::Json(text),
        ..
    } = event
    {
        payloads_agree(text)?;
    }
    Ok(true)
}

/// What [`crate::decode_head_into`] makes of a head, in place of what was there before.
fn head(bytes: &[u8]) -> Option<EnvelopeRef<'_>> {
    let mut out = EnvelopeRef::NONE;
    envelope_json::head(bytes)?.write_to(&mut out);
    Some(out)
}

/// A payload that was left unread and that a decoder takes is the library's, in an envelope
/// that the library reads as the same.
fn heads_agree(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Some(head) = head(bytes) else {
        return Ok(());
    };
    for kind in KINDS {
        let Ok(event) = accounts::decode_event(kind, head.payload) else {
            continue;
        };
        let whole = envelope_json::by_library(bytes);
        prop_assert!(whole.is_ok(), "{kind} was taken from {whole:?}");
        let Ok(whole) = whole else { continue };
        prop_assert_eq!(accounts::decode_event(kind, whole.payload), Ok(event));
        prop_assert_eq!(
            &EnvelopeRef {
                payload: whole.payload,
                ..head.clone()
            },
            &whole
        );
    }
    Ok(())
}

fn text_of<'a>(event: &EnvelopeRef<'a>) -> &'a str {
    match event.payload {
        Payload::Json(text) => text,
        Payload::Proto(_) => panic!("a JSON event"),
    }
}

fn payloads_agree(text: &str) -> Result<bool, TestCaseError> {
    let mut read = false;
    for kind in KINDS {
        if let Some(event) = accounts::json::plain(kind, text) {
            read = true;
            prop_assert_eq!(accounts::json::by_library(kind, text), Ok(Some(event)));
        }
    }
    Ok(read)
}

/// Pieces that are almost what a producer would write.
const TRICKY: [&str; 46] = [
    "\"",
    "\\",
    "\\\"",
    "\\u0041",
    "\\ud800",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "-",
    "0",
    "-0",
    "-1",
    "01",
    "1.5",
    "1e3",
    "1E",
    ".",
    "e",
    "null",
    "true",
    "tru",
    "\u{0}",
    "\u{1f}",
    "\u{7f}",
    "\u{80}",
    "é",
    "\u{2028}",
    " ",
    "\t",
    "\n",
    "\u{b}",
    "\u{feff}",
    "/",
    "999999999999999999",
    "9999999999999999999",
    "9223372036854775808",
    "\"cents\":1,",
    ",\"cents\":\"1\"",
    ",\"x\":\"1\"",
    "\"format\":1,",
    "\"type\":\"\",",
    "\"x\":{},",
    "\"after\":7,",
];

#[derive(Debug, Clone)]
enum Edit {
    Insert(&'static str),
    Byte(u8),
    Remove(usize),
    Repeat(usize),
}

fn edits() -> impl Strategy<Value = Vec<(Index, Edit)>> {
    let edit = prop_oneof![
        select(&TRICKY[..]).prop_map(Edit::Insert),
        any::<u8>().prop_map(Edit::Byte),
        (1..24_usize).prop_map(Edit::Remove),
        (1..40_usize).prop_map(Edit::Repeat),
    ];
    prop::collection::vec((any::<Index>(), edit), 1..4)
}

fn edited(text: &str, edits: &[(Index, Edit)]) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for (index, edit) in edits {
        let at = index.index(bytes.len() + 1);
        let upto = |len: usize| bytes.len().min(at + len);
        match edit {
            Edit::Insert(piece) => drop(bytes.splice(at..at, piece.bytes())),
            Edit::Byte(byte) => drop(bytes.splice(at..upto(1), [*byte])),
            Edit::Remove(len) => drop(bytes.drain(at..upto(*len))),
            Edit::Repeat(len) => {
                let again = bytes[at..upto(*len)].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
    bytes
}

/// A value as text; rarely one that is no JSON.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => select(&["1", "7", "-5", "true", "false", "\"open\"", "\"\"", "{}", "[]", "500"][..])
            .prop_map(str::to_owned),
        1 => any::<i64>().prop_map(|number| number.to_string()),
        1 => any::<f64>().prop_map(|number| number.to_string()),
        1 => ".{0,12}".prop_map(|text| format!("\"{text}\"")),
        1 => any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
        1 => select(&TRICKY[..]).prop_map(str::to_owned),
        1 => (30..36_usize).prop_map(|depth| "[".repeat(depth) + &"]".repeat(depth)),
        1 => Just("\"2024-02-29T12:00:00Z\"".to_owned()),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|v| format!("[{}]", v.join(","))),
            object(
                &[
                    "cents",
                    "owner",
                    "currency",
                    "overdraft_limit_cents",
                    "after",
                    "x"
                ],
                inner
            ),
        ]
    })
}

fn object(
    names: &'static [&'static str],
    value: impl Strategy<Value = String> + Clone,
) -> impl Strategy<Value = String> + Clone {
    let space = select(&["", "", "", " ", "\n\t"][..]);
    let member = (select(names), value, space)
        .prop_map(|(name, value, space)| format!("{space}\"{name}\"{space}:{space}{value}{space}"));
    prop::collection::vec(member, 0..7).prop_map(|members| format!("{{{}}}", members.join(",")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn edited_events_are_read_alike(edits in edits()) {
        agree(&edited(EVENT, &edits))?;
    }

    #[test]
    fn edited_payloads_are_read_alike(edits in edits()) {
        for text in [OPENED, USUAL, r#"{"cents":500,"note":"a b","after":{"x":[1,2]}}"#] {
            if let Ok(text) = std::str::from_utf8(&edited(text, &edits)) {
                payloads_agree(text)?;
            }
        }
    }

    #[test]
    fn built_events_are_read_alike(
        text in object(&["format", "aggregate_id", "version", "type", "ts", "payload", "x"], value().boxed()),
    ) {
        agree(text.as_bytes())?;
    }

    #[test]
    fn one_member_of_any_value_is_read_alike(
        name in select(&["format", "aggregate_id", "version", "type", "ts", "payload", "x"][..]),
        value in value(),
    ) {
        // In the place of the first member, and behind all others.
        let other = EVENT.replacen(&format!("\"{name}\":"), "\"y\":", 1);
        agree(other.replacen('{', &format!("{{\"{name}\":{value},"), 1).as_bytes())?;
        let open = other.strip_suffix('}').expect("an object");
        agree(format!("{open},\"{name}\":{value}}}").as_bytes())?;
    }

    #[test]
    fn built_payloads_are_read_alike(
        text in object(&["cents", "owner", "currency", "overdraft_limit_cents", "x"], value().boxed()),
    ) {
        payloads_agree(&text)?;
    }

    #[test]
    fn a_string_of_any_length_ends_at_its_quote(text in ".{0,40}", tail in select(&["", "\"", "\\", "\u{1}"][..])) {
        agree(EVENT.replace("Miete", &format!("{text}{tail}")).as_bytes())?;
        agree(EVENT.replace("Deposited", &format!("{text}{tail}")).as_bytes())?;
    }
}

#[test]
fn ordinary_events_need_no_library() {
    let spaced = EVENT.replace(',', " ,\n ").replace("\":", "\" : ");
    let quoted = EVENT.replace(":42", ":\"42\"");
    let numeric = EVENT.replace("\"2024-02-29T12:00:00.000123Z\"", "1709208000000123");
    for text in [EVENT, &spaced, &quoted, &numeric] {
        assert!(matches!(agree(text.as_bytes()), Ok(true)), "{text}");
    }
    assert!(matches!(payloads_agree(OPENED), Ok(true)));
    assert!(matches!(payloads_agree(USUAL), Ok(true)));
    // Both shortcuts are taken: whatever is said of them above is said of something.
    let seen = head(EVENT.as_bytes()).expect("as a producer writes it");
    assert!(EVENT.ends_with(&format!("{}}}", text_of(&seen))));
    assert!(head(spaced.as_bytes()).is_none());
    assert_eq!(accounts::json::usual_amount(USUAL), Some(500));
    assert_eq!(accounts::json::usual_amount(OPENED), None);
    let golden = |name: &str| {
        let path = format!("{}/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(&path).expect(&path)
    };
    for name in ["opened", "deposited", "frozen"] {
        assert!(matches!(agree(&golden(name)), Ok(true)), "{name}");
    }
    // Escapes in a note and in an id, and an integer that has no opposite: for the library.
    for name in ["withdrawn", "closed", "reversed"] {
        assert!(matches!(agree(&golden(name)), Ok(false)), "{name}");
    }
}

#[test]
fn every_single_byte_in_every_place_is_read_alike() {
    let small = r#"{"format":1,"aggregate_id":42,"version":7,"type":"Frozen","ts":9,"payload":{"cents":5,"a":"b c"}}"#;
    for at in 0..small.len() {
        for byte in 0..=u8::MAX {
            let mut bytes = small.as_bytes().to_vec();
            bytes[at] = byte;
            agree(&bytes).expect("alike");
            bytes.insert(at, small.as_bytes()[at]);
            agree(&bytes).expect("alike");
        }
        agree(&small.as_bytes()[..at]).expect("alike");
    }
}
