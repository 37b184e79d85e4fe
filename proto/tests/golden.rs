//! Bytes that were written once stay readable, and are written the same way.

mod golden_events;

use prost::Message;
use refold_proto::accounts::{AccountEvent, Booking, decode_after, decode_event};
use refold_proto::{EnvelopeRef, Payload, WireFormat, decode, pb};

fn file(name: &str) -> Vec<u8> {
    let path = golden_events::directory().join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_event_is_written_as_its_golden_file() {
    for format in [WireFormat::Proto, WireFormat::Json] {
        for (name, bytes) in golden_events::encoded(format) {
            assert!(bytes == file(&name), "{name} is written differently");
        }
    }
}

#[test]
fn prost_writes_the_same_bytes() {
    for (name, bytes) in golden_events::encoded(WireFormat::Proto) {
        let owned = pb::v1::Envelope::decode(bytes.as_slice()).expect("decodes");
        assert_eq!(owned.encode_to_vec(), bytes, "{name}");
        let payload = owned.payload.as_slice();
        let again = match owned.r#type.as_str() {
            "Opened" => pb::accounts::Opened::decode(payload).map(|m| m.encode_to_vec()),
            "Deposited" => pb::accounts::Deposited::decode(payload).map(|m| m.encode_to_vec()),
            "Withdrawn" => pb::accounts::Withdrawn::decode(payload).map(|m| m.encode_to_vec()),
            "Reversed" => pb::accounts::Reversed::decode(payload).map(|m| m.encode_to_vec()),
            "Frozen" => pb::accounts::Frozen::decode(payload).map(|m| m.encode_to_vec()),
            "Unfrozen" => pb::accounts::Unfrozen::decode(payload).map(|m| m.encode_to_vec()),
            "Closed" => pb::accounts::Closed::decode(payload).map(|m| m.encode_to_vec()),
            "Reopened" => pb::accounts::Reopened::decode(payload).map(|m| m.encode_to_vec()),
            other => panic!("no message for {other}"),
        };
        assert_eq!(again.expect("decodes"), payload, "{name}");
    }
}

#[test]
fn both_forms_of_an_event_say_the_same() {
    let proto = golden_events::encoded(WireFormat::Proto);
    let json = golden_events::encoded(WireFormat::Json);
    assert_eq!(proto.len(), json.len());
    for ((name, proto), (_, json)) in proto.iter().zip(&json) {
        let left = decode(WireFormat::Proto, proto).expect("decodes");
        let right = decode(WireFormat::Json, json).expect("decodes");
        assert_eq!(left.id.int(), right.id.int(), "{name}");
        assert_eq!(left.id.uuid(), right.id.uuid(), "{name}");
        assert_eq!(left.version, right.version, "{name}");
        assert_eq!(left.kind, right.kind, "{name}");
        assert_eq!(left.ts_micros, right.ts_micros, "{name}");
        assert_eq!(event_of(&left), event_of(&right), "{name}");
        assert_eq!(
            decode_after(left.payload),
            decode_after(right.payload),
            "{name}"
        );
    }
}

fn event_of<'a>(event: &EnvelopeRef<'a>) -> AccountEvent<'a> {
    decode_event(&event.kind, event.payload)
        .expect("decodes")
        .expect("an accounts event")
}

#[test]
fn an_event_of_another_name_is_no_accounts_event() {
    for payload in [Payload::Proto(&[0xff]), Payload::Json("[")] {
        assert_eq!(decode_event("Renamed", payload), Ok(None));
    }
}

#[test]
fn the_golden_reversal_reads_as_it_was_meant() {
    let bytes = file("reversed.bin");
    let event = decode(WireFormat::Proto, &bytes).expect("decodes");
    assert_eq!(event.id.int(), Some(i64::MIN));
    assert_eq!(event.version, 4);
    let after = decode_after(event.payload).expect("decodes");
    assert_eq!((after.balance_cents, after.version), (12_345, 4));
    assert_eq!(
        event_of(&event),
        AccountEvent::Reversed {
            cents: 52_345,
            of_version: 3,
            what: Booking::Withdrawal
        }
    );
}
