//! Seeds that every change simulates, and the proof that a seed decides everything.

use refold_ports::memory::store::Omission;
use refold_simulation::Branch;
use refold_simulation::Mutation;
use refold_simulation::find_mutation;
use refold_simulation::run_seeds;
use refold_simulation::simulate;
use tokio::runtime::Builder;
use tokio::runtime::Runtime;

/// Seeds of every change.
const SEEDS: u64 = 50;

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[test]
fn a_seed_gives_the_same_history_every_time_and_another_seed_another_one() {
    let mut hashes = std::collections::BTreeSet::new();
    for seed in 0..10 {
        let one = simulate(runtime, seed, None, false).expect("a runtime");
        // On another thread, whose random state is another one.
        let two = std::thread::spawn(move || simulate(runtime, seed, None, false));
        let two = two.join().expect("a thread").expect("a runtime");
        assert!(one.steps > 100, "{} steps", one.steps);
        assert_eq!(one, two, "seed {seed}");
        hashes.insert(one.hash);
    }
    assert_eq!(hashes.len(), 10);
}

#[test]
fn fifty_seeds_of_faults_find_nothing_and_take_the_common_branches() {
    let campaign = run_seeds(runtime, (0, SEEDS), threads()).expect("a runtime");
    let found: Vec<_> = campaign
        .failures
        .iter()
        .map(|failure| (failure.seed, &failure.findings))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!(campaign.seeds, SEEDS);
    assert!(campaign.faults > 20 * SEEDS, "{} faults", campaign.faults);
    let common = [
        Branch::BatchFenced,
        Branch::UnknownOutcomeIn,
        Branch::UnknownOutcomeOut,
        Branch::LateCommitRefused,
        Branch::Checkpoint,
        Branch::Promoted,
        Branch::RolledBack,
        Branch::WrongFoldRefused,
        Branch::ProcessKilled,
        Branch::ZombieEnded,
    ];
    for branch in common {
        assert!(campaign.branches.of(branch) > 0, "never: {}", branch.name());
    }
}

#[test]
fn planted_bugs_are_found() {
    let quick = [
        Mutation::RollbackIsCommit,
        Mutation::LostIsRetry,
        Mutation::StaleSums,
        Mutation::SkipAfterError,
        // An operator has to act between the proof and the switch.
        Mutation::Store(Omission::Recheck),
    ];
    for mutation in quick {
        let found = find_mutation(runtime, mutation, 200).expect("a runtime");
        let found = found.unwrap_or_else(|| panic!("{} is not found", mutation.name()));
        // The same seed without the bug finds nothing.
        let without = simulate(runtime, found.seed, None, false).expect("a runtime");
        assert!(without.findings.is_empty(), "{:?}", without.findings);
    }
}
