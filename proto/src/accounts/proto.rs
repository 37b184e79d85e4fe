//! Accounts payloads in the protobuf form.

use std::borrow::Cow;

use super::{AccountEvent, After, Booking, Status, positive, reversed};
use crate::error::{DecodeError, Reason};
use crate::usual;
use crate::wire::{BYTES, Reader};

#[inline(always)]
pub(super) fn decode_event<'a>(
    kind: &str,
    bytes: &'a [u8],
) -> Result<Option<AccountEvent<'a>>, DecodeError> {
    let event = match kind {
        "Deposited" => AccountEvent::Deposited {
            cents: amount(bytes)?,
        },
        "Withdrawn" => AccountEvent::Withdrawn {
            cents: amount(bytes)?,
        },
        "Opened" => decode_opened(bytes)?,
        "Reversed" => decode_reversed(bytes)?,
        "Closed" => decode_closed(bytes)?,
        "Frozen" => status_only(bytes, AccountEvent::Frozen)?,
        "Unfrozen" => status_only(bytes, AccountEvent::Unfrozen)?,
        "Reopened" => status_only(bytes, AccountEvent::Reopened)?,
        _ => return Ok(None),
    };
    Ok(Some(event))
}

/// `Deposited` and `Withdrawn` hold their amount in the same field.
#[inline(always)]
fn amount(bytes: &[u8]) -> Result<i64, DecodeError> {
    let cents = match usual_amount(bytes) {
        Some(cents) => cents,
        None => any_amount(bytes)?,
    };
    positive(cents).map_err(|reason| DecodeError::new(bytes.len(), reason))
}

/// The after-image, the amount, and text.
#[inline(always)]
fn usual_amount(bytes: &[u8]) -> Option<i64> {
    const AMOUNT_KEY: u8 = 2 << 3;
    let mut at = usual::behind_after_image(bytes)?;
    usual::expect(bytes, &mut at, AMOUNT_KEY)?;
    let cents = usual::varint(bytes, &mut at)? as i64;
    usual::only_text_follows(bytes, at, 3).then_some(cents)
}

fn any_amount(bytes: &[u8]) -> Result<i64, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut cents = 0;
    while !reader.is_at_end() {
        let key = reader.key()?;
        match key.field {
            2 => cents = reader.uint(key)? as i64,
            _ => reader.skip(key, 0)?,
        }
    }
    Ok(cents)
}

fn decode_opened(bytes: &[u8]) -> Result<AccountEvent<'_>, DecodeError> {
    match usual_opened(bytes) {
        Some(event) => Ok(event),
        None => decode_any_opened(bytes),
    }
}

/// The after-image, owner, currency, an overdraft limit unless it is 0, and text.
#[inline(always)]
fn usual_opened(bytes: &[u8]) -> Option<AccountEvent<'_>> {
    const OWNER_KEY: u8 = 2 << 3 | BYTES;
    const CURRENCY_KEY: u8 = 3 << 3 | BYTES;
    const OVERDRAFT_KEY: u8 = 4 << 3;
    let mut at = usual::behind_after_image(bytes)?;
    usual::expect(bytes, &mut at, OWNER_KEY)?;
    let owner = usual::short_text(bytes, &mut at)?;
    usual::expect(bytes, &mut at, CURRENCY_KEY)?;
    let currency = usual::short_text(bytes, &mut at)?;
    let overdraft_limit_cents = match usual::expect(bytes, &mut at, OVERDRAFT_KEY) {
        Some(()) => usual::varint(bytes, &mut at)? as i64,
        None => 0,
    };
    // Owner or currency again would count instead of the first.
    usual::only_text_follows(bytes, at, 5).then_some(AccountEvent::Opened {
        owner: Cow::Borrowed(owner),
        currency: Cow::Borrowed(currency),
        overdraft_limit_cents,
    })
}

fn decode_any_opened(bytes: &[u8]) -> Result<AccountEvent<'_>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let (mut owner, mut currency, mut overdraft_limit_cents) = ("", "", 0);
    while !reader.is_at_end() {
        let key = reader.key()?;
        match key.field {
            2 => owner = reader.text(key)?,
            3 => currency = reader.text(key)?,
            4 => overdraft_limit_cents = reader.uint(key)? as i64,
            _ => reader.skip(key, 0)?,
        }
    }
    Ok(AccountEvent::Opened {
        owner: Cow::Borrowed(owner),
        currency: Cow::Borrowed(currency),
        overdraft_limit_cents,
    })
}

fn decode_reversed(bytes: &[u8]) -> Result<AccountEvent<'_>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let (mut cents, mut of_version, mut what) = (0, 0, 0);
    while !reader.is_at_end() {
        let key = reader.key()?;
        match key.field {
            2 => cents = reader.uint(key)? as i64,
            3 => of_version = reader.uint(key)?,
            4 => what = reader.uint(key)? as i32,
            _ => reader.skip(key, 0)?,
        }
    }
    Booking::from_number(what)
        .and_then(|what| reversed(cents, of_version, what))
        .map_err(|reason| DecodeError::new(bytes.len(), reason))
}

fn decode_closed(bytes: &[u8]) -> Result<AccountEvent<'_>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut payout_cents = 0;
    while !reader.is_at_end() {
        let key = reader.key()?;
        match key.field {
            2 => payout_cents = reader.sint(key)?,
            _ => reader.skip(key, 0)?,
        }
    }
    Ok(AccountEvent::Closed { payout_cents })
}

/// Nothing is read, but a payload that does not end where it should is
/// refused like any other.
fn status_only<'a>(bytes: &[u8], event: AccountEvent<'a>) -> Result<AccountEvent<'a>, DecodeError> {
    let mut reader = Reader::new(bytes);
    while !reader.is_at_end() {
        let key = reader.key()?;
        reader.skip(key, 0)?;
    }
    Ok(event)
}

pub(super) fn decode_after(bytes: &[u8]) -> Result<After, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut image = Image::default();
    let mut seen = false;
    while !reader.is_at_end() {
        let key = reader.key()?;
        if key.field != 1 {
            reader.skip(key, 0)?;
            continue;
        }
        // A message that occurs twice is merged, not replaced.
        seen = true;
        let inner = reader.bytes(key)?;
        let start = reader.position() - inner.len();
        let mut after = Reader::new(inner);
        while !after.is_at_end() {
            merge_after(&mut after, &mut image).map_err(|error| DecodeError {
                at: start + error.at,
                ..error
            })?;
        }
    }
    let refuse = |reason| DecodeError::new(bytes.len(), reason);
    if !seen {
        return Err(refuse(Reason::NoAfter));
    }
    Ok(After {
        balance_cents: image.balance_cents,
        status: Status::from_number(image.status).map_err(refuse)?,
        version: image.version,
    })
}

#[derive(Default)]
struct Image {
    balance_cents: i64,
    status: i32,
    version: u64,
}

/// Reads one field of an after-image.
fn merge_after(reader: &mut Reader<'_>, image: &mut Image) -> Result<(), DecodeError> {
    let key = reader.key()?;
    match key.field {
        1 => image.balance_cents = reader.sint(key)?,
        2 => image.status = reader.uint(key)? as i32,
        3 => image.version = reader.uint(key)?,
        _ => reader.skip(key, 1)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Payload, decode_proto};

    fn payload(golden: &[u8]) -> &[u8] {
        assert!(usual::envelope(golden).is_some());
        match decode_proto(golden).map(|envelope| envelope.payload) {
            Ok(Payload::Proto(payload)) => payload,
            other => panic!("{other:?}"),
        }
    }

    /// Whatever else holds, the events that make up a log are read the short way, and the long
    /// one reads them alike.
    #[test]
    fn golden_bookings_and_openings_are_usual() {
        for golden in [
            include_bytes!("../../golden/deposited.bin").as_slice(),
            include_bytes!("../../golden/withdrawn.bin").as_slice(),
        ] {
            let payload = payload(golden);
            let long = any_amount(payload).expect("an amount");
            assert_eq!(usual_amount(payload), Some(long));
        }
        let payload = payload(include_bytes!("../../golden/opened.bin"));
        let long = decode_any_opened(payload).expect("an opening");
        assert_eq!(usual_opened(payload), Some(long));
    }
}
