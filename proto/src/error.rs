//! Why a value could not be decoded, and where in it.

use std::fmt;

/// A refused value: the byte at which reading stopped, and the reason.
///
/// `at` counts from the start of the slice that was handed to the decoder. A
/// payload is a slice of its own, so an error inside a payload counts from the
/// payload's first byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// Byte position of the element that was refused.
    pub at: usize,
    /// What is wrong with it.
    pub reason: Reason,
}

impl DecodeError {
    #[cold]
    pub(crate) fn new(at: usize, reason: Reason) -> Self {
        Self { at, reason }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {}", self.at, self.reason)
    }
}

impl std::error::Error for DecodeError {}

/// What a decoder objects to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The value is larger than [`MAX_VALUE_BYTES`](crate::MAX_VALUE_BYTES).
    #[error("the value has {0} bytes, more than the limit of {max}", max = crate::MAX_VALUE_BYTES)]
    TooLarge(usize),
    /// A varint has no end inside the value, or more than 64 bits.
    #[error("a varint ends beyond the value or is wider than 64 bits")]
    Varint,
    /// A field key is wider than 32 bits.
    #[error("a field key is wider than 32 bits")]
    Key,
    /// Field number 0 does not exist.
    #[error("field number 0")]
    FieldNumber,
    /// Wire types 6 and 7 do not exist.
    #[error("unknown wire type {0}")]
    WireType(u8),
    /// A known field arrived with a wire type that is not its own.
    #[error("field {field} has wire type {found}, expected {expected}")]
    FieldType {
        /// Number of the field.
        field: u32,
        /// Wire type of its declaration.
        expected: u8,
        /// Wire type that was read.
        found: u8,
    },
    /// A length reaches beyond the end of the value.
    #[error("a length of {0} bytes reaches beyond the value")]
    Truncated(u64),
    /// The end of a group without its beginning.
    #[error("the end of a group without its beginning")]
    Group,
    /// Groups or messages are nested more than 100 deep.
    #[error("nested more than 100 deep")]
    Nesting,
    /// A string is not UTF-8.
    #[error("field {0} is not UTF-8")]
    Utf8(u32),
    /// The envelope's format number is not known to this build.
    #[error("envelope format {0} is not known (this build reads 1)")]
    Format(u64),
    /// The envelope has no aggregate id.
    #[error("no aggregate id")]
    NoAggregateId,
    /// A UUID id does not have 16 bytes.
    #[error("a uuid of {0} bytes")]
    UuidLength(usize),
    /// The per-aggregate version is 0 or absent; the first event has 1.
    #[error("aggregate version 0 (the first event of an aggregate has version 1)")]
    NoVersion,
    /// The type of the event is empty or absent.
    #[error("no event type")]
    NoType,
    /// A timestamp is neither RFC 3339 nor whole microseconds, or is outside
    /// of the years 0000 to 9999.
    #[error("the timestamp is neither RFC 3339 in UTC nor microseconds since 1970")]
    Timestamp,
    /// An amount that must be positive is not.
    #[error("an amount of {0} cents (it must be positive)")]
    Cents(i64),
    /// The account status is absent or not known to this build.
    #[error("unknown account status {0}")]
    Status(i32),
    /// The kind of a reversed booking is absent or not known to this build.
    #[error("unknown booking kind {0}")]
    Booking(i32),
    /// The payload carries no after-image.
    #[error("no after-image")]
    NoAfter,
    /// The JSON text is malformed, or a member has another JSON type than
    /// its declaration. The text is the JSON library's.
    #[error("{0}")]
    Json(Box<str>),
}
