//! One event as a fold sees it.

use crate::KeyRef;

/// The undecoded payload of an event, in the topic's wire form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Protocol buffers bytes.
    Proto(&'a [u8]),
    /// A JSON value.
    Json(&'a str),
}

/// A payload that the projection's event type cannot hold. It halts the
/// partition at that event; nothing is skipped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct DecodeError {
    /// One sentence: what is wrong and where in the payload.
    pub reason: String,
}

impl DecodeError {
    /// An error from anything that prints.
    pub fn new(reason: impl std::fmt::Display) -> Self {
        Self {
            reason: reason.to_string(),
        }
    }
}

/// One decoded event with the facts that the log knows about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Envelope<'a, E> {
    /// The aggregate that the event belongs to.
    pub key: KeyRef<'a>,
    /// Position in the aggregate's own history: 1, 2, 3 ... without holes.
    pub version: u64,
    /// The type's name as written by the write side.
    pub kind: &'a str,
    /// When the write side recorded the event, microseconds since the Unix epoch, UTC.
    /// It is data, not an order: offsets order events.
    pub ts_micros: i64,
    /// The decoded payload.
    pub event: E,
}
