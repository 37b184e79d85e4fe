//! The plain reader of envelopes reads what the borrowing one reads.

use refold_proto::{
    EnvelopeRef, IdRef, Payload, PlainEnvelope, PlainId, PlainPayload, WireFormat, decode,
    decode_plain,
};

const WHOLE: &str = r#"{"format":1,"aggregate_id":42,"version":7,"type":"Scanned","ts":"2024-02-29T12:00:00.000123Z","payload":{"z": 12.350, "a":[1e2 ,90071992547409931234]}}"#;

fn plainly(event: &EnvelopeRef<'_>) -> PlainEnvelope {
    PlainEnvelope {
        id: match &event.id {
            IdRef::Int(id) => PlainId::Int(*id),
            IdRef::Uuid(bytes) => PlainId::Uuid(*bytes),
            IdRef::Text(text) => PlainId::Text(text.to_string()),
        },
        version: event.version,
        kind: event.kind.to_string(),
        ts_micros: event.ts_micros,
        payload: match event.payload {
            Payload::Proto(bytes) => PlainPayload::Proto(bytes.to_vec()),
            Payload::Json(text) => PlainPayload::Json(text.to_owned()),
        },
    }
}

#[test]
fn the_text_of_a_json_payload_stays_as_it_is() {
    let event = decode_plain(WireFormat::Json, WHOLE.as_bytes()).expect("an envelope");
    let text = r#"{"z": 12.350, "a":[1e2 ,90071992547409931234]}"#;
    assert_eq!(event.payload, PlainPayload::Json(text.to_owned()));
}

#[test]
fn both_readers_of_json_read_the_same() {
    for (from, to) in [
        ("", ""),
        ("42", "\"42\""),
        ("42", "\"550e8400-e29b-41d4-a716-446655440000\""),
        ("42", r#""Gr\u00fcn""#),
        ("\"2024-02-29T12:00:00.000123Z\"", "1709208000000123"),
        ("Scanned", r"Sc\u0061nned"),
        (r#","payload""#, r#","other""#),
        (r#""format":1"#, r#""trace":{"payload":2},"format":1"#),
    ] {
        assert!(WHOLE.contains(from));
        let text = WHOLE.replacen(from, to, 1);
        let borrowed = decode(WireFormat::Json, text.as_bytes()).expect("an envelope");
        let plain = decode_plain(WireFormat::Json, text.as_bytes());
        assert_eq!(plain, Ok(plainly(&borrowed)), "{text}");
    }
}

#[test]
fn both_readers_of_json_refuse_the_same() {
    for (from, to) in [
        ("\"format\":1", "\"format\":2"),
        ("\"format\":1,", ""),
        ("\"version\":7", "\"version\":0"),
        ("Scanned", ""),
        ("\"aggregate_id\":42,", ""),
        ("\"aggregate_id\":42", "\"aggregate_id\":null"),
        (
            "\"aggregate_id\":42",
            "\"aggregate_id\":42,\"aggregate_id\":42",
        ),
        ("\"ts\"", "\"time\""),
        ("}}", "}"),
    ] {
        assert!(WHOLE.contains(from));
        let text = WHOLE.replacen(from, to, 1);
        assert!(decode(WireFormat::Json, text.as_bytes()).is_err(), "{text}");
        let plain = decode_plain(WireFormat::Json, text.as_bytes());
        assert!(plain.is_err(), "{text}");
    }
}

#[test]
fn both_readers_of_protobuf_read_the_same() {
    for id in [
        IdRef::Int(-7),
        IdRef::Uuid([7; 16]),
        IdRef::Text("seven".into()),
    ] {
        let event = EnvelopeRef {
            id,
            version: 3,
            kind: "Added".into(),
            ts_micros: -5,
            payload: Payload::Proto(b"body"),
        };
        let mut bytes = Vec::new();
        event.encode_to(&mut bytes);
        let plain = decode_plain(WireFormat::Proto, &bytes);
        assert_eq!(plain, Ok(plainly(&event)));
        assert!(decode_plain(WireFormat::Proto, &bytes[..bytes.len() - 1]).is_err());
    }
}
