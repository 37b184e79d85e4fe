//! Accounts payloads in the JSON form.

use serde::Deserialize;

use super::{AccountEvent, After, Booking, Status, positive, reversed};
use crate::envelope_json::{Text, located};
use crate::error::{DecodeError, Reason};

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

pub(super) fn decode_event<'a>(
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
