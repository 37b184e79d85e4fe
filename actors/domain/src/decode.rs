//! Decode: from a record to an event of a projection.

use refold_projection::DecodeError;
use refold_projection::Key;
use refold_projection::KeyRef;
use refold_projection::KeyType;
use refold_projection::Payload;
use refold_projection::Projection;
use refold_projection::Uuid;
use refold_proto::EnvelopeRef;
pub(crate) use refold_proto::Extent;
use refold_proto::IdRef;
pub use refold_proto::WireFormat;

use crate::log::Record;

/// The envelope of a record.
///
/// # Errors
/// One sentence when the record has no value or its value is not an envelope.
#[inline]
pub fn envelope<'a>(format: WireFormat, record: &Record<'a>) -> Result<EnvelopeRef<'a>, String> {
    whole(format, record.value.ok_or_else(no_value)?)
}

/// The envelope in a record's value, read to its end.
///
/// # Errors
/// One sentence when the value is not an envelope.
#[inline]
pub(crate) fn whole(format: WireFormat, value: &[u8]) -> Result<EnvelopeRef<'_>, String> {
    refold_proto::decode(format, value).map_err(|error| undecodable(&error))
}

/// The envelope of a record on its way to the fold of `P`, to where it is wanted, which costs a
/// fold of many events less. Only the head of it is read where `P` reads the rest itself.
///
/// # Errors
/// As [`envelope`]; `out` is then as it was.
#[inline(always)]
pub(crate) fn envelope_into<'a, P: Projection>(
    format: WireFormat,
    record: &Record<'a>,
    out: &mut EnvelopeRef<'a>,
) -> Result<Extent, String> {
    let value = record.value.ok_or_else(no_value)?;
    let extent = if P::REFUSES_MALFORMED_JSON {
        refold_proto::decode_head_into(format, value, out)
    } else {
        refold_proto::decode_into(format, value, out).map(|()| Extent::Whole)
    };
    extent.map_err(|error| undecodable(&error))
}

#[cold]
fn no_value() -> String {
    "the record has no value, but this log keeps every event".to_owned()
}

#[cold]
fn undecodable(error: &refold_proto::DecodeError) -> String {
    error.to_string()
}

/// The aggregate's key as the projection declares it.
///
/// # Errors
/// One sentence when the id is of another type.
#[inline]
pub fn key<K: Key>(id: &IdRef<'_>) -> Result<K, String> {
    key_ref(K::TYPE, id)
        .and_then(|key| K::from_key(key).ok())
        .ok_or_else(|| wrong_id(id, K::TYPE))
}

#[cold]
fn wrong_id(id: &IdRef<'_>, wanted: KeyType) -> String {
    format!("the aggregate id {id:?} is not a {}", wanted.sql())
}

#[inline]
fn key_ref<'a>(wanted: KeyType, id: &'a IdRef<'_>) -> Option<KeyRef<'a>> {
    match wanted {
        KeyType::Int8 => id.int().map(KeyRef::Int),
        KeyType::Uuid => id.uuid().map(|bytes| KeyRef::Uuid(Uuid(bytes))),
        KeyType::Text => id.text().map(KeyRef::Text),
    }
}

/// The projection's event in an envelope whose type it handles.
///
/// # Errors
/// [`DecodeError`] of the author's decoder.
#[inline]
pub fn event<'a, P: Projection>(
    envelope: &'a EnvelopeRef<'_>,
) -> Result<P::Event<'a>, DecodeError> {
    let payload = match envelope.payload {
        refold_proto::Payload::Proto(bytes) => Payload::Proto(bytes),
        refold_proto::Payload::Json(text) => Payload::Json(text),
    };
    P::decode(&envelope.kind, payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Offset;

    fn record(value: Option<&[u8]>) -> Record<'_> {
        Record {
            offset: Offset(1),
            ts_millis: 2,
            key: b"k",
            value,
        }
    }

    #[test]
    fn what_is_no_envelope_is_refused_with_the_reason() {
        let tombstone = envelope(WireFormat::Proto, &record(None));
        let sentence = "the record has no value, but this log keeps every event".to_owned();
        assert_eq!(tombstone, Err(sentence));
        for value in [&b"\xff\xff"[..], b"", b"{"] {
            for format in [WireFormat::Proto, WireFormat::Json] {
                let reason = refold_proto::decode(format, value).map_err(|e| e.to_string());
                assert!(reason.is_err(), "{value:?}");
                assert_eq!(envelope(format, &record(Some(value))), reason);
            }
        }
    }

    #[test]
    fn a_key_is_of_the_type_that_the_projection_declares() {
        let (int, text) = (IdRef::Int(7), IdRef::Text("seven".into()));
        assert_eq!(key::<i64>(&int), Ok(7));
        assert_eq!(key::<String>(&text), Ok("seven".to_owned()));
        let uuid = IdRef::Uuid([3; 16]);
        assert_eq!(key::<Uuid>(&uuid), Ok(Uuid([3; 16])));
        assert_eq!(
            key::<i64>(&text),
            Err(format!("the aggregate id {text:?} is not a bigint"))
        );
        assert_eq!(
            key::<Uuid>(&int),
            Err(format!("the aggregate id {int:?} is not a uuid"))
        );
        assert_eq!(
            key::<String>(&int),
            Err(format!("the aggregate id {int:?} is not a text"))
        );
    }
}
