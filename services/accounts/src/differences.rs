//! How the balances of version 4 differ from those of version 3.

use refold_projection::{Differences, Expected, Replaces, source_fingerprint};

use crate::v3::{AccountV3, AccountsV3};
use crate::v4::{AccountV4, AccountsV4};

/// The rule between the two versions.
pub(crate) const V3_TO_V4: Differences =
    Differences::between::<AccountsV3, AccountsV4>(source_fingerprint!());

impl Replaces<AccountsV3> for AccountsV4 {
    /// Version 3 took the money of a reversed withdrawal a second time, version 4 gives it
    /// back: its balance is higher by twice that sum, which is part of all reversals. The rows
    /// do not say how many of those were of withdrawals.
    fn expect(old: &AccountV3, new: &AccountV4) -> Expected {
        let gained = i128::from(new.balance) - i128::from(old.balance);
        let most = 2 * i128::from(new.reversed_total);
        match gained {
            0 if most == 0 => Expected::Equal,
            0 => Expected::Either("deposits were reversed, or withdrawals of nothing"),
            _ if gained > 0 && gained <= most && gained % 2 == 0 => {
                Expected::Different("a withdrawal was reversed")
            }
            _ => Expected::Equal,
        }
    }
}

#[cfg(test)]
mod tests {
    use refold_projection::{Row, Timestamp};

    use super::*;
    use crate::event::{Currency, Status};

    fn expect(old: i64, new: i64, reversed_total: i64) -> Expected {
        let old = AccountV3 {
            balance: old,
            status: Status::Open,
        };
        let new = AccountV4 {
            balance: new,
            status: Status::Open,
            largest_deposit: 0,
            deposits_count: 0,
            reversed_total,
            opened_at: Timestamp(0),
            closed_at: None,
            currency: Currency::NONE,
        };
        let cells = |encode: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            encode(&mut out);
            out
        };
        let old = cells(&|out| old.encode(out));
        let new = cells(&|out| new.encode(out));
        V3_TO_V4.expect(&old, &new).expect("rows of both versions")
    }

    #[test]
    fn only_what_a_reversed_withdrawal_explains_is_expected() {
        assert_eq!(V3_TO_V4.replaced(), "accounts_v3");
        assert_eq!(expect(700, 700, 0), Expected::Equal);
        assert!(matches!(expect(700, 700, 50), Expected::Either(_)));
        assert!(matches!(expect(600, 700, 50), Expected::Different(_)));
        assert!(matches!(expect(600, 700, 90), Expected::Different(_)));
        // More than all reversals, the wrong way, half of one, and without any.
        for (old, new, reversed) in [
            (600, 700, 49),
            (700, 600, 50),
            (601, 700, 50),
            (600, 700, 0),
        ] {
            assert_eq!(expect(old, new, reversed), Expected::Equal);
        }
    }

    #[test]
    fn a_row_of_another_version_is_an_error() {
        assert!(V3_TO_V4.expect(&[], &[]).is_err());
    }
}
