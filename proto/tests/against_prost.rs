//! The borrowed decoders against prost on arbitrary input: the same verdict,
//! and the same values where the verdict is yes.

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use refold_proto::accounts::{AccountEvent, Booking, Status, decode_after, decode_event};
use refold_proto::pb::v1::envelope::AggregateId;
use refold_proto::{IdRef, Payload, Reason, decode_proto, pb};

/// One field on the wire, well formed by itself or not.
#[derive(Debug, Clone)]
enum Field {
    Varint(u32, u64),
    Fixed64(u32),
    Fixed32(u32),
    Bytes(u32, Vec<u8>),
    Message(u32, Vec<Field>),
    Group(u32, u32, Vec<Field>),
    Raw(Vec<u8>),
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put(field: &Field, out: &mut Vec<u8>) {
    let key = |out: &mut Vec<u8>, field: u32, wire: u32| {
        put_varint(out, u64::from(field << 3 | wire));
    };
    match field {
        Field::Varint(number, value) => {
            key(out, *number, 0);
            put_varint(out, *value);
        }
        Field::Fixed64(number) => {
            key(out, *number, 1);
            out.extend_from_slice(&[7; 8]);
        }
        Field::Fixed32(number) => {
            key(out, *number, 5);
            out.extend_from_slice(&[7; 4]);
        }
        Field::Bytes(number, bytes) => {
            key(out, *number, 2);
            put_varint(out, bytes.len() as u64);
            out.extend_from_slice(bytes);
        }
        Field::Message(number, fields) => {
            key(out, *number, 2);
            let inner = soup(fields);
            put_varint(out, inner.len() as u64);
            out.extend_from_slice(&inner);
        }
        Field::Group(number, end, fields) => {
            key(out, *number, 3);
            out.extend_from_slice(&soup(fields));
            key(out, *end, 4);
        }
        Field::Raw(bytes) => out.extend_from_slice(bytes),
    }
}

fn soup(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields {
        put(field, &mut out);
    }
    out
}

fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0_u64..4,
        any::<u64>(),
        any::<i32>().prop_map(|v| v as u64),
        Just(1)
    ]
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[A-Za-zäöü€😀]{0,12}".prop_map(String::into_bytes),
        vec(any::<u8>(), 0..20),
        vec(any::<u8>(), 16),
    ]
}

/// Field numbers of the messages, and a few beyond.
fn any_field() -> impl Strategy<Value = Field> {
    let number = 1_u32..12;
    let leaf = prop_oneof![
        8 => (number.clone(), any_number()).prop_map(|(n, v)| Field::Varint(n, v)),
        8 => (number.clone(), any_bytes()).prop_map(|(n, v)| Field::Bytes(n, v)),
        1 => number.clone().prop_map(Field::Fixed64),
        1 => number.clone().prop_map(Field::Fixed32),
        1 => vec(any::<u8>(), 0..12).prop_map(Field::Raw),
    ];
    leaf.prop_recursive(3, 12, 4, move |inner| {
        let number = 1_u32..12;
        prop_oneof![
            (number.clone(), vec(inner.clone(), 0..4)).prop_map(|(n, f)| Field::Message(n, f)),
            (number, 0_u32..8, vec(inner, 0..4))
                // Most groups end with their own number.
                .prop_map(|(n, end, f)| Field::Group(n, if end > 0 { n } else { 1 }, f)),
        ]
    })
}

/// A field that fits its declaration in the envelope.
fn fitting_field() -> impl Strategy<Value = Field> {
    prop_oneof![
        Just(Field::Varint(1, 1)),
        any_number().prop_map(|v| Field::Varint(2, v)),
        any_bytes().prop_map(|v| Field::Bytes(3, v)),
        "[a-z€]{0,5}".prop_map(|v| Field::Bytes(4, v.into_bytes())),
        any_number().prop_map(|v| Field::Varint(5, v)),
        "[A-Z]{1,9}".prop_map(|v| Field::Bytes(6, v.into_bytes())),
        any_number().prop_map(|v| Field::Varint(7, v)),
        any_bytes().prop_map(|v| Field::Bytes(8, v)),
        (9_u32..2000, any_number()).prop_map(|(n, v)| Field::Varint(n, v)),
        (9_u32..2000, any_bytes()).prop_map(|(n, v)| Field::Bytes(n, v)),
    ]
}

type Parts = (IdRef<'static>, u64, String, i64, Vec<u8>);

/// What prost makes of the bytes, with the envelope's own rules on top.
fn reference(bytes: &[u8]) -> Option<Parts> {
    let event = pb::v1::Envelope::decode(bytes).ok()?;
    if event.format != 1 || event.version == 0 || event.r#type.is_empty() {
        return None;
    }
    let id = match event.aggregate_id? {
        AggregateId::Int(id) => IdRef::Int(id),
        AggregateId::Uuid(id) => IdRef::Uuid(id.try_into().ok()?),
        AggregateId::Text(id) => IdRef::Text(id.into()),
    };
    Some((
        id,
        event.version,
        event.r#type,
        event.ts_micros,
        event.payload,
    ))
}

fn agree(bytes: &[u8]) -> Result<(), TestCaseError> {
    let ours = decode_proto(bytes);
    if let Err(refused) = &ours {
        prop_assert!(refused.at <= bytes.len());
    }
    let ours = ours.ok().map(|event| {
        let Payload::Proto(payload) = event.payload else {
            panic!("a protobuf envelope holds a protobuf payload");
        };
        let id = match event.id {
            IdRef::Int(id) => IdRef::Int(id),
            IdRef::Uuid(id) => IdRef::Uuid(id),
            IdRef::Text(text) => IdRef::Text(text.into_owned().into()),
        };
        let kind = event.kind.into_owned();
        (id, event.version, kind, event.ts_micros, payload.to_vec())
    });
    prop_assert_eq!(ours, reference(bytes));
    Ok(())
}

/// The fields of the accounts messages that a fold asks for, as a smaller
/// schema: prost then passes over the others exactly as it should.
mod narrow {
    #[derive(prost::Message)]
    pub(crate) struct Amount {
        #[prost(int64, tag = "2")]
        pub(crate) cents: i64,
    }
    #[derive(prost::Message)]
    pub(crate) struct Opened {
        #[prost(string, tag = "2")]
        pub(crate) owner: String,
        #[prost(string, tag = "3")]
        pub(crate) currency: String,
        #[prost(int64, tag = "4")]
        pub(crate) overdraft_limit_cents: i64,
    }
    #[derive(prost::Message)]
    pub(crate) struct Reversed {
        #[prost(int64, tag = "2")]
        pub(crate) cents: i64,
        #[prost(uint64, tag = "3")]
        pub(crate) of_version: u64,
        #[prost(int32, tag = "4")]
        pub(crate) what: i32,
    }
    #[derive(prost::Message)]
    pub(crate) struct Closed {
        #[prost(sint64, tag = "2")]
        pub(crate) payout_cents: i64,
    }
    #[derive(prost::Message)]
    pub(crate) struct Nothing {}
    #[derive(prost::Message)]
    pub(crate) struct WithAfter {
        #[prost(message, optional, tag = "1")]
        pub(crate) after: Option<super::pb::accounts::AfterImage>,
    }
}

fn reference_event(kind: &str, bytes: &[u8]) -> Option<AccountEvent<'static>> {
    let event = match kind {
        "Deposited" | "Withdrawn" => {
            let cents = narrow::Amount::decode(bytes).ok()?.cents;
            if cents <= 0 {
                return None;
            }
            match kind {
                "Deposited" => AccountEvent::Deposited { cents },
                _ => AccountEvent::Withdrawn { cents },
            }
        }
        "Opened" => {
            let opened = narrow::Opened::decode(bytes).ok()?;
            AccountEvent::Opened {
                owner: opened.owner.into(),
                currency: opened.currency.into(),
                overdraft_limit_cents: opened.overdraft_limit_cents,
            }
        }
        "Reversed" => {
            let reversed = narrow::Reversed::decode(bytes).ok()?;
            if reversed.cents <= 0 || reversed.of_version == 0 {
                return None;
            }
            AccountEvent::Reversed {
                cents: reversed.cents,
                of_version: reversed.of_version,
                what: match reversed.what {
                    1 => Booking::Deposit,
                    2 => Booking::Withdrawal,
                    _ => return None,
                },
            }
        }
        "Closed" => AccountEvent::Closed {
            payout_cents: narrow::Closed::decode(bytes).ok()?.payout_cents,
        },
        other => {
            narrow::Nothing::decode(bytes).ok()?;
            match other {
                "Frozen" => AccountEvent::Frozen,
                "Unfrozen" => AccountEvent::Unfrozen,
                _ => AccountEvent::Reopened,
            }
        }
    };
    Some(event)
}

fn reference_after(bytes: &[u8]) -> Option<(i64, Status, u64)> {
    let after = narrow::WithAfter::decode(bytes).ok()?.after?;
    let status = match after.status {
        1 => Status::Open,
        2 => Status::Frozen,
        3 => Status::Closed,
        _ => return None,
    };
    Some((after.balance_cents, status, after.version))
}

fn payloads_agree(bytes: &[u8]) -> Result<(), TestCaseError> {
    for kind in refold_proto::accounts::KINDS {
        let ours = decode_event(kind, Payload::Proto(bytes));
        prop_assert_eq!(
            ours.ok().map(|event| event.expect("a known kind")),
            reference_event(kind, bytes),
            "{}",
            kind
        );
    }
    let ours = decode_after(Payload::Proto(bytes)).ok();
    prop_assert_eq!(
        ours.map(|after| (after.balance_cents, after.status, after.version)),
        reference_after(bytes)
    );
    Ok(())
}

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

/// A message of the usual shape, with up to two things that are not: a byte of it is
/// another one, a field comes again, it ends early.
#[derive(Debug, Clone)]
struct Flaws {
    byte: Option<(prop::sample::Index, u8)>,
    repeated: Option<(prop::sample::Index, prop::sample::Index)>,
    cut: Option<prop::sample::Index>,
}

fn flaws() -> impl Strategy<Value = Flaws> {
    use prop::option::weighted;
    let index = any::<prop::sample::Index>;
    let byte = weighted(0.4, (index(), any::<u8>()));
    let repeated = weighted(0.2, (index(), index()));
    let cut = weighted(0.1, index());
    (byte, repeated, cut).prop_map(|(byte, repeated, cut)| Flaws {
        byte,
        repeated,
        cut,
    })
}

impl Flaws {
    fn apply(self, mut fields: Vec<Field>) -> Vec<u8> {
        if let Some((from, to)) = self.repeated {
            let again = fields[from.index(fields.len())].clone();
            fields.insert(to.index(fields.len() + 1), again);
        }
        let mut bytes = soup(&fields);
        if let Some((at, byte)) = self.byte {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = self.cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes
    }
}

fn any_text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => "[ -~]{0,40}".prop_map(String::into_bytes),
        1 => "[a-zäöü€😀]{0,20}".prop_map(String::into_bytes),
        1 => "[a-z]{120,140}".prop_map(String::into_bytes),
    ]
}

/// Positive for the most part, of any length.
fn usual_number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0_u32..64).prop_map(|(number, shift)| number >> shift)
}

fn usual_after() -> impl Strategy<Value = Field> {
    (usual_number(), 0_u64..4, usual_number()).prop_map(|(balance, status, version)| {
        let fields = [(1, balance), (2, status), (3, version)];
        Field::Message(1, fields.map(|(n, v)| Field::Varint(n, v)).to_vec())
    })
}

/// An amount's or an opening's fields in their order.
fn usual_payload() -> impl Strategy<Value = Vec<Field>> {
    let texts = |from: u32| {
        vec(any_text(), 0..7).prop_map(move |texts| {
            let numbered = (from..).zip(texts);
            numbered
                .map(|(n, text)| Field::Bytes(n, text))
                .collect::<Vec<_>>()
        })
    };
    let amount = (usual_after(), usual_number(), texts(3))
        .prop_map(|(after, cents, texts)| [vec![after, Field::Varint(2, cents)], texts].concat());
    let opened = (
        usual_after(),
        any_text(),
        "[A-Z]{3}",
        prop::option::of(usual_number()),
        texts(5),
    );
    let opened = opened.prop_map(|(after, owner, currency, limit, texts)| {
        let mut fields = vec![
            after,
            Field::Bytes(2, owner),
            Field::Bytes(3, currency.into_bytes()),
        ];
        fields.extend(limit.map(|limit| Field::Varint(4, limit)));
        [fields, texts].concat()
    });
    prop_oneof![amount, opened]
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
