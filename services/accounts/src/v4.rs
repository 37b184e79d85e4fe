//! Version 4: the right balance, and what version 3 never stored.

use refold_projection::{
    Change, DecodeError, Differences, Envelope, Fingerprint, Payload, Projection, Row, TextValue,
    Timestamp, source_fingerprint,
};
use refold_proto::accounts::{AccountEvent, Booking};

use crate::differences;
use crate::event::{self, Currency, Status};
use crate::v3::AccountsV3;

/// A row of version 4.
#[derive(Debug, Clone, PartialEq, Row)]
pub struct AccountV4 {
    /// Cents; below zero for an overdraft. Differs from version 3 where a
    /// withdrawal was reversed.
    #[row(differs)]
    pub balance: i64,
    /// What state the account is in.
    #[row(text)]
    pub status: Status,
    /// Cents of the largest deposit, 0 before the first. A reversal does not lower it.
    #[row(new)]
    pub largest_deposit: i64,
    /// Number of deposits, reversed ones too.
    #[row(new)]
    pub deposits_count: i64,
    /// Cents of all reversals, of deposits and of withdrawals.
    #[row(new)]
    pub reversed_total: i64,
    /// When the account was opened.
    #[row(new)]
    pub opened_at: Timestamp,
    /// When the account was closed, unless it was opened again since.
    #[row(new)]
    pub closed_at: Option<Timestamp>,
    /// The account's currency.
    #[row(new, text)]
    pub currency: Currency,
}

/// The read model `accounts`, version 4.
#[derive(Debug, Clone, Copy, Default)]
pub struct AccountsV4;

impl Projection for AccountsV4 {
    type Key = i64;
    type Event<'a> = AccountEvent<'a>;
    type Row = AccountV4;

    const NAME: &'static str = "accounts";
    const VERSION: u32 = 4;
    const HANDLES: &'static [&'static str] = event::HANDLES;
    const REFUSES_MALFORMED_JSON: bool = true;
    const CODE: Fingerprint = source_fingerprint!("event.rs");
    const REPLACES: Option<u32> = Some(AccountsV3::VERSION);
    const DIFFERENCES: Option<Differences> = Some(differences::V3_TO_V4);

    #[inline(always)]
    fn decode<'a>(kind: &'a str, payload: Payload<'a>) -> Result<AccountEvent<'a>, DecodeError> {
        event::decode(kind, payload)
    }

    #[inline]
    fn fold(
        &self,
        row: Option<AccountV4>,
        event: &Envelope<'_, AccountEvent<'_>>,
    ) -> Change<AccountV4> {
        let ts = Timestamp(event.ts_micros);
        match (row, &event.event) {
            (None, AccountEvent::Opened { currency, .. }) => Change::Put(opened(currency, ts)),
            // An account begins with its opening, and has one: the write side
            // lets nothing else.
            (None, _) | (Some(_), AccountEvent::Opened { .. }) => Change::Skip,
            (Some(row), event) => Change::Put(booked(row, event, ts)),
        }
    }
}

#[inline]
fn opened(currency: &str, ts: Timestamp) -> AccountV4 {
    AccountV4 {
        balance: 0,
        status: Status::Open,
        largest_deposit: 0,
        deposits_count: 0,
        reversed_total: 0,
        opened_at: ts,
        closed_at: None,
        currency: Currency::from_text(currency).unwrap_or(Currency::NONE),
    }
}

/// Sums saturate, so that a build with overflow checks folds to the same rows.
#[inline]
fn booked(mut row: AccountV4, event: &AccountEvent<'_>, ts: Timestamp) -> AccountV4 {
    match event {
        AccountEvent::Opened { .. } => {}
        AccountEvent::Deposited { cents } => {
            row.balance = row.balance.saturating_add(*cents);
            row.largest_deposit = row.largest_deposit.max(*cents);
            row.deposits_count = row.deposits_count.saturating_add(1);
        }
        AccountEvent::Withdrawn { cents } => row.balance = row.balance.saturating_sub(*cents),
        AccountEvent::Reversed { cents, what, .. } => {
            row.balance = match what {
                Booking::Deposit => row.balance.saturating_sub(*cents),
                Booking::Withdrawal => row.balance.saturating_add(*cents),
            };
            row.reversed_total = row.reversed_total.saturating_add(*cents);
        }
        AccountEvent::Frozen => row.status = Status::Frozen,
        AccountEvent::Unfrozen => row.status = Status::Open,
        AccountEvent::Closed { payout_cents } => {
            row.balance = row.balance.saturating_sub(*payout_cents);
            row.status = Status::Closed;
            row.closed_at = Some(ts);
        }
        AccountEvent::Reopened => {
            row.status = Status::Open;
            row.closed_at = None;
        }
    }
    row
}
