//! The events of the reference log: bank accounts.
//!
//! A fold needs a few numbers of an event and none of the text around them, so
//! the views here read exactly those ([`AccountEvent`]) and pass over the rest
//! as a reader with a smaller schema would: text that is not asked for is not
//! checked to be UTF-8. The after-image, which only a reader of a compacted
//! topic needs, is decoded apart ([`decode_after`]).
//!
//! Whole events for writing are in [`body`].

pub mod body;
pub(crate) mod json;
mod proto;

use std::borrow::Cow;

use crate::envelope::Payload;
use crate::error::{DecodeError, Reason};

/// What state an account is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Money moves both ways.
    Open,
    /// Outgoing bookings are stopped.
    Frozen,
    /// The account ended. Only a `Reopened` event follows.
    Closed,
}

impl Status {
    /// The text used in rows and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Status::Open => "open",
            Status::Frozen => "frozen",
            Status::Closed => "closed",
        }
    }

    /// The number in `accounts.proto`.
    pub(crate) fn number(self) -> u64 {
        match self {
            Status::Open => 1,
            Status::Frozen => 2,
            Status::Closed => 3,
        }
    }

    pub(crate) fn from_number(number: i32) -> Result<Self, Reason> {
        match number {
            1 => Ok(Status::Open),
            2 => Ok(Status::Frozen),
            3 => Ok(Status::Closed),
            other => Err(Reason::Status(other)),
        }
    }
}

/// Which kind of booking a reversal takes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Booking {
    /// A `Deposited` event: taking it back lowers the balance.
    Deposit,
    /// A `Withdrawn` event: taking it back raises the balance.
    Withdrawal,
}

impl Booking {
    /// The text used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Booking::Deposit => "deposit",
            Booking::Withdrawal => "withdrawal",
        }
    }

    pub(crate) fn number(self) -> u64 {
        match self {
            Booking::Deposit => 1,
            Booking::Withdrawal => 2,
        }
    }

    pub(crate) fn from_number(number: i32) -> Result<Self, Reason> {
        match number {
            1 => Ok(Booking::Deposit),
            2 => Ok(Booking::Withdrawal),
            other => Err(Reason::Booking(other)),
        }
    }
}

/// The account right after an event, as the write side knew it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After {
    /// Balance in cents.
    pub balance_cents: i64,
    /// Status.
    pub status: Status,
    /// Equal to the envelope's version.
    pub version: u64,
}

/// The type names of all accounts events.
pub const KINDS: [&str; 8] = [
    "Opened",
    "Deposited",
    "Withdrawn",
    "Reversed",
    "Frozen",
    "Unfrozen",
    "Closed",
    "Reopened",
];

/// What a fold needs of an accounts event. Amounts are in cents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountEvent<'a> {
    /// The account exists, open and with balance 0.
    Opened {
        /// Name of the owner.
        owner: Cow<'a, str>,
        /// ISO 4217 code.
        currency: Cow<'a, str>,
        /// How far the balance may go below zero.
        overdraft_limit_cents: i64,
    },
    /// `balance += cents`.
    Deposited {
        /// Positive.
        cents: i64,
    },
    /// `balance -= cents`.
    Withdrawn {
        /// Positive.
        cents: i64,
    },
    /// An earlier booking is taken back: `balance -= cents` for a deposit,
    /// `balance += cents` for a withdrawal.
    Reversed {
        /// Positive; the full amount of the booking.
        cents: i64,
        /// Version of the event that is taken back.
        of_version: u64,
        /// What that event was.
        what: Booking,
    },
    /// Status becomes frozen.
    Frozen,
    /// Status becomes open.
    Unfrozen,
    /// Status becomes closed, `balance -= payout_cents`.
    Closed {
        /// What was paid out; negative when an overdraft was settled.
        payout_cents: i64,
    },
    /// Status becomes open.
    Reopened,
}

/// Decodes what a fold needs of the accounts event of type `kind`; `None` when
/// there is no accounts event of that name.
///
/// Of a protobuf field that occurs several times the last one counts; fields
/// that are not asked for are passed over, checked only for where they end.
///
/// # Errors
/// A malformed payload, an amount that must be positive and is not, a reversal
/// of nothing, and an enum value that this build does not know: folding any of
/// them would make a wrong row. Positions count from the payload's start.
#[inline(always)]
pub fn decode_event<'a>(
    kind: &str,
    payload: Payload<'a>,
) -> Result<Option<AccountEvent<'a>>, DecodeError> {
    match payload {
        Payload::Proto(bytes) => proto::decode_event(kind, bytes),
        Payload::Json(text) => json::decode_event(kind, text),
    }
}

/// Decodes the after-image of any accounts event.
///
/// # Errors
/// A malformed payload, one without an after-image, and an unknown status.
pub fn decode_after(payload: Payload<'_>) -> Result<After, DecodeError> {
    match payload {
        Payload::Proto(bytes) => proto::decode_after(bytes),
        Payload::Json(text) => json::decode_after(text),
    }
}

fn positive(cents: i64) -> Result<i64, Reason> {
    if cents > 0 {
        Ok(cents)
    } else {
        Err(Reason::Cents(cents))
    }
}

fn reversed<'a>(cents: i64, of_version: u64, what: Booking) -> Result<AccountEvent<'a>, Reason> {
    if of_version == 0 {
        return Err(Reason::NoVersion);
    }
    Ok(AccountEvent::Reversed {
        cents: positive(cents)?,
        of_version,
        what,
    })
}
