//! The JSON form: what is borrowed, what is refused, and where.

use std::borrow::Cow;

use refold_proto::accounts::{AccountEvent, decode_event};
use refold_proto::{IdRef, Payload, Reason, decode_json};

const WHOLE: &str = r#"{"format":1,"aggregate_id":42,"version":7,"type":"Deposited","ts":"2024-02-29T12:00:00.000123Z","payload":{"cents":500}}"#;

fn replaced(from: &str, to: &str) -> String {
    assert!(WHOLE.contains(from));
    WHOLE.replace(from, to)
}

#[test]
fn an_event_is_read_without_a_copy() {
    let event = decode_json(WHOLE.as_bytes()).expect("decodes");
    assert_eq!(event.id, IdRef::Int(42));
    assert_eq!(event.version, 7);
    assert!(matches!(event.kind, Cow::Borrowed("Deposited")));
    assert_eq!(event.ts_micros, 1_709_208_000_000_123);
    assert_eq!(event.payload, Payload::Json(r#"{"cents":500}"#));
}

#[test]
fn members_may_come_in_any_order_with_others_between() {
    let text = r#" { "payload" : {"x":[1,{"payload":2}], "cents" : 500 }, "trace":{"a":[]},
        "ts": 1709208000000123, "type":"Deposited", "version" : 7,
        "aggregate_id":"42", "format":1 } "#;
    let event = decode_json(text.as_bytes()).expect("decodes");
    assert_eq!(event.id.int(), Some(42));
    assert_eq!(event.ts_micros, 1_709_208_000_000_123);
    assert_eq!(
        decode_event(&event.kind, event.payload),
        Ok(Some(AccountEvent::Deposited { cents: 500 }))
    );
}

#[test]
fn text_with_an_escape_is_copied_and_right() {
    let text = replaced("42", r#""Gr\u00fcn \"7\"""#).replace("Deposited", r"De\u0070osited");
    let event = decode_json(text.as_bytes()).expect("decodes");
    assert_eq!(event.id.text(), Some("Grün \"7\""));
    assert!(matches!(event.kind, Cow::Owned(ref kind) if kind == "Deposited"));
}

#[test]
fn contents_that_make_no_event_are_refused_with_the_reason() {
    for (from, to, reason) in [
        ("\"format\":1", "\"format\":2", Reason::Format(2)),
        ("\"format\":1", "\"f\":1", Reason::Format(0)),
        ("\"version\":7", "\"version\":0", Reason::NoVersion),
        ("Deposited", "", Reason::NoType),
        ("\"aggregate_id\":42,", "", Reason::NoAggregateId),
        (
            "\"aggregate_id\":42",
            "\"aggregate_id\":null",
            Reason::NoAggregateId,
        ),
        ("\"ts\"", "\"time\"", Reason::Timestamp),
    ] {
        let text = replaced(from, to);
        let refused = decode_json(text.as_bytes()).expect_err(&text);
        assert_eq!(refused.reason, reason, "{text}");
        assert_eq!(refused.at, text.len(), "{text}");
    }
}

#[test]
fn members_of_another_type_are_refused_where_they_stand() {
    for (from, to) in [
        ("\"version\":7", "\"version\":-7"),
        ("\"version\":7", "\"version\":7.5"),
        ("\"aggregate_id\":42", "\"aggregate_id\":[42]"),
        (
            "\"aggregate_id\":42",
            "\"aggregate_id\":9223372036854775808",
        ),
        ("\"type\":\"Deposited\"", "\"type\":7"),
        ("2024-02-29", "2023-02-29"),
        ("\"format\":1", "\"format\":1,\"format\":1"),
        ("500}}", "500}"),
        ("500}}", "500}}}"),
        ("{\"cents\":500}", "{cents:500}"),
    ] {
        let text = replaced(from, to);
        let refused = decode_json(text.as_bytes()).expect_err(&text);
        assert!(matches!(refused.reason, Reason::Json(_)), "{refused}");
        assert!(refused.at > 0 && refused.at <= text.len(), "{refused}");
        assert!(!refused.to_string().contains(" line "), "{refused}");
    }
}

#[test]
fn an_error_on_a_later_line_is_found_at_its_byte() {
    let text = "{\n  \"format\": 1,\n  \"version\": x\n}";
    let refused = decode_json(text.as_bytes()).expect_err("no JSON");
    assert_eq!(&text[refused.at..=refused.at], "x");
}

#[test]
fn a_payload_that_would_fold_wrong_is_refused() {
    let refusal = |kind, payload| {
        decode_event(kind, Payload::Json(payload))
            .expect_err(payload)
            .reason
    };
    assert_eq!(refusal("Deposited", "{}"), Reason::Cents(0));
    assert_eq!(refusal("Withdrawn", r#"{"cents":-5}"#), Reason::Cents(-5));
    assert_eq!(
        refusal("Reversed", r#"{"cents":5,"what":"deposit"}"#),
        Reason::NoVersion
    );
    for payload in [
        r#"{"cents":5,"of_version":3,"what":"fee"}"#,
        "[]",
        "7",
        "{\"cents\":1e3}",
    ] {
        assert!(matches!(refusal("Reversed", payload), Reason::Json(_)));
    }
    assert!(matches!(refusal("Frozen", "[1]"), Reason::Json(_)));
}

#[test]
fn deep_nesting_in_what_is_passed_over_costs_no_stack() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    // The end of the payload is found without recursion, whatever is in it.
    let text = replaced("500", &deep);
    let event = decode_json(text.as_bytes()).expect("the envelope itself is flat");
    // A member of the wrong type is refused at its first byte.
    let refused = decode_event(&event.kind, event.payload).expect_err("no amount");
    assert!(matches!(refused.reason, Reason::Json(_)) && refused.at < 12);
    let text = replaced("\"cents\":500", &format!("\"note\":{deep},\"cents\":500"));
    let event = decode_json(text.as_bytes()).expect("the envelope itself is flat");
    assert_eq!(
        decode_event(&event.kind, event.payload),
        Ok(Some(AccountEvent::Deposited { cents: 500 }))
    );
}
