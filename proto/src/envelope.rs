//! The envelope as a reader sees it: borrowed from the value, in either form.

use std::borrow::Cow;

use crate::error::{DecodeError, Reason};
use crate::wire::Reader;
use crate::{envelope_json, usual, write};

/// The only layout of the envelope that exists so far.
pub const FORMAT: u32 = 1;

/// Largest value that is decoded: 64 MiB. Kafka's own default limit is 1 MiB;
/// what is larger than this is not an event.
pub const MAX_VALUE_BYTES: usize = 64 << 20;

/// How the values of a topic are written. One topic holds one form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WireFormat {
    /// The protobuf messages of `envelope.proto` and `accounts.proto`.
    #[default]
    Proto,
    /// The same content as one JSON object.
    Json,
}

impl WireFormat {
    /// The name used in flags and in stored parameters: `proto` or `json`.
    pub fn name(self) -> &'static str {
        match self {
            WireFormat::Proto => "proto",
            WireFormat::Json => "json",
        }
    }
}

impl std::fmt::Display for WireFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for WireFormat {
    type Err = UnknownWireFormat;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "proto" => Ok(WireFormat::Proto),
            "json" => Ok(WireFormat::Json),
            _ => Err(UnknownWireFormat(name.to_owned())),
        }
    }
}

/// A name that is neither `proto` nor `json`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown wire format {0:?} (known: proto, json)")]
pub struct UnknownWireFormat(pub String);

/// The aggregate that an event belongs to.
///
/// JSON has no UUIDs, so an id in a JSON string arrives as [`IdRef::Text`]
/// whatever it means. Readers therefore ask for the type their key has
/// ([`int`](IdRef::int), [`uuid`](IdRef::uuid), [`text`](IdRef::text)) and do
/// not match on the variant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum IdRef<'a> {
    /// A 64-bit integer.
    Int(i64),
    /// The bytes of a UUID in network order.
    Uuid([u8; 16]),
    /// Any other id. Borrowed, except for JSON text with an escape in it.
    Text(Cow<'a, str>),
}

impl IdRef<'_> {
    /// The id as an integer: also from the text of one (producers of JSON
    /// quote 64-bit numbers), in its canonical decimal form only.
    #[inline]
    pub fn int(&self) -> Option<i64> {
        match self {
            IdRef::Int(id) => Some(*id),
            IdRef::Uuid(_) => None,
            IdRef::Text(text) => canonical_int(text),
        }
    }

    /// The id as a UUID: also from its hyphenated text of 36 characters.
    #[inline]
    pub fn uuid(&self) -> Option<[u8; 16]> {
        match self {
            IdRef::Uuid(id) => Some(*id),
            IdRef::Int(_) => None,
            IdRef::Text(text) => parse_uuid(text),
        }
    }

    /// The id as text; `None` for the other two kinds.
    #[inline]
    pub fn text(&self) -> Option<&str> {
        match self {
            IdRef::Text(text) => Some(text),
            IdRef::Int(_) | IdRef::Uuid(_) => None,
        }
    }
}

/// `+7`, `007` and `-0` are other keys than `7` and `0` to everything that
/// partitions by text, so they are no integers here.
fn canonical_int(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let canonical = match digits.as_bytes() {
        [b'0'] => text.len() == 1,
        [b'1'..=b'9', ..] => true,
        _ => false,
    };
    if canonical { text.parse().ok() } else { None }
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 {
        return None;
    }
    let mut id = [0_u8; 16];
    let mut nibbles = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        if matches!(index, 8 | 13 | 18 | 23) {
            if byte != b'-' {
                return None;
            }
            continue;
        }
        let nibble = (byte as char).to_digit(16)? as u8;
        id[nibbles / 2] = id[nibbles / 2] << 4 | nibble;
        nibbles += 1;
    }
    Some(id)
}

/// The body of an event, still encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// An encoded protobuf message; which one is decided by the event's type.
    Proto(&'a [u8]),
    /// The text of one JSON value, as it stands in the envelope.
    Json(&'a str),
}

impl<'a> Payload<'a> {
    /// The encoded bytes, whatever the form.
    pub fn as_bytes(self) -> &'a [u8] {
        match self {
            Payload::Proto(bytes) => bytes,
            Payload::Json(text) => text.as_bytes(),
        }
    }
}

/// One event, borrowed from the value that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvelopeRef<'a> {
    /// The aggregate.
    pub id: IdRef<'a>,
    /// Position in the aggregate's history: 1, 2, 3, ... Never 0.
    pub version: u64,
    /// The event's type, never empty. Borrowed, except for JSON text with an
    /// escape in it.
    pub kind: Cow<'a, str>,
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub ts_micros: i64,
    /// The body.
    pub payload: Payload<'a>,
}

impl EnvelopeRef<'_> {
    /// No event: what a place for one holds before [`decode_into`] filled it.
    pub const NONE: Self = EnvelopeRef {
        id: IdRef::Int(0),
        version: 0,
        kind: Cow::Borrowed(""),
        ts_micros: 0,
        payload: Payload::Proto(&[]),
    };

    /// Appends the event to `out`, in the form that its payload has.
    pub fn encode_to(&self, out: &mut Vec<u8>) {
        match self.payload {
            Payload::Proto(payload) => write::envelope_proto(self, payload, out),
            Payload::Json(payload) => write::envelope_json(self, payload, out),
        }
    }
}

/// Decodes one value in the given form. Nothing is copied, except for JSON
/// strings that contain an escape.
///
/// # Errors
/// [`DecodeError`] with the byte position and the reason; see [`decode_proto`]
/// and [`decode_json`] for what each form refuses.
#[inline]
pub fn decode(format: WireFormat, bytes: &[u8]) -> Result<EnvelopeRef<'_>, DecodeError> {
    match format {
        WireFormat::Proto => decode_proto(bytes),
        WireFormat::Json => decode_json(bytes),
    }
}

/// Decodes one value in the given form to where it is wanted. An envelope that
/// is returned may be copied on its way right after it was written piece by
/// piece, and a processor has to wait before it can load such pieces together.
///
/// # Errors
/// As [`decode`]; `out` is then as it was.
#[inline(always)]
pub fn decode_into<'a>(
    format: WireFormat,
    bytes: &'a [u8],
    out: &mut EnvelopeRef<'a>,
) -> Result<(), DecodeError> {
    match format {
        WireFormat::Proto => decode_proto_into(bytes, out),
        WireFormat::Json => {
            *out = decode_json(bytes)?;
            Ok(())
        }
    }
}

/// How much of a value was read by [`decode_head_into`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it, as [`decode`] does.
    Whole,
    /// All in front of a JSON payload. The payload is what stands where it belongs, and neither
    /// it nor what may follow it has been looked at: it is one JSON object, and the envelope is
    /// well-formed, or [`decode`] finds another payload or an error.
    Head,
}

/// As [`decode_into`], and leaves a JSON payload unread where it can. For a caller whose
/// decoder of the payload reads all of it and refuses everything but one object: the
/// payload is then read once instead of twice. Whoever meets an error, or does not decode the
/// payload, has to [`decode`] the value.
///
/// # Errors
/// As [`decode`]; `out` is then as it was.
#[inline(always)]
pub fn decode_head_into<'a>(
    format: WireFormat,
    bytes: &'a [u8],
    out: &mut EnvelopeRef<'a>,
) -> Result<Extent, DecodeError> {
    if format == WireFormat::Json
        && bytes.len() <= MAX_VALUE_BYTES
        && let Some(head) = envelope_json::head(bytes)
    {
        head.write_to(out);
        return Ok(Extent::Head);
    }
    decode_into(format, bytes, out)?;
    Ok(Extent::Whole)
}

/// Decodes the protobuf form: no allocation, no copy, one pass.
///
/// It accepts what prost accepts, and yields the same values: of a field that
/// occurs several times the last one counts (for `aggregate_id`, of all three
/// members), unknown fields and groups are passed over, `format` is cut to 32
/// bits, text must be UTF-8, groups nest at most 100 deep.
///
/// # Errors
/// Beyond malformed bytes it refuses a format number other than 1, an absent
/// id, a UUID that has not 16 bytes, version 0, and an empty type.
#[inline]
pub fn decode_proto(bytes: &[u8]) -> Result<EnvelopeRef<'_>, DecodeError> {
    let mut envelope = EnvelopeRef::NONE;
    decode_proto_into(bytes, &mut envelope)?;
    Ok(envelope)
}

#[inline(always)]
fn decode_proto_into<'a>(bytes: &'a [u8], out: &mut EnvelopeRef<'a>) -> Result<(), DecodeError> {
    match usual::envelope(bytes) {
        Some(envelope) => {
            envelope.write_to(out);
            Ok(())
        }
        None => decode_any_proto_into(bytes, out),
    }
}

/// Any message, whatever order its fields have.
fn decode_any_proto_into<'a>(
    bytes: &'a [u8],
    out: &mut EnvelopeRef<'a>,
) -> Result<(), DecodeError> {
    if bytes.len() > MAX_VALUE_BYTES {
        return Err(DecodeError::new(0, Reason::TooLarge(bytes.len())));
    }
    let mut reader = Reader::new(bytes);
    let mut id = RawId::Absent;
    let (mut format, mut version, mut kind, mut ts_micros) = (0_u32, 0_u64, "", 0_i64);
    let mut payload: &[u8] = &[];
    while !reader.is_at_end() {
        let key = reader.key()?;
        match key.field {
            1 => format = reader.uint(key)? as u32,
            2 => id = RawId::Int(reader.sint(key)?),
            3 => id = RawId::Uuid(reader.bytes(key)?),
            4 => id = RawId::Text(reader.text(key)?),
            5 => version = reader.uint(key)?,
            6 => kind = reader.text(key)?,
            7 => ts_micros = reader.uint(key)? as i64,
            8 => payload = reader.bytes(key)?,
            _ => reader.skip(key, 0)?,
        }
    }
    let end = reader.position();
    if format != FORMAT {
        return Err(DecodeError::new(end, Reason::Format(u64::from(format))));
    }
    if version == 0 {
        return Err(DecodeError::new(end, Reason::NoVersion));
    }
    if kind.is_empty() {
        return Err(DecodeError::new(end, Reason::NoType));
    }
    out.id = id.check(end)?;
    out.version = version;
    out.kind = Cow::Borrowed(kind);
    out.ts_micros = ts_micros;
    out.payload = Payload::Proto(payload);
    Ok(())
}

/// Decodes the JSON form.
///
/// ```json
/// {"format":1,"aggregate_id":42,"version":7,"type":"Deposited",
///  "ts":"2024-03-01T12:00:00.000123Z","payload":{"cents":500}}
/// ```
/// `aggregate_id` is a number or a string; `ts` is RFC 3339 text in UTC or a
/// number of microseconds since 1970; unknown members are passed over. The
/// payload is found, checked to be JSON, and left as it stands.
///
/// Cost: several times the protobuf form (`examples/decode_cost.rs`). A string with an escape in it
/// (`aggregate_id`, `type`) is copied, every other one is borrowed.
///
/// # Errors
/// Malformed JSON, a member that occurs twice, a member of another JSON type,
/// and the same contents that [`decode_proto`] refuses.
#[inline]
pub fn decode_json(bytes: &[u8]) -> Result<EnvelopeRef<'_>, DecodeError> {
    if bytes.len() > MAX_VALUE_BYTES {
        return Err(DecodeError::new(0, Reason::TooLarge(bytes.len())));
    }
    envelope_json::decode(bytes)
}

enum RawId<'a> {
    Absent,
    Int(i64),
    Uuid(&'a [u8]),
    Text(&'a str),
}

impl<'a> RawId<'a> {
    /// Checked at the end of the value, because a later id replaces this one.
    #[inline]
    fn check(self, end: usize) -> Result<IdRef<'a>, DecodeError> {
        match self {
            RawId::Int(id) => Ok(IdRef::Int(id)),
            RawId::Text(text) => Ok(IdRef::Text(Cow::Borrowed(text))),
            RawId::Uuid(bytes) => match bytes.try_into() {
                Ok(id) => Ok(IdRef::Uuid(id)),
                Err(_) => Err(DecodeError::new(end, Reason::UuidLength(bytes.len()))),
            },
            RawId::Absent => Err(DecodeError::new(end, Reason::NoAggregateId)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_answers_in_the_type_that_is_asked_for() {
        let text = |text: &'static str| IdRef::Text(Cow::Borrowed(text));
        assert_eq!(IdRef::Int(-7).int(), Some(-7));
        assert_eq!(text("-7").int(), Some(-7));
        assert_eq!(text("0").int(), Some(0));
        assert_eq!(text("9223372036854775807").int(), Some(i64::MAX));
        for other in ["", "-", "-0", "007", "+7", "7 ", "9223372036854775808", "x"] {
            assert_eq!(text(other).int(), None, "{other}");
            assert_eq!(text(other).text(), Some(other));
        }
        let bytes = *b"\x55\x0e\x84\x00\xe2\x9b\x41\xd4\xa7\x16\x44\x66\x55\x44\x00\x00";
        let uuid = "550e8400-e29b-41d4-a716-446655440000";
        assert_eq!(text(uuid).uuid(), Some(bytes));
        assert_eq!(IdRef::Uuid(bytes).uuid(), Some(bytes));
        assert_eq!(IdRef::Uuid(bytes).int(), None);
        assert_eq!(text("550e8400e29b41d4a716446655440000").uuid(), None);
        assert_eq!(text("550e8400-e29b-41d4-a716-44665544000g").uuid(), None);
        assert_eq!(text("550e8400-e29b-41d4-a7160446655440000").uuid(), None);
    }

    #[test]
    fn a_wire_format_is_read_back_from_its_name() {
        for format in [WireFormat::Proto, WireFormat::Json] {
            assert_eq!(format.name().parse(), Ok(format));
        }
        let unknown = "avro".parse::<WireFormat>().expect_err("no such format");
        assert_eq!(
            unknown.to_string(),
            "unknown wire format \"avro\" (known: proto, json)"
        );
    }
}
