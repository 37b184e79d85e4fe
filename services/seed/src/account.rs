//! The write side: what may happen to an account, and what it leads to.
//!
//! Every event of the log is one that a bank could have accepted: nothing is
//! withdrawn that is not there, a frozen account pays nothing out, a closed one
//! does nothing but open again, and a reversal takes back one earlier booking
//! in full, once.

use refold_proto::accounts::{Booking, Status};

use crate::random::below;

/// What happened to an account. Amounts in cents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The account exists.
    Opened {
        /// How far the balance may go below zero.
        overdraft_limit_cents: u32,
    },
    /// Money came in.
    Deposited {
        /// Positive.
        cents: u32,
    },
    /// Money went out.
    Withdrawn {
        /// Positive.
        cents: u32,
    },
    /// A booking was taken back.
    Reversed {
        /// The full amount of the booking.
        cents: u32,
        /// Version of the booking.
        of_version: u32,
        /// What the booking was.
        what: Booking,
    },
    /// Outgoing bookings are stopped.
    Frozen,
    /// The account is open again.
    Unfrozen,
    /// The account ended.
    Closed {
        /// What was paid out; negative when the owner settled an overdraft.
        payout_cents: i64,
    },
    /// The account is open again.
    Reopened,
}

/// A booking that may still be taken back; version 0 stands for none.
#[derive(Debug, Clone, Copy, Default)]
struct Reversible {
    version: u32,
    cents: u32,
}

/// An account as the write side knows it: 32 bytes, because a partition of a
/// large log holds millions of them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Account {
    balance_cents: i64,
    /// Version of the last event; 0 before the account exists.
    version: u32,
    state: State,
    overdraft: Overdraft,
    deposit: Reversible,
    withdrawal: Reversible,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
enum State {
    #[default]
    Open,
    Frozen,
    Closed,
}

#[derive(Debug, Clone, Copy, Default)]
#[repr(u8)]
enum Overdraft {
    #[default]
    None,
    Small,
    Large,
}

impl Overdraft {
    fn cents(self) -> u32 {
        match self {
            Overdraft::None => 0,
            Overdraft::Small => 50_000,
            Overdraft::Large => 200_000,
        }
    }
}

/// How often an open account sees each event, in thousandths. What is left
/// over withdraws. Reversals of withdrawals are what v3 folds wrong: their
/// share decides how many aggregates differ between v3 and v4.
const REVERSED_WITHDRAWAL: u64 = 9;
const REVERSED_DEPOSIT: u64 = REVERSED_WITHDRAWAL + 11;
const FROZEN: u64 = REVERSED_DEPOSIT + 7;
const CLOSED: u64 = FROZEN + 4;
const DEPOSITED: u64 = CLOSED + 535;

/// Accounts that are used a lot are not closed: they would have to be opened
/// again at once for the stream to go on.
const CLOSES_UP_TO_VERSION: u32 = 50;

impl Account {
    pub(crate) fn exists(&self) -> bool {
        self.version > 0
    }

    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    pub(crate) fn balance_cents(&self) -> i64 {
        self.balance_cents
    }

    pub(crate) fn status(&self) -> Status {
        match self.state {
            State::Open => Status::Open,
            State::Frozen => Status::Frozen,
            State::Closed => Status::Closed,
        }
    }

    /// Decides what happens next and applies it.
    #[inline]
    pub(crate) fn step(&mut self, random: u64) -> Change {
        let change = self.choose(random);
        self.apply(change);
        change
    }

    fn choose(&self, random: u64) -> Change {
        if !self.exists() {
            return Change::Opened {
                overdraft_limit_cents: match random % 16 {
                    0 => Overdraft::Large.cents(),
                    1 | 2 => Overdraft::Small.cents(),
                    _ => 0,
                },
            };
        }
        let thousandth = below(random, 1000);
        // The amount comes from other bits than the kind of event.
        let amount = amount(random.rotate_left(32));
        match self.state {
            State::Closed => Change::Reopened,
            State::Frozen if thousandth < 700 => Change::Unfrozen,
            State::Frozen => Change::Deposited { cents: amount },
            State::Open => self.choose_open(thousandth, amount),
        }
    }

    #[inline]
    fn choose_open(&self, thousandth: u64, amount: u32) -> Change {
        let available = self.balance_cents + i64::from(self.overdraft.cents());
        if thousandth < REVERSED_WITHDRAWAL && self.withdrawal.version > 0 {
            return self.reversal(self.withdrawal, Booking::Withdrawal);
        }
        if thousandth < REVERSED_DEPOSIT
            && self.deposit.version > 0
            && i64::from(self.deposit.cents) <= available
        {
            return self.reversal(self.deposit, Booking::Deposit);
        }
        if (REVERSED_DEPOSIT..FROZEN).contains(&thousandth) {
            return Change::Frozen;
        }
        if (FROZEN..CLOSED).contains(&thousandth) && self.version <= CLOSES_UP_TO_VERSION {
            return Change::Closed {
                payout_cents: self.balance_cents,
            };
        }
        if thousandth < DEPOSITED || available < 100 {
            return Change::Deposited { cents: amount };
        }
        // Whoever wants more than there is takes a part of what there is.
        let cents = if i64::from(amount) <= available {
            amount
        } else {
            (available as u32 / 16)
                .saturating_mul(3 + amount % 13)
                .max(1)
        };
        Change::Withdrawn { cents }
    }

    fn reversal(&self, booking: Reversible, what: Booking) -> Change {
        Change::Reversed {
            cents: booking.cents,
            of_version: booking.version,
            what,
        }
    }

    fn apply(&mut self, change: Change) {
        self.version += 1;
        let booking = |cents| Reversible {
            version: self.version,
            cents,
        };
        match change {
            Change::Opened {
                overdraft_limit_cents,
            } => {
                self.overdraft = match overdraft_limit_cents {
                    0 => Overdraft::None,
                    50_000 => Overdraft::Small,
                    _ => Overdraft::Large,
                };
            }
            Change::Deposited { cents } => {
                self.deposit = booking(cents);
                self.balance_cents += i64::from(cents);
            }
            Change::Withdrawn { cents } => {
                self.withdrawal = booking(cents);
                self.balance_cents -= i64::from(cents);
            }
            Change::Reversed { cents, what, .. } => match what {
                Booking::Deposit => {
                    self.deposit = Reversible::default();
                    self.balance_cents -= i64::from(cents);
                }
                Booking::Withdrawal => {
                    self.withdrawal = Reversible::default();
                    self.balance_cents += i64::from(cents);
                }
            },
            Change::Frozen => self.state = State::Frozen,
            Change::Unfrozen | Change::Reopened => self.state = State::Open,
            Change::Closed { payout_cents } => {
                self.balance_cents -= payout_cents;
                self.state = State::Closed;
                self.deposit = Reversible::default();
                self.withdrawal = Reversible::default();
            }
        }
    }
}

/// 1.00 to 7,936.00: every doubling is equally likely, in 16 steps of a
/// sixteenth each.
fn amount(random: u64) -> u32 {
    let doublings = (random >> 8) % 13;
    let within = 16 + (random & 15);
    ((within * 100) << doublings >> 4) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::random::Source;

    #[test]
    fn an_account_takes_32_bytes() {
        assert_eq!(size_of::<Account>(), 32);
    }

    #[test]
    fn every_event_is_one_that_the_rules_allow() {
        for id in 0..300 {
            let source = Source::new(id);
            let mut account = Account::default();
            let mut bookings: HashMap<u32, (u32, Booking)> = HashMap::new();
            let mut limit = 0_i64;
            for n in 0..2_000 {
                let before = account;
                match account.step(source.at(n)) {
                    Change::Opened {
                        overdraft_limit_cents,
                    } => {
                        assert_eq!(n, 0);
                        limit = i64::from(overdraft_limit_cents);
                    }
                    Change::Deposited { cents } => {
                        assert!(cents > 0 && before.state != State::Closed);
                        bookings.insert(account.version, (cents, Booking::Deposit));
                    }
                    Change::Withdrawn { cents } => {
                        assert!(cents > 0 && before.state == State::Open);
                        bookings.insert(account.version, (cents, Booking::Withdrawal));
                    }
                    Change::Reversed {
                        cents,
                        of_version,
                        what,
                    } => {
                        assert_eq!(before.state, State::Open);
                        assert_eq!(bookings.remove(&of_version), Some((cents, what)));
                    }
                    Change::Frozen | Change::Closed { .. } => {
                        assert_eq!(before.state, State::Open);
                    }
                    Change::Unfrozen => assert_eq!(before.state, State::Frozen),
                    Change::Reopened => assert_eq!(before.state, State::Closed),
                }
                assert_eq!(account.version, before.version + 1);
                assert!(account.balance_cents >= -limit, "account {id}, event {n}");
                if account.state == State::Closed {
                    assert_eq!(account.balance_cents, 0);
                }
            }
        }
    }

    #[test]
    fn amounts_stay_in_their_range() {
        let source = Source::new(1);
        for n in 0..100_000 {
            let cents = amount(source.at(n));
            assert!((100..=819_000).contains(&cents), "{cents}");
        }
    }
}
