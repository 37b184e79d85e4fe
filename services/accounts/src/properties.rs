//! Properties of the versions over arbitrary histories.

use proptest::prelude::*;

use refold_projection::harness::{arb_script, given};

use crate::write_side::{Event, arb_history};
use crate::{AccountsV3, AccountsV3Rebuilt, AccountsV4};

fn arb_log() -> impl Strategy<Value = Vec<(i64, Event)>> {
    arb_script(vec![1, 2, i64::MAX], arb_history(12))
}

/// The balance by plain arithmetic over the whole history.
fn balance<'a>(history: impl IntoIterator<Item = &'a Event>) -> i64 {
    history
        .into_iter()
        .map(|event| match event {
            Event::Deposited(cents) | Event::WithdrawalReversed { cents, .. } => *cents,
            Event::Withdrawn(cents)
            | Event::DepositReversed { cents, .. }
            | Event::Closed(cents) => -cents,
            _ => 0,
        })
        .sum()
}

proptest! {
    // A failure prints its smallest case; files beside the tests would also be
    // written by the build that is meant to fail.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_cut_and_overlap_of_any_log_changes_nothing(log in arb_log()) {
        given(AccountsV3).events(log.clone()).then_replay_safe();
        given(AccountsV4).events(log).then_replay_safe().then_deterministic();
    }

    #[test]
    fn both_forms_of_any_log_fold_to_the_same_rows(log in arb_log()) {
        given(AccountsV4).events(log).then_forms_agree();
    }

    #[test]
    fn the_versions_agree_on_any_log_where_they_say_so(log in arb_log()) {
        given(AccountsV4).events(log.clone()).then_agrees_with(AccountsV3);
        given(AccountsV3Rebuilt).events(log).then_agrees_with(AccountsV3);
    }

    #[test]
    fn version_3_is_off_by_twice_the_reversed_withdrawals(history in arb_history(30)) {
        let reversed: i64 = history
            .iter()
            .map(|event| match event {
                Event::WithdrawalReversed { cents, .. } => *cents,
                _ => 0,
            })
            .sum();
        let log: Vec<(i64, Event)> = history.iter().map(|event| (1, event.clone())).collect();
        let v3 = given(AccountsV3).events(log.clone()).into_script().rows();
        let v4 = given(AccountsV4).events(log).into_script().rows();
        let (v3, v4) = (v3.expect("it folds")[&1].balance, v4.expect("it folds")[&1].balance);
        prop_assert_eq!(v4, balance(&history));
        prop_assert_eq!(v4 - v3, 2 * reversed);
    }
}
