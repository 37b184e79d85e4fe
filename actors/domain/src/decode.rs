//! Decode: from a record to an event of a projection.

use refold_projection::DecodeError;
use refold_projection::Key;
use refold_projection::KeyRef;
use refold_projection::KeyType;
use refold_projection::Payload;
use refold_projection::Projection;
use refold_projection::Uuid;
use refold_proto::EnvelopeRef;
use refold_proto::IdRef;
pub use refold_proto::WireFormat;

use crate::log::Record;

/// The envelope of a record.
///
/// # Errors
/// One sentence when the record has no value or its value is not an envelope.
#[inline]
pub fn envelope<'a>(format: WireFormat, record: &Record<'a>) -> Result<EnvelopeRef<'a>, String> {
    let mut envelope = EnvelopeRef::NONE;
    envelope_into(format, record, &mut envelope)?;
    Ok(envelope)
}

/// The same to where it is wanted, which costs a fold of many events less.
///
/// # Errors
/// As [`envelope`]; `out` is then as it was.
#[inline(always)]
pub(crate) fn envelope_into<'a>(
    format: WireFormat,
    record: &Record<'a>,
    out: &mut EnvelopeRef<'a>,
) -> Result<(), String> {
    match record.value {
        Some(value) => {
            refold_proto::decode_into(format, value, out).map_err(|error| undecodable(&error))
        }
        None => Err("the record has no value, but this log keeps every event".to_owned()),
    }
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
