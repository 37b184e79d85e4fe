//! The read model `accounts` of the reference log, as a user of Refold writes
//! one: two versions of it, the events they share, and their tests.
//!
//! | version | what it is |
//! |---|---|
//! | [`AccountsV3`] | balance and status; books reversals of withdrawals the wrong way |
//! | [`AccountsV4`] | the right balance, and six columns that version 3 never stored |
//! | [`AccountsV3Rebuilt`] | version 3 under a new number, to prove the machinery with |

mod differences;
pub mod event;
#[cfg(test)]
mod properties;
mod v3;
mod v4;
pub mod write_side;

pub use event::{Currency, Status};
pub use v3::{AccountV3, AccountsV3, AccountsV3Rebuilt};
pub use v4::{AccountV4, AccountsV4};
