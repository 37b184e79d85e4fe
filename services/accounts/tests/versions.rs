//! What the versions of `accounts` say about a few accounts.

use refold_accounts::write_side::Event::{
    Closed, DepositReversed, Deposited, Frozen, Opened, Reopened, Unfrozen, WithdrawalReversed,
    Withdrawn,
};
use refold_accounts::{
    AccountV3, AccountV4, AccountsV3, AccountsV3Rebuilt, AccountsV4, Currency, Status,
};
use refold_projection::harness::{FIRST_TS, Given, given};
use refold_projection::{Projection, Row, TextValue, Timestamp};

/// Seconds after the first event.
fn second(n: i64) -> Timestamp {
    Timestamp(FIRST_TS.0 + n * 1_000_000)
}

fn currency(code: &str) -> Currency {
    Currency::from_text(code).expect("it is a code")
}

/// An account that was just opened by the script's first event.
fn fresh() -> AccountV4 {
    AccountV4 {
        balance: 0,
        status: Status::Open,
        largest_deposit: 0,
        deposits_count: 0,
        reversed_total: 0,
        opened_at: second(0),
        closed_at: None,
        currency: currency("EUR"),
    }
}

fn v3(balance: i64, status: Status) -> AccountV3 {
    AccountV3 { balance, status }
}

/// Two accounts, every type of event, and a withdrawal that is reversed.
fn two_accounts<P: Projection<Key = i64>>(projection: P) -> Given<P> {
    given(projection)
        .event(7, Opened("EUR"))
        .event(7, Deposited(500))
        .event(8, Opened("USD"))
        .event(8, Deposited(1_000))
        .event(7, Deposited(200))
        .event(7, Withdrawn(100))
        .event(
            8,
            DepositReversed {
                cents: 1_000,
                of: 2,
            },
        )
        .event(7, Frozen)
        .event(7, WithdrawalReversed { cents: 100, of: 4 })
        .event(7, Unfrozen)
        .event(8, Closed(0))
        .event(8, Reopened)
        .event(8, Closed(0))
}

#[test]
fn version_4_folds_every_event() {
    two_accounts(AccountsV4)
        .as_of(7, 1, fresh())
        .as_of(
            7,
            4,
            AccountV4 {
                balance: 600,
                largest_deposit: 500,
                deposits_count: 2,
                ..fresh()
            },
        )
        .then(
            7,
            AccountV4 {
                balance: 700,
                largest_deposit: 500,
                deposits_count: 2,
                reversed_total: 100,
                ..fresh()
            },
        )
        .then(
            8,
            AccountV4 {
                status: Status::Closed,
                largest_deposit: 1_000,
                deposits_count: 1,
                reversed_total: 1_000,
                opened_at: second(2),
                closed_at: Some(second(12)),
                currency: currency("USD"),
                ..fresh()
            },
        )
        .then_none(9);
}

#[test]
fn version_3_takes_a_reversed_withdrawal_twice_and_version_4_gives_it_back() {
    let script = [
        (1, Opened("EUR")),
        (1, Deposited(1_000)),
        (1, Withdrawn(300)),
        (1, WithdrawalReversed { cents: 300, of: 3 }),
    ];
    given(AccountsV3)
        .events(script.clone())
        .as_of(1, 3, v3(700, Status::Open))
        .then(1, v3(400, Status::Open));
    given(AccountsV4).events(script).then(
        1,
        AccountV4 {
            balance: 1_000,
            largest_deposit: 1_000,
            deposits_count: 1,
            reversed_total: 300,
            ..fresh()
        },
    );
}

#[test]
fn the_versions_agree_on_a_reversed_deposit() {
    let script = [
        (1, Opened("EUR")),
        (1, Deposited(1_000)),
        (
            1,
            DepositReversed {
                cents: 1_000,
                of: 2,
            },
        ),
    ];
    given(AccountsV3)
        .events(script.clone())
        .then(1, v3(0, Status::Open));
    let rows = given(AccountsV4).events(script).into_script().rows();
    assert_eq!(rows.expect("it folds")[&1].balance, 0);
}

#[test]
fn version_4_agrees_with_version_3_where_it_says_so() {
    two_accounts(AccountsV4).then_agrees_with(AccountsV3);
}

#[test]
fn version_3_rebuilt_agrees_with_version_3_in_every_column() {
    assert_eq!(AccountsV3Rebuilt::CODE, AccountsV3::CODE);
    two_accounts(AccountsV3Rebuilt).then_agrees_with(AccountsV3);
}

#[test]
fn a_payout_leaves_the_rest() {
    given(AccountsV3)
        .event(1, Opened("EUR"))
        .event(1, Deposited(50))
        .event(1, Closed(40))
        .then(1, v3(10, Status::Closed))
        .event(1, Reopened)
        .then(1, v3(10, Status::Open))
        .event(1, Frozen)
        .then(1, v3(10, Status::Frozen));
}

#[test]
fn an_account_without_an_opening_has_no_row() {
    given(AccountsV3).event(1, Deposited(5)).then_none(1);
    given(AccountsV4).event(1, Deposited(5)).then_none(1);
}

#[test]
fn a_second_opening_changes_nothing() {
    given(AccountsV4)
        .event(1, Opened("EUR"))
        .event(1, Opened("USD"))
        .then(1, fresh());
}

#[test]
fn a_currency_that_is_no_code_is_stored_as_none() {
    for code in ["", "eur", "EURO"] {
        given(AccountsV4).event(1, Opened(code)).then(
            1,
            AccountV4 {
                currency: Currency::NONE,
                ..fresh()
            },
        );
    }
}

#[test]
fn sums_beyond_64_bits_stay_at_the_limit() {
    given(AccountsV3)
        .event(1, Opened("EUR"))
        .event(1, Deposited(i64::MAX))
        .event(1, Deposited(1))
        .then(1, v3(i64::MAX, Status::Open));
}

#[test]
fn impossible_events_are_refused_and_not_folded() {
    given(AccountsV4)
        .event(1, Opened("EUR"))
        .event(1, Deposited(0))
        .then_undecodable();
    given(AccountsV4)
        .event(1, Opened("EUR"))
        .event(1, DepositReversed { cents: 5, of: 0 })
        .then_undecodable();
    given(AccountsV4)
        .event(1, ("Deposited", "{\"cents\":"))
        .then_undecodable();
}

#[test]
fn reading_any_part_of_the_log_again_changes_nothing() {
    two_accounts(AccountsV3)
        .then_replay_safe()
        .then_deterministic();
    two_accounts(AccountsV4)
        .then_replay_safe()
        .then_deterministic();
}

#[test]
fn both_wire_forms_fold_to_the_same_rows() {
    two_accounts(AccountsV3).then_forms_agree();
    two_accounts(AccountsV4).then_forms_agree();
}

#[test]
fn the_tables_have_these_columns() {
    let columns = |columns: &[refold_projection::Column]| -> Vec<String> {
        columns
            .iter()
            .map(|c| {
                let null = if c.nullable { " null" } else { "" };
                format!("{} {}{null} {:?}", c.name, c.ty.sql(), c.compare)
            })
            .collect()
    };
    assert_eq!(
        columns(AccountV3::COLUMNS),
        ["balance bigint Same", "status text Same"]
    );
    assert_eq!(
        columns(AccountV4::COLUMNS),
        [
            "balance bigint Differs",
            "status text Same",
            "largest_deposit bigint New",
            "deposits_count bigint New",
            "reversed_total bigint New",
            "opened_at timestamptz New",
            "closed_at timestamptz null New",
            "currency text New",
        ]
    );
}

#[test]
fn versions_with_other_code_have_other_fingerprints() {
    assert_ne!(AccountsV3::CODE, AccountsV4::CODE);
}
