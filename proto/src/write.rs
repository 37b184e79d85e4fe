//! Writing values in both forms, byte for byte as prost would (fields in
//! order, defaults left out), without building messages first.

use crate::envelope::{EnvelopeRef, FORMAT, IdRef};
use crate::timestamp;
use crate::wire::{BYTES, VARINT};

pub(crate) fn envelope_proto(event: &EnvelopeRef<'_>, payload: &[u8], out: &mut Vec<u8>) {
    uint_field(out, 1, u64::from(FORMAT));
    match &event.id {
        // A member of a oneof is written even when it has its default value:
        // its presence is the information.
        IdRef::Int(id) => {
            key(out, 2, VARINT);
            varint(out, zigzag(*id));
        }
        IdRef::Uuid(id) => delimited(out, 3, id),
        IdRef::Text(id) => delimited(out, 4, id.as_bytes()),
    }
    uint_field(out, 5, event.version);
    bytes_field(out, 6, event.kind.as_bytes());
    uint_field(out, 7, event.ts_micros as u64);
    bytes_field(out, 8, payload);
}

pub(crate) fn envelope_json(event: &EnvelopeRef<'_>, payload: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"format\":1,\"aggregate_id\":");
    match &event.id {
        IdRef::Int(id) => json_number(out, i128::from(*id)),
        IdRef::Uuid(id) => json_uuid(out, id),
        IdRef::Text(id) => json_text(out, id),
    }
    out.extend_from_slice(b",\"version\":");
    json_number(out, i128::from(event.version));
    out.extend_from_slice(b",\"type\":");
    json_text(out, &event.kind);
    out.extend_from_slice(b",\"ts\":");
    timestamp::write(event.ts_micros, out);
    out.extend_from_slice(b",\"payload\":");
    out.extend_from_slice(payload.as_bytes());
    out.push(b'}');
}

#[inline]
pub(crate) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[inline]
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[inline]
pub(crate) fn key(out: &mut Vec<u8>, field: u32, wire_type: u8) {
    varint(out, u64::from(field << 3 | u32::from(wire_type)));
}

/// A field of any integer type; 0 is the default and left out.
#[inline]
pub(crate) fn uint_field(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        key(out, field, VARINT);
        varint(out, value);
    }
}

/// A field of bytes or text; empty is the default and left out.
#[inline]
pub(crate) fn bytes_field(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    if !value.is_empty() {
        delimited(out, field, value);
    }
}

#[inline]
pub(crate) fn delimited(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    key(out, field, BYTES);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// A decimal number. 128 bits hold every signed and unsigned 64-bit value.
pub(crate) fn json_number(out: &mut Vec<u8>, value: i128) {
    let mut digits = [0_u8; 40];
    let mut start = digits.len();
    let mut rest = value.unsigned_abs() as u64;
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        start -= 1;
        digits[start] = b'-';
    }
    out.extend_from_slice(&digits[start..]);
}

pub(crate) fn json_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest
        .iter()
        .position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\')
    {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            byte => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn json_uuid(out: &mut Vec<u8>, id: &[u8; 16]) {
    out.push(b'"');
    for (index, &byte) in id.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
    out.push(b'"');
}
