//! Version 3: balance and status.

use refold_projection::{
    Change, DecodeError, Envelope, Fingerprint, Payload, Projection, Row, source_fingerprint,
};
use refold_proto::accounts::AccountEvent;

use crate::event::{self, Status};

/// A row of version 3.
#[derive(Debug, Clone, PartialEq, Row)]
pub struct AccountV3 {
    /// Cents; below zero for an overdraft.
    pub balance: i64,
    /// What state the account is in.
    #[row(text)]
    pub status: Status,
}

const CODE: Fingerprint = source_fingerprint!("event.rs");

/// The fold of version 3, for every number that it runs under.
///
/// It takes each reversal for one of a deposit, and so takes the money of a
/// reversed withdrawal a second time instead of giving it back. It serves, so it
/// stays as it is: version 4 is the fix.
///
/// Sums saturate, so that a build with overflow checks folds to the same rows.
fn fold(row: Option<AccountV3>, event: &AccountEvent<'_>) -> Change<AccountV3> {
    let Some(mut row) = row else {
        return match event {
            AccountEvent::Opened { .. } => Change::Put(AccountV3 {
                balance: 0,
                status: Status::Open,
            }),
            // An account begins with its opening; the write side lets nothing else.
            _ => Change::Skip,
        };
    };
    match event {
        AccountEvent::Opened { .. } => return Change::Skip,
        AccountEvent::Deposited { cents } => row.balance = row.balance.saturating_add(*cents),
        AccountEvent::Withdrawn { cents } | AccountEvent::Reversed { cents, .. } => {
            row.balance = row.balance.saturating_sub(*cents);
        }
        AccountEvent::Frozen => row.status = Status::Frozen,
        AccountEvent::Unfrozen | AccountEvent::Reopened => row.status = Status::Open,
        AccountEvent::Closed { payout_cents } => {
            row.balance = row.balance.saturating_sub(*payout_cents);
            row.status = Status::Closed;
        }
    }
    Change::Put(row)
}

/// The read model `accounts`, version 3.
#[derive(Debug, Clone, Copy, Default)]
pub struct AccountsV3;

impl Projection for AccountsV3 {
    type Key = i64;
    type Event<'a> = AccountEvent<'a>;
    type Row = AccountV3;

    const NAME: &'static str = "accounts";
    const VERSION: u32 = 3;
    const HANDLES: &'static [&'static str] = event::HANDLES;
    const REFUSES_MALFORMED_JSON: bool = true;
    const CODE: Fingerprint = CODE;

    #[inline(always)]
    fn decode<'a>(kind: &'a str, payload: Payload<'a>) -> Result<AccountEvent<'a>, DecodeError> {
        event::decode(kind, payload)
    }

    #[inline]
    fn fold(
        &self,
        row: Option<AccountV3>,
        event: &Envelope<'_, AccountEvent<'_>>,
    ) -> Change<AccountV3> {
        fold(row, &event.event)
    }
}

/// Version 3's very fold and row under the number 103.
///
/// A rebuild that changes nothing proves the machinery and not the projection:
/// every column of every row has to be equal to the serving version's at any
/// offset, so whatever differs was lost, doubled or disordered on the way. It is
/// also how a read model is rebuilt whose table was damaged.
#[derive(Debug, Clone, Copy, Default)]
pub struct AccountsV3Rebuilt;

impl Projection for AccountsV3Rebuilt {
    type Key = i64;
    type Event<'a> = AccountEvent<'a>;
    type Row = AccountV3;

    const NAME: &'static str = "accounts";
    const VERSION: u32 = 103;
    const HANDLES: &'static [&'static str] = event::HANDLES;
    const REFUSES_MALFORMED_JSON: bool = true;
    const CODE: Fingerprint = CODE;
    const REPLACES: Option<u32> = Some(AccountsV3::VERSION);

    #[inline(always)]
    fn decode<'a>(kind: &'a str, payload: Payload<'a>) -> Result<AccountEvent<'a>, DecodeError> {
        event::decode(kind, payload)
    }

    #[inline]
    fn fold(
        &self,
        row: Option<AccountV3>,
        event: &Envelope<'_, AccountEvent<'_>>,
    ) -> Change<AccountV3> {
        fold(row, &event.event)
    }
}
