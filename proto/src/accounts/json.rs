//! Accounts payloads in the JSON form.

use std::borrow::Cow;

use serde::Deserialize;

use super::{AccountEvent, After, Booking, Status, positive, reversed};
use crate::envelope_json::{Text, located};
use crate::error::{DecodeError, Reason};
use crate::json_scan::{Scan, once};

#[derive(Deserialize)]
struct Amount {
    #[serde(default)]
    cents: i64,
}

#[derive(Deserialize)]
struct Opened<'a> {
    #[serde(borrow, default)]
    owner: Text<'a>,
    #[serde(borrow, default)]
    currency: Text<'a>,
    #[serde(default)]
    overdraft_limit_cents: i64,
}

#[derive(Deserialize)]
struct Reversed<'a> {
    #[serde(default)]
    cents: i64,
    #[serde(default)]
    of_version: u64,
    #[serde(borrow, default)]
    what: Text<'a>,
}

#[derive(Deserialize)]
struct Closed {
    #[serde(default)]
    payout_cents: i64,
}

#[derive(Deserialize)]
struct Nothing {}

#[derive(Deserialize)]
struct WithAfter<'a> {
    #[serde(borrow, default)]
    after: Option<AfterMembers<'a>>,
}

#[derive(Deserialize)]
struct AfterMembers<'a> {
    #[serde(default)]
    balance_cents: i64,
    #[serde(borrow, default)]
    status: Text<'a>,
    #[serde(default)]
    version: u64,
}

fn members<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, DecodeError> {
    serde_json::from_str(text).map_err(|error| located(text.as_bytes(), &error))
}

#[inline]
pub(super) fn decode_event<'a>(
    kind: &str,
    text: &'a str,
) -> Result<Option<AccountEvent<'a>>, DecodeError> {
    match plain(kind, text) {
        Some(event) => Ok(Some(event)),
        None => by_library(kind, text),
    }
}

/// Reads the kinds that make up most of a log, in plain text: see [`crate::json_scan`].
#[inline]
pub(crate) fn plain<'a>(kind: &str, text: &'a str) -> Option<AccountEvent<'a>> {
    Some(match kind {
        "Deposited" => AccountEvent::Deposited {
            cents: plain_amount(text)?,
        },
        "Withdrawn" => AccountEvent::Withdrawn {
            cents: plain_amount(text)?,
        },
        "Opened" => plain_opened(text)?,
        _ => return None,
    })
}

/// The amount of a booking as [`super::body`] writes it: after-image, amount, and nothing but
/// text behind them.
#[inline]
pub(crate) fn usual_amount(text: &str) -> Option<i64> {
    let mut scan = Scan::new(text);
    scan.literal(b"{\"after\":{\"balance_cents\":")?;
    scan.int()?;
    scan.literal(b",\"status\":")?;
    scan.string()?;
    scan.literal(b",\"version\":")?;
    scan.int()?;
    scan.literal(b"},\"cents\":")?;
    let cents = scan.int()?;
    scan.only_text_follows("cents")?;
    positive(cents).ok()
}

#[inline]
fn plain_amount(text: &str) -> Option<i64> {
    if let Some(cents) = usual_amount(text) {
        return Some(cents);
    }
    let mut scan = Scan::new(text);
    let mut cents = None;
    scan.object(|scan, name| match name {
        "cents" => once(&mut cents, scan.int()?),
        _ => scan.skip(),
    })?;
    scan.end()?;
    positive(cents?).ok()
}

fn plain_opened(text: &str) -> Option<AccountEvent<'_>> {
    let mut scan = Scan::new(text);
    let (mut owner, mut currency, mut limit) = (None, None, None);
    scan.object(|scan, name| match name {
        "owner" => once(&mut owner, scan.string()?),
        "currency" => once(&mut currency, scan.string()?),
        "overdraft_limit_cents" => once(&mut limit, scan.int()?),
        _ => scan.skip(),
    })?;
    scan.end()?;
    Some(AccountEvent::Opened {
        owner: Cow::Borrowed(owner.unwrap_or_default()),
        currency: Cow::Borrowed(currency.unwrap_or_default()),
        overdraft_limit_cents: limit.unwrap_or_default(),
    })
}

pub(crate) fn by_library<'a>(
    kind: &str,
    text: &'a str,
) -> Result<Option<AccountEvent<'a>>, DecodeError> {
    let refuse = |reason| DecodeError::new(text.len(), reason);
    let amount = || positive(members::<Amount>(text)?.cents).map_err(refuse);
    let event = match kind {
        "Deposited" => AccountEvent::Deposited { cents: amount()? },
        "Withdrawn" => AccountEvent::Withdrawn { cents: amount()? },
        "Opened" => {
            let opened: Opened<'_> = members(text)?;
            AccountEvent::Opened {
                owner: opened.owner.0,
                currency: opened.currency.0,
                overdraft_limit_cents: opened.overdraft_limit_cents,
            }
        }
        "Reversed" => {
            let members: Reversed<'_> = members(text)?;
            booking(&members.what.0)
                .and_then(|what| reversed(members.cents, members.of_version, what))
                .map_err(refuse)?
        }
        "Closed" => AccountEvent::Closed {
            payout_cents: members::<Closed>(text)?.payout_cents,
        },
        "Frozen" => members(text).map(|Nothing {}| AccountEvent::Frozen)?,
        "Unfrozen" => members(text).map(|Nothing {}| AccountEvent::Unfrozen)?,
        "Reopened" => members(text).map(|Nothing {}| AccountEvent::Reopened)?,
        _ => return Ok(None),
    };
    Ok(Some(event))
}

pub(super) fn decode_after(text: &str) -> Result<After, DecodeError> {
    let refuse = |reason| DecodeError::new(text.len(), reason);
    let after = members::<WithAfter<'_>>(text)?
        .after
        .ok_or_else(|| refuse(Reason::NoAfter))?;
    Ok(After {
        balance_cents: after.balance_cents,
        status: status(&after.status.0).map_err(refuse)?,
        version: after.version,
    })
}

fn booking(name: &str) -> Result<Booking, Reason> {
    [Booking::Deposit, Booking::Withdrawal]
        .into_iter()
        .find(|booking| booking.name() == name)
        .ok_or_else(|| Reason::Json(format!("unknown booking kind {name:?}").into()))
}

fn status(name: &str) -> Result<Status, Reason> {
    [Status::Open, Status::Frozen, Status::Closed]
        .into_iter()
        .find(|status| status.name() == name)
        .ok_or_else(|| Reason::Json(format!("unknown account status {name:?}").into()))
}
