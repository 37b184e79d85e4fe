//! Accounts events as a test writes them down, encoded in both wire forms.

use refold_projection::harness::TestEvent;
use refold_proto::WireFormat;
use refold_proto::accounts::body::{self, Body};
use refold_proto::accounts::{After, Booking, Status};

/// One event of an account. Amounts are in cents. The text around the numbers
/// is left empty, and so is the after-image, which no fold here reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The account exists, in a currency.
    Opened(&'static str),
    /// Money came in.
    Deposited(i64),
    /// Money went out.
    Withdrawn(i64),
    /// The deposit that was event number `of` is taken back.
    DepositReversed {
        /// The full amount of the deposit.
        cents: i64,
        /// Version of the deposit.
        of: u64,
    },
    /// The withdrawal that was event number `of` is taken back.
    WithdrawalReversed {
        /// The full amount of the withdrawal.
        cents: i64,
        /// Version of the withdrawal.
        of: u64,
    },
    /// Outgoing bookings are stopped.
    Frozen,
    /// A frozen account is open again.
    Unfrozen,
    /// The account ended and this was paid out.
    Closed(i64),
    /// A closed account is open again.
    Reopened,
}

impl Event {
    fn write(&self, format: WireFormat) -> Vec<u8> {
        let mut out = Vec::new();
        self.with_body(|body| body.encode_to(format, &mut out));
        out
    }

    fn with_body(&self, mut visit: impl FnMut(&dyn Body)) {
        let after = After {
            balance_cents: 0,
            status: Status::Open,
            version: 0,
        };
        let (reason, case_id, operator, note) = ("", "", "", "");
        match *self {
            Self::Opened(currency) => visit(&body::Opened {
                after,
                owner: "",
                currency,
                overdraft_limit_cents: 0,
                product: "",
                branch: "",
                channel: "",
                reference: "",
                note,
            }),
            Self::Deposited(cents) => visit(&body::Deposited {
                after,
                cents,
                channel: "",
                reference: "",
                counterparty: "",
                counterparty_iban: "",
                device: "",
                note,
            }),
            Self::Withdrawn(cents) => visit(&body::Withdrawn {
                after,
                cents,
                channel: "",
                reference: "",
                merchant: "",
                terminal: "",
                device: "",
                note,
            }),
            Self::DepositReversed { cents, of } => {
                visit(&reversed(after, cents, of, Booking::Deposit));
            }
            Self::WithdrawalReversed { cents, of } => {
                visit(&reversed(after, cents, of, Booking::Withdrawal));
            }
            Self::Frozen => visit(&body::Frozen {
                after,
                reason,
                case_id,
                operator,
                note,
            }),
            Self::Unfrozen => visit(&body::Unfrozen {
                after,
                reason,
                case_id,
                operator,
                note,
            }),
            Self::Closed(payout_cents) => visit(&body::Closed {
                after,
                payout_cents,
                payout_iban: "",
                reason,
                operator,
                note,
            }),
            Self::Reopened => visit(&body::Reopened {
                after,
                reason,
                case_id,
                operator,
                note,
            }),
        }
    }
}

fn reversed(after: After, cents: i64, of: u64, what: Booking) -> body::Reversed<'static> {
    body::Reversed {
        after,
        cents,
        of_version: of,
        what,
        reason: "",
        reference: "",
        case_id: "",
        operator: "",
        note: "",
    }
}

impl TestEvent for Event {
    fn kind(&self) -> &str {
        match self {
            Self::Opened(_) => body::Opened::KIND,
            Self::Deposited(_) => body::Deposited::KIND,
            Self::Withdrawn(_) => body::Withdrawn::KIND,
            Self::DepositReversed { .. } | Self::WithdrawalReversed { .. } => body::Reversed::KIND,
            Self::Frozen => body::Frozen::KIND,
            Self::Unfrozen => body::Unfrozen::KIND,
            Self::Closed(_) => body::Closed::KIND,
            Self::Reopened => body::Reopened::KIND,
        }
    }

    fn proto(&self) -> Option<Vec<u8>> {
        Some(self.write(WireFormat::Proto))
    }

    fn json(&self) -> Option<String> {
        String::from_utf8(self.write(WireFormat::Json)).ok()
    }
}

#[cfg(any(test, feature = "generators"))]
pub use arbitrary::arb_history;

#[cfg(any(test, feature = "generators"))]
mod arbitrary {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::Event;

    /// Arbitrary histories of one account that a write side could have written:
    /// an opening, and then at most `events` events. Frozen accounts pay nothing
    /// out, closed ones only open again, and a booking is reversed once at most.
    pub fn arb_history(events: usize) -> impl Strategy<Value = Vec<Event>> {
        let currency = prop::sample::select(vec!["EUR", "USD", "CHF"]);
        // An amount, what to do, and which of the bookings to reverse.
        let wishes = vec(
            (1..=1_000_000i64, 0..20u8, any::<prop::sample::Index>()),
            0..=events,
        );
        (currency, wishes).prop_map(|(currency, wishes)| {
            let mut account = Account::open(currency);
            for (cents, wish, which) in wishes {
                account.grant(cents, wish, &which);
            }
            account.history
        })
    }

    enum State {
        Open,
        Frozen,
        Closed,
    }

    struct Account {
        history: Vec<Event>,
        state: State,
        balance: i64,
        /// Reversals that are still possible.
        reversible: Vec<Event>,
    }

    impl Account {
        fn open(currency: &'static str) -> Self {
            Self {
                history: vec![Event::Opened(currency)],
                state: State::Open,
                balance: 0,
                reversible: Vec::new(),
            }
        }

        /// Turns a wish into an event that the account's state allows.
        fn grant(&mut self, cents: i64, wish: u8, which: &prop::sample::Index) {
            let of = self.history.len() as u64 + 1;
            let event = match (&self.state, wish) {
                (State::Closed, _) => Event::Reopened,
                (_, 0) => Event::Closed(self.balance),
                (State::Open, 1) => Event::Frozen,
                (State::Frozen, 1..=5) => Event::Unfrozen,
                (_, 6..=10) if !self.reversible.is_empty() => self
                    .reversible
                    .swap_remove(which.index(self.reversible.len())),
                (State::Open, 11..=14) => Event::Withdrawn(cents),
                _ => Event::Deposited(cents),
            };
            match event {
                Event::Opened(_) => {}
                Event::Deposited(cents) => {
                    self.balance += cents;
                    self.reversible.push(Event::DepositReversed { cents, of });
                }
                Event::Withdrawn(cents) => {
                    self.balance -= cents;
                    self.reversible
                        .push(Event::WithdrawalReversed { cents, of });
                }
                Event::DepositReversed { cents, .. } => self.balance -= cents,
                Event::WithdrawalReversed { cents, .. } => self.balance += cents,
                Event::Closed(cents) => {
                    self.balance -= cents;
                    self.state = State::Closed;
                }
                Event::Frozen => self.state = State::Frozen,
                Event::Unfrozen | Event::Reopened => self.state = State::Open,
            }
            self.history.push(event);
        }
    }
}
