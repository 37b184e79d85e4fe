//! Messages on the wire, field by field.

use proptest::collection::vec;
use proptest::prelude::*;

/// One field on the wire, well formed by itself or not.
#[derive(Debug, Clone)]
pub(crate) enum Field {
    Varint(u32, u64),
    Fixed64(u32),
    Fixed32(u32),
    Bytes(u32, Vec<u8>),
    Message(u32, Vec<Field>),
    Group(u32, u32, Vec<Field>),
    Raw(Vec<u8>),
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put(field: &Field, out: &mut Vec<u8>) {
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

pub(crate) fn soup(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields {
        put(field, &mut out);
    }
    out
}

pub(crate) fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0_u64..4,
        any::<u64>(),
        any::<i32>().prop_map(|v| v as u64),
        Just(1)
    ]
}

pub(crate) fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[A-Za-zäöü€😀]{0,12}".prop_map(String::into_bytes),
        vec(any::<u8>(), 0..20),
        vec(any::<u8>(), 16),
    ]
}

/// Field numbers of the messages, and a few beyond.
pub(crate) fn any_field() -> impl Strategy<Value = Field> {
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
pub(crate) fn fitting_field() -> impl Strategy<Value = Field> {
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
