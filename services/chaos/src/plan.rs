//! The order of the faults: drawn in rounds, so that no kind of a long run stays rare.

use std::time::Duration;

use fastrand::Rng;

use crate::kind::Kind;
use crate::kind::Victim;
use crate::scenario::Fault;
use crate::scenario::Scenario;
use crate::scenario::Version;

/// The part of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The new version is built.
    Build,
    /// Both versions follow the log.
    Live,
}

impl Phase {
    /// Its word in reports.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Live => "live",
        }
    }
}

/// A fault that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pick {
    /// What happens.
    pub kind: Kind,
    /// Whose projector is hit; `None` for what both versions share.
    pub target: Option<Version>,
    /// How long it lasts; zero for what is over when it is done.
    pub lasts: Duration,
    /// Decides the rest: the point of a batch, the strength.
    pub dice: u64,
    /// How long to wait before it.
    pub pause: Duration,
}

/// The faults of a run, one after the other.
#[derive(Debug)]
pub struct Plan {
    scenario: Scenario,
    rng: Rng,
    /// What is left of the round, by phase.
    rounds: [Vec<Fault>; 2],
}

impl Plan {
    /// The faults of a scenario: the same for the same scenario.
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            scenario: scenario.clone(),
            rng: Rng::with_seed(scenario.seed),
            rounds: [Vec::new(), Vec::new()],
        }
    }

    /// The next fault of a phase; `None` when none of the scenario's faults fits it.
    pub fn next(&mut self, phase: Phase) -> Option<Pick> {
        let round = &mut self.rounds[phase as usize];
        if round.is_empty() {
            let fits = |fault: &&Fault| phase == Phase::Live || fault.kind.fits_a_build();
            for fault in self.scenario.mix.iter().filter(fits) {
                round.extend((0..fault.weight).map(|_| fault.clone()));
            }
            self.rng.shuffle(round);
        }
        let fault = round.pop()?;
        Some(self.draw(&fault))
    }

    fn draw(&mut self, fault: &Fault) -> Pick {
        let drawn = match self.rng.bool() {
            true => Version::Live,
            false => Version::New,
        };
        let hits_one = fault.kind.victim() == Victim::Projector;
        Pick {
            kind: fault.kind,
            target: hits_one.then_some(fault.target.unwrap_or(drawn)),
            lasts: self.millis(fault.span_ms()),
            dice: self.rng.u64(..),
            pause: self.millis(self.scenario.pause_ms),
        }
    }

    fn millis(&mut self, [least, most]: [u64; 2]) -> Duration {
        Duration::from_millis(self.rng.u64(least..=most.max(least)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn scenario(seed: u64) -> Scenario {
        let kinds = ["projector-kill", "kafka-blackhole", "switch", "actor-panic"];
        let faults = kinds.map(|kind| format!("[[fault]]\nkind = \"{kind}\"\nweight = 2\n"));
        let text = format!(
            "seed = {seed}\nevents = 100_000\naggregates = 10_000\npartitions = 4\nrate = 5_000\n\
             reads = 100\nbuild-rate = 50_000\nfaults = 10\n{}",
            faults.join("")
        );
        Scenario::parse(&text).expect("a scenario")
    }

    #[test]
    fn every_kind_has_its_turn_in_each_round_and_the_seed_decides_the_order() {
        let picks = |seed| -> Vec<Pick> {
            let mut plan = Plan::new(&scenario(seed));
            (0..80).filter_map(|_| plan.next(Phase::Live)).collect()
        };
        let one = picks(1);
        let mut counts: BTreeMap<Kind, u32> = BTreeMap::new();
        one.iter()
            .for_each(|pick| *counts.entry(pick.kind).or_default() += 1);
        assert_eq!(counts.values().copied().collect::<Vec<_>>(), [20; 4]);
        assert_eq!(one, picks(1));
        assert_ne!(one, picks(2));
        let kills = one.iter().filter(|pick| pick.kind == Kind::ProjectorKill);
        let live = kills
            .filter(|pick| pick.target == Some(Version::Live))
            .count();
        assert!((1..20).contains(&live), "both versions are hit: {live}");
        let holes = one.iter().filter(|pick| pick.kind == Kind::KafkaBlackhole);
        for hole in holes {
            assert!((500..=3_000).contains(&hole.lasts.as_millis()));
            assert_eq!(hole.target, None);
        }
    }

    #[test]
    fn a_build_meets_no_switch() {
        let mut plan = Plan::new(&scenario(3));
        let all = (0..40).filter_map(|_| plan.next(Phase::Build));
        assert!(all.into_iter().all(|pick| pick.kind != Kind::Switch));
    }
}
