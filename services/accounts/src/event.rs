//! What the versions share: the decoding of events and the types of their columns.

use refold_projection::{DecodeError, Payload, TextValue};
use refold_proto::accounts::AccountEvent;

/// The event types that both versions fold.
pub const HANDLES: &[&str] = &refold_proto::accounts::KINDS;

/// Decodes an accounts event in either wire form.
///
/// # Errors
/// [`DecodeError`] when the payload is malformed, when it holds what no account
/// can do (such as a deposit of nothing), and for a type that is not in [`HANDLES`].
#[inline(always)]
pub fn decode<'a>(kind: &str, payload: Payload<'a>) -> Result<AccountEvent<'a>, DecodeError> {
    let payload = match payload {
        Payload::Proto(bytes) => refold_proto::Payload::Proto(bytes),
        Payload::Json(text) => refold_proto::Payload::Json(text),
    };
    match refold_proto::accounts::decode_event(kind, payload) {
        Ok(Some(event)) => Ok(event),
        Ok(None) => Err(DecodeError::new(format!("{kind} is not an accounts event"))),
        Err(error) => Err(DecodeError::new(error)),
    }
}

/// What state an account is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, TextValue)]
pub enum Status {
    /// Money moves both ways.
    Open,
    /// Outgoing bookings are stopped.
    Frozen,
    /// The account ended.
    Closed,
}

/// An ISO 4217 code: three upper-case letters. Three bytes in the row instead of
/// a string on the heap, because a rebuild keeps millions of rows in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Currency([u8; 3]);

impl Currency {
    /// What an account shows whose opening names none, or none that is a code:
    /// ISO 4217 reserves it for "no currency".
    pub const NONE: Self = Self(*b"XXX");
}

impl TextValue for Currency {
    fn as_text(&self) -> &str {
        // Letters only, so it cannot be anything but UTF-8.
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }

    fn from_text(text: &str) -> Option<Self> {
        let code: [u8; 3] = text.as_bytes().try_into().ok()?;
        code.iter()
            .all(u8::is_ascii_uppercase)
            .then_some(Self(code))
    }
}
