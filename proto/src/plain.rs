//! Envelopes read the plain way: by prost and `serde_json`, into owned values.
//!
//! Nothing on the replay path uses it. It is what a witness reads a log with, which may share
//! no shortcut with the decoders that it testifies about. (The text of a time in a JSON
//! envelope is read by the one function that there is for it.)

use prost::Message;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::envelope::{FORMAT, WireFormat};
use crate::pb::v1::Envelope;
use crate::pb::v1::envelope::AggregateId;
use crate::timestamp;

/// The id of an aggregate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlainId {
    /// A 64-bit id.
    Int(i64),
    /// The bytes of a UUID.
    Uuid([u8; 16]),
    /// Any other id.
    Text(String),
}

/// The body of an event in its topic's wire form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlainPayload {
    /// Protocol buffers.
    Proto(Vec<u8>),
    /// A JSON value's text as it stands in the envelope, to the last digit: `12.350` is not
    /// the number `12.35` to whoever keeps its scale.
    Json(String),
}

/// An envelope that owns what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainEnvelope {
    /// The aggregate.
    pub id: PlainId,
    /// Position in the aggregate's own history.
    pub version: u64,
    /// Name of the event.
    pub kind: String,
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub ts_micros: i64,
    /// The body.
    pub payload: PlainPayload,
}

/// Reads an envelope.
///
/// # Errors
/// One sentence.
pub fn decode_plain(form: WireFormat, bytes: &[u8]) -> Result<PlainEnvelope, String> {
    let envelope = match form {
        WireFormat::Proto => proto(bytes)?,
        WireFormat::Json => json(bytes)?,
    };
    if envelope.version == 0 || envelope.kind.is_empty() {
        return Err("an envelope without a version or a type".to_owned());
    }
    Ok(envelope)
}

fn proto(bytes: &[u8]) -> Result<PlainEnvelope, String> {
    let read = Envelope::decode(bytes).map_err(|error| error.to_string())?;
    if read.format != FORMAT {
        return Err(format!("an envelope of format {}", read.format));
    }
    let id = match read.aggregate_id {
        Some(AggregateId::Int(id)) => PlainId::Int(id),
        Some(AggregateId::Text(id)) => PlainId::Text(id),
        Some(AggregateId::Uuid(id)) => {
            let bytes = id.as_slice().try_into();
            PlainId::Uuid(bytes.map_err(|_| "a UUID that has not 16 bytes".to_owned())?)
        }
        None => return Err("an envelope without an aggregate's id".to_owned()),
    };
    Ok(PlainEnvelope {
        id,
        version: read.version,
        kind: read.r#type,
        ts_micros: read.ts_micros,
        payload: PlainPayload::Proto(read.payload),
    })
}

/// The members as they stand. The payload stays text, because a tree of values would round
/// its decimals and lose the order of its members.
#[derive(Deserialize)]
struct Members {
    #[serde(default)]
    format: u64,
    #[serde(default)]
    aggregate_id: Value,
    #[serde(default)]
    version: u64,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    ts: Value,
    #[serde(default)]
    payload: Option<Box<RawValue>>,
}

fn json(bytes: &[u8]) -> Result<PlainEnvelope, String> {
    let read: Members = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if read.format != u64::from(FORMAT) {
        return Err(format!("an envelope of format {}", read.format));
    }
    let id = match &read.aggregate_id {
        Value::String(text) => PlainId::Text(text.clone()),
        other => {
            let id = other.as_i64();
            PlainId::Int(id.ok_or_else(|| format!("{other} is no aggregate's id"))?)
        }
    };
    let ts = match &read.ts {
        Value::String(text) => timestamp::parse(text),
        other => other.as_i64(),
    };
    let payload = match read.payload {
        Some(text) => text.get().to_owned(),
        None => "{}".to_owned(),
    };
    Ok(PlainEnvelope {
        id,
        version: read.version,
        kind: read.kind,
        ts_micros: ts.ok_or_else(|| format!("{} is no time", read.ts))?,
        payload: PlainPayload::Json(payload),
    })
}
