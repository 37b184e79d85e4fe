//! The protobuf messages as encoders write them: each field once, in the order of
//! the numbers.
//!
//! The wire form allows any order, repetition and unknown fields, and
//! [`Reader`](crate::wire::Reader) takes them all. What the producers of a log
//! write is one shape, and reading that one without a decision per field takes
//! three fifths of the time (`examples/fold_rate.rs`). Everything here answers `None` for whatever it does
//! not expect, and the reader decides then; nothing is accepted here that it
//! would refuse or read otherwise (`tests/against_prost`).

use std::borrow::Cow;

use crate::ascii;
use crate::envelope::{EnvelopeRef, FORMAT, IdRef, Payload};
use crate::wire;

/// Keys of the envelope's fields: number and wire type.
const FORMAT_KEY: u8 = 1 << 3;
const INT_ID_KEY: u8 = 2 << 3;
const VERSION_KEY: u8 = 5 << 3;
const KIND_KEY: u8 = 6 << 3 | wire::BYTES;
const TS_KEY: u8 = 7 << 3;
const PAYLOAD_KEY: u8 = 8 << 3 | wire::BYTES;

/// An envelope with an integer id.
pub(crate) struct Usual<'a> {
    id: i64,
    version: u64,
    kind: &'a str,
    ts_micros: i64,
    payload: &'a [u8],
}

impl<'a> Usual<'a> {
    #[inline(always)]
    pub(crate) fn write_to(self, out: &mut EnvelopeRef<'a>) {
        out.id = IdRef::Int(self.id);
        out.version = self.version;
        out.kind = Cow::Borrowed(self.kind);
        out.ts_micros = self.ts_micros;
        out.payload = Payload::Proto(self.payload);
    }
}

/// Reads an envelope with an integer id, a type of ASCII characters and
/// a payload of less than 16 KiB.
#[inline(always)]
pub(crate) fn envelope(bytes: &[u8]) -> Option<Usual<'_>> {
    let head = [FORMAT_KEY, FORMAT as u8, INT_ID_KEY];
    if *bytes.first_chunk::<3>()? != head {
        return None;
    }
    let mut at = 3;
    let id = varint(bytes, &mut at)?;
    expect(bytes, &mut at, VERSION_KEY)?;
    let version = varint(bytes, &mut at)?;
    expect(bytes, &mut at, KIND_KEY)?;
    let kind = short_text(bytes, &mut at)?;
    expect(bytes, &mut at, TS_KEY)?;
    let ts_micros = varint(bytes, &mut at)? as i64;
    expect(bytes, &mut at, PAYLOAD_KEY)?;
    let len = short_length(bytes, &mut at)?;
    // The payload is the last field, and nothing follows it.
    let payload = bytes.get(at..)?;
    if payload.len() != len || version == 0 || kind.is_empty() {
        return None;
    }
    Some(Usual {
        id: (id >> 1) as i64 ^ -((id & 1) as i64),
        version,
        kind,
        ts_micros,
        payload,
    })
}

/// Where the field after a payload's first one begins, if that one is an after-image.
#[inline(always)]
pub(crate) fn behind_after_image(payload: &[u8]) -> Option<usize> {
    const AFTER_KEY: u8 = 1 << 3 | wire::BYTES;
    let [key, len] = *payload.first_chunk::<2>()?;
    (key == AFTER_KEY && len < 0x80).then_some(2 + usize::from(len))
}

/// Whether nothing but fields of text follows at `at` up to the end, with numbers
/// from `lowest` to 15.
#[inline(always)]
pub(crate) fn only_text_follows(bytes: &[u8], mut at: usize, lowest: u8) -> bool {
    while let Some(&[key, len]) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let is_text = key & 7 == wire::BYTES && (lowest << 3..0x80).contains(&key);
        if !is_text || len >= 0x80 {
            return false;
        }
        at += 2 + usize::from(len);
    }
    at == bytes.len()
}

#[inline(always)]
pub(crate) fn expect(bytes: &[u8], at: &mut usize, key: u8) -> Option<()> {
    if *bytes.get(*at)? != key {
        return None;
    }
    *at += 1;
    Some(())
}

/// A number of at most eight bytes with as many bytes of the value behind its start.
#[inline(always)]
pub(crate) fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let (value, len) = wire::word_varint(bytes.get(*at..)?.first_chunk()?)?;
    *at += len;
    Some(value)
}

/// ASCII text of less than 128 bytes, with its length in front.
#[inline(always)]
pub(crate) fn short_text<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a str> {
    let len = *bytes.get(*at)?;
    if len >= 0x80 {
        return None;
    }
    let text = ascii::text(bytes.get(*at + 1..)?, usize::from(len))?;
    *at += 1 + text.len();
    Some(text)
}

/// A length of one or two bytes.
#[inline(always)]
fn short_length(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let low = *bytes.get(*at)?;
    if low < 0x80 {
        *at += 1;
        return Some(usize::from(low));
    }
    let high = *bytes.get(*at + 1)?;
    if high >= 0x80 {
        return None;
    }
    *at += 2;
    Some(usize::from(low & 0x7f) | usize::from(high) << 7)
}
