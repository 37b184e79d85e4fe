//! The borrowed decoders against prost on arbitrary input: the same verdict,
//! and the same values where the verdict is yes.

mod fields;
mod reference;
mod usual;

use proptest::collection::vec;
use proptest::prelude::*;
use refold_proto::{Reason, decode_proto};

use fields::{Field, any_bytes, any_field, any_number, fitting_field, soup};
use reference::{agree, payloads_agree, reference};
use usual::{any_text, flaws, usual_number, usual_payload};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn envelopes_of_fitting_fields_in_any_order_agree(fields in vec(fitting_field(), 0..24)) {
        agree(&soup(&fields))?;
    }

    #[test]
    fn envelopes_with_all_fields_and_one_damaged_byte_agree(
        fields in vec(fitting_field(), 4..16),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        let mut bytes = soup(&fields);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        agree(&bytes)?;
    }

    #[test]
    fn envelopes_of_any_fields_agree(fields in vec(any_field(), 0..12)) {
        agree(&soup(&fields))?;
    }

    #[test]
    fn arbitrary_bytes_agree(bytes in vec(any::<u8>(), 0..64)) {
        agree(&bytes)?;
        payloads_agree(&bytes)?;
    }

    #[test]
    fn payloads_of_any_fields_agree(fields in vec(any_field(), 0..8)) {
        payloads_agree(&soup(&fields))?;
    }

    #[test]
    fn payloads_with_numbers_where_they_belong_agree(
        numbers in vec((1_u32..6, any_number()), 0..6),
        after in vec((1_u32..5, any_number()), 0..5),
        note in any_bytes(),
    ) {
        let of = |pairs: Vec<(u32, u64)>| -> Vec<Field> {
            pairs.into_iter().map(|(n, v)| Field::Varint(n, v)).collect()
        };
        let numbers = numbers.into_iter().filter(|(n, _)| *n > 1).collect();
        let mut fields = of(numbers);
        fields.insert(0, Field::Message(1, of(after.clone())));
        fields.push(Field::Bytes(9, note));
        fields.push(Field::Message(1, of(after)));
        payloads_agree(&soup(&fields))?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn usual_envelopes_and_near_misses_agree(
        (id, version, ts) in (usual_number(), usual_number(), usual_number()),
        kind in any_text(),
        payload in vec(any::<u8>(), 0..200),
        flaws in flaws(),
    ) {
        let fields = vec![
            Field::Varint(1, 1),
            Field::Varint(2, id),
            Field::Varint(5, version),
            Field::Bytes(6, kind),
            Field::Varint(7, ts),
            Field::Bytes(8, payload),
        ];
        agree(&flaws.apply(fields))?;
    }

    #[test]
    fn usual_payloads_and_near_misses_agree(fields in usual_payload(), flaws in flaws()) {
        payloads_agree(&flaws.apply(fields))?;
    }
}

#[test]
fn nesting_is_bounded_where_prost_bounds_it() {
    let whole = soup(&[
        Field::Varint(1, 1),
        Field::Varint(2, 84),
        Field::Varint(5, 7),
        Field::Bytes(6, b"Opened".to_vec()),
    ]);
    let mut accepted = Vec::new();
    for depth in 90..110 {
        let mut bytes = whole.clone();
        bytes.extend(std::iter::repeat_n(0x7b, depth));
        bytes.extend(std::iter::repeat_n(0x7c, depth));
        let ours = decode_proto(&bytes);
        assert_eq!(ours.is_ok(), reference(&bytes).is_some(), "depth {depth}");
        match ours {
            Ok(_) => accepted.push(depth),
            Err(refused) => assert_eq!(refused.reason, Reason::Nesting),
        }
    }
    assert_eq!(accepted, (90..=100).collect::<Vec<_>>());
}

#[test]
fn a_refusal_names_the_byte_and_the_reason() {
    let head = [
        Field::Varint(1, 1),
        Field::Varint(2, 84),
        Field::Varint(5, 7),
        Field::Bytes(6, b"Opened".to_vec()),
    ];
    let whole = soup(&head);
    let refusal = |tail: &[u8]| {
        let bytes = [whole.as_slice(), tail].concat();
        let refused = decode_proto(&bytes).expect_err("damaged");
        assert!(reference(&bytes).is_none());
        (refused.at - whole.len(), refused.reason)
    };
    assert_eq!(refusal(&[0x08, 2]), (2, Reason::Format(2)));
    assert_eq!(refusal(&[0x08, 0x80]), (1, Reason::Varint));
    assert_eq!(refusal(&[0x00, 0x00]), (0, Reason::FieldNumber));
    assert_eq!(refusal(&[0x0f]), (0, Reason::WireType(7)));
    assert_eq!(refusal(&[0x42, 5, 1]), (1, Reason::Truncated(5)));
    assert_eq!(refusal(&[0x32, 2, b'a', 0xff]), (3, Reason::Utf8(6)));
    assert_eq!(refusal(&[0x1a, 2, 1, 2]), (4, Reason::UuidLength(2)));
    assert_eq!(refusal(&[0x28, 0]), (2, Reason::NoVersion));
    assert_eq!(refusal(&[0x32, 0]), (2, Reason::NoType));
    assert_eq!(refusal(&[0x7c]), (0, Reason::Group));
    assert_eq!(
        refusal(&[0x45, 1, 2, 3, 4]),
        (
            0,
            Reason::FieldType {
                field: 8,
                expected: 2,
                found: 5
            }
        )
    );
    let nameless = soup(&[head[0].clone(), head[2].clone(), head[3].clone()]);
    assert_eq!(
        decode_proto(&nameless).expect_err("no id").reason,
        Reason::NoAggregateId
    );
}

#[test]
fn a_value_beyond_the_limit_is_not_read() {
    let bytes = vec![0; refold_proto::MAX_VALUE_BYTES + 1];
    let reason = Reason::TooLarge(bytes.len());
    assert_eq!(decode_proto(&bytes).expect_err("too large").reason, reason);
    assert_eq!(
        refold_proto::decode_json(&bytes)
            .expect_err("too large")
            .reason,
        reason
    );
}
