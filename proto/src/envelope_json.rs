//! The JSON form of the envelope, read without building a tree: plain text in one pass,
//! everything else by `serde_json`.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use serde_json::value::RawValue;

use crate::ascii;
use crate::envelope::{EnvelopeRef, FORMAT, IdRef, Payload};
use crate::error::{DecodeError, Reason};
use crate::json_scan::{Scan, once};
use crate::timestamp;

/// The members that are asked for. Everything else is passed over by the
/// library without being built.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(default)]
    format: u64,
    #[serde(borrow, default)]
    aggregate_id: Option<Id<'a>>,
    #[serde(default)]
    version: u64,
    #[serde(borrow, rename = "type", default)]
    kind: Text<'a>,
    #[serde(default)]
    ts: Timestamp,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

pub(crate) fn decode(bytes: &[u8]) -> Result<EnvelopeRef<'_>, DecodeError> {
    match plain(bytes) {
        Some(event) => Ok(event),
        None => by_library(bytes),
    }
}

/// Reads what practically every event of a log is: see [`crate::json_scan`].
#[inline]
pub(crate) fn plain(bytes: &[u8]) -> Option<EnvelopeRef<'_>> {
    let mut scan = Scan::new(utf8(bytes)?);
    let (mut format, mut id, mut version) = (None, None, None);
    let (mut kind, mut ts_micros, mut payload) = (None, None, None);
    scan.object(|scan, name| match name {
        "format" => once(&mut format, scan.uint()?),
        "aggregate_id" => once(&mut id, plain_id(scan)?),
        "version" => once(&mut version, scan.uint()?),
        "type" => once(&mut kind, scan.string()?),
        "ts" => once(&mut ts_micros, plain_ts(scan)?),
        "payload" => once(&mut payload, scan.object_text()?),
        _ => scan.skip(),
    })?;
    scan.end()?;
    if format? != u64::from(FORMAT) || version? == 0 || kind?.is_empty() {
        return None;
    }
    Some(EnvelopeRef {
        id: id?.into(),
        version: version?,
        kind: Cow::Borrowed(kind?),
        ts_micros: ts_micros?,
        payload: Payload::Json(payload?),
    })
}

/// An envelope in front of its payload, on its way to where it is wanted.
pub(crate) struct Head<'a> {
    id: PlainId<'a>,
    version: u64,
    kind: &'a str,
    ts_micros: i64,
    payload: &'a str,
}

impl<'a> Head<'a> {
    /// Field by field: an envelope that is put together and then copied is loaded in pieces other
    /// than those that were just stored, for which a processor has to wait.
    #[inline(always)]
    pub(crate) fn write_to(self, out: &mut EnvelopeRef<'a>) {
        out.id = self.id.into();
        out.version = self.version;
        out.kind = Cow::Borrowed(self.kind);
        out.ts_micros = self.ts_micros;
        out.payload = Payload::Json(self.payload);
    }
}

/// Reads an envelope in front of its payload as this crate writes it, and takes for the payload what
/// stands between its name and the last brace, unread.
#[inline(always)]
pub(crate) fn head(bytes: &[u8]) -> Option<Head<'_>> {
    let mut scan = Scan::new(utf8(bytes)?);
    scan.literal(b"{\"format\":1,\"aggregate_id\":")?;
    let id = plain_id(&mut scan)?;
    scan.literal(b",\"version\":")?;
    let version = scan.uint()?;
    scan.literal(b",\"type\":")?;
    let kind = scan.string()?;
    scan.literal(b",\"ts\":")?;
    let ts_micros = plain_ts(&mut scan)?;
    scan.literal(b",\"payload\":")?;
    let payload = scan.rest()?.strip_suffix('}')?;
    if version == 0 || kind.is_empty() || !payload.starts_with('{') {
        return None;
    }
    Some(Head {
        id,
        version,
        kind,
        ts_micros,
        payload,
    })
}

#[inline(always)]
fn utf8(bytes: &[u8]) -> Option<&str> {
    match ascii::text(bytes, bytes.len()) {
        Some(text) => Some(text),
        None => simdutf8::basic::from_utf8(bytes).ok(),
    }
}

/// An id in plain text.
enum PlainId<'a> {
    Int(i64),
    Text(&'a str),
}

impl<'a> From<PlainId<'a>> for IdRef<'a> {
    #[inline(always)]
    fn from(id: PlainId<'a>) -> Self {
        match id {
            PlainId::Int(id) => Self::Int(id),
            PlainId::Text(id) => Self::Text(Cow::Borrowed(id)),
        }
    }
}

#[inline(always)]
fn plain_id<'a>(scan: &mut Scan<'a>) -> Option<PlainId<'a>> {
    Some(match scan.is_string() {
        true => PlainId::Text(scan.string()?),
        false => PlainId::Int(scan.int()?),
    })
}

#[inline(always)]
fn plain_ts(scan: &mut Scan<'_>) -> Option<i64> {
    match scan.is_string() {
        true => timestamp::parse(scan.string()?),
        false => scan.int(),
    }
}

#[cold]
pub(crate) fn by_library(bytes: &[u8]) -> Result<EnvelopeRef<'_>, DecodeError> {
    let members: Members<'_> =
        serde_json::from_slice(bytes).map_err(|error| located(bytes, &error))?;
    let refuse = |reason| Err(DecodeError::new(bytes.len(), reason));
    if members.format != u64::from(FORMAT) {
        return refuse(Reason::Format(members.format));
    }
    if members.version == 0 {
        return refuse(Reason::NoVersion);
    }
    if members.kind.0.is_empty() {
        return refuse(Reason::NoType);
    }
    let Some(Id(id)) = members.aggregate_id else {
        return refuse(Reason::NoAggregateId);
    };
    let Some(ts_micros) = members.ts.0 else {
        return refuse(Reason::Timestamp);
    };
    Ok(EnvelopeRef {
        id,
        version: members.version,
        kind: members.kind.0,
        ts_micros,
        payload: Payload::Json(members.payload.map_or("{}", RawValue::get)),
    })
}

/// The library counts lines and columns; a value of the log is addressed by
/// byte.
#[cold]
pub(crate) fn located(bytes: &[u8], error: &serde_json::Error) -> DecodeError {
    let line_start: usize = bytes
        .split_inclusive(|&byte| byte == b'\n')
        .take(error.line().saturating_sub(1))
        .map(<[u8]>::len)
        .sum();
    let at = (line_start + error.column().saturating_sub(1)).min(bytes.len());
    let text = error.to_string();
    // The position is told by `at`; the library repeats it at the end.
    let reason = text.split(" at line ").next().unwrap_or(&text);
    DecodeError::new(at, Reason::Json(reason.into()))
}

/// A string, borrowed when it holds no escape. (`Cow`'s own implementation in
/// serde always copies unless it is asked to borrow field by field.)
#[derive(Default)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

struct Id<'a>(IdRef<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Id<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;
        impl<'de> Visitor<'de> for IdVisitor {
            type Value = Id<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer or a string")
            }
            fn visit_i64<E>(self, id: i64) -> Result<Id<'de>, E> {
                Ok(Id(IdRef::Int(id)))
            }
            fn visit_u64<E: serde::de::Error>(self, id: u64) -> Result<Id<'de>, E> {
                i64::try_from(id)
                    .map(|id| Id(IdRef::Int(id)))
                    .map_err(|_| E::custom("an id above the range of 64-bit integers"))
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Id<'de>, E> {
                Ok(Id(IdRef::Text(Cow::Borrowed(text))))
            }
            fn visit_str<E>(self, text: &str) -> Result<Id<'de>, E> {
                Ok(Id(IdRef::Text(Cow::Owned(text.to_owned()))))
            }
        }
        deserializer.deserialize_any(IdVisitor)
    }
}

/// Microseconds since 1970; `None` when the member is absent, which the
/// protobuf form cannot tell from 0 but a JSON producer can get wrong.
#[derive(Default)]
struct Timestamp(Option<i64>);

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TimestampVisitor;
        impl Visitor<'_> for TimestampVisitor {
            type Value = Timestamp;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("RFC 3339 text in UTC or microseconds since 1970")
            }
            fn visit_i64<E>(self, micros: i64) -> Result<Timestamp, E> {
                Ok(Timestamp(Some(micros)))
            }
            fn visit_u64<E: serde::de::Error>(self, micros: u64) -> Result<Timestamp, E> {
                i64::try_from(micros)
                    .map(|micros| Timestamp(Some(micros)))
                    .map_err(|_| E::custom("a timestamp above the range of 64-bit integers"))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Timestamp, E> {
                timestamp::parse(text)
                    .map(|micros| Timestamp(Some(micros)))
                    .ok_or_else(|| E::custom(Reason::Timestamp))
            }
        }
        deserializer.deserialize_any(TimestampVisitor)
    }
}
