//! The seam within small bounds, and every mutation of it.

use refold_seam_model::Bounds;
use refold_seam_model::Explored;
use refold_seam_model::Mutation;
use refold_seam_model::Seam;
use refold_seam_model::explore;

fn hold(bounds: Bounds, at_least: usize) {
    let explored = explore(Seam::whole(bounds), 2);
    println!(
        "{} states, depth {}",
        explored.unique_states, explored.depth
    );
    let Explored {
        broken, unreached, ..
    } = &explored;
    assert!(explored.is_sound(), "{broken:#?} {unreached:?}");
    assert!(
        explored.unique_states >= at_least,
        "{explored:?} explores less than it did"
    );
}

#[test]
fn the_seam_holds_while_a_candidate_is_built_reset_and_taken_over() {
    hold(Bounds::BUILD, 500_000);
}

#[test]
fn the_seam_holds_through_switch_reset_retire_and_drop() {
    hold(Bounds::SWITCH, 1_100_000);
}

#[test]
fn the_seam_holds_on_the_way_to_the_candidate_and_back() {
    hold(Bounds::ROLLBACK, 400_000);
}

#[test]
fn the_seam_holds_when_a_candidates_fold_is_wrong() {
    hold(Bounds::DOUBT, 400_000);
}

#[test]
fn the_seam_holds_when_a_standby_that_missed_commits_takes_over() {
    hold(Bounds::FAILOVER, 160_000);
}

#[test]
fn every_rule_that_is_left_out_breaks_the_property_that_it_upholds() {
    for mutation in Mutation::ALL {
        let explored = explore(Seam::without(mutation, mutation.bounds()), 2);
        let found = explored.shows(mutation.upholds());
        println!(
            "{mutation:?}: {found:?} after {} states",
            explored.unique_states
        );
        assert_eq!(
            found,
            Some(mutation.upholds()),
            "{mutation:?}: {explored:#?}"
        );
    }
}
