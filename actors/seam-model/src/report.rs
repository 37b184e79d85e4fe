//! Exploring the model, and what came of it.

use std::time::Duration;
use std::time::Instant;

use stateright::Checker;
use stateright::Expectation;
use stateright::HasDiscoveries;
use stateright::Model;

use crate::model::Seam;

/// What an exploration found.
#[derive(Debug, Clone)]
pub struct Explored {
    /// Different states.
    pub unique_states: usize,
    /// States with repetitions: the steps that were taken.
    pub steps: usize,
    /// Steps of the longest behaviour that was followed.
    pub depth: usize,
    /// Wall clock.
    pub took: Duration,
    /// Properties that do not hold, each with the steps that break it.
    pub broken: Vec<(&'static str, Vec<String>)>,
    /// What should be reachable and was not found.
    pub unreached: Vec<&'static str>,
}

impl Explored {
    /// The property that shows that something is missing: the first that broke, or else
    /// `wanted` if it was never reached.
    pub fn shows(&self, wanted: &str) -> Option<&'static str> {
        let broken = self.broken.first().map(|(name, _)| *name);
        broken.or_else(|| self.unreached.iter().copied().find(|name| *name == wanted))
    }

    /// Whether everything holds and everything that gives it meaning was reached.
    pub fn is_sound(&self) -> bool {
        self.broken.is_empty() && self.unreached.is_empty()
    }
}

/// Explores the seam on `threads` threads: every state within its bounds when it is whole, up
/// to the first broken property when a rule is missing.
pub fn explore(seam: Seam, threads: usize) -> Explored {
    let began = Instant::now();
    let until = match seam.mutation {
        None => HasDiscoveries::All,
        Some(_) => HasDiscoveries::AnyFailures,
    };
    let checker = seam
        .checker()
        .threads(threads)
        .finish_when(until)
        .spawn_bfs()
        .join();
    let mut broken = Vec::new();
    let mut unreached = Vec::new();
    for property in seam.properties() {
        let found = checker.discovery(property.name);
        match (&property.expectation, found) {
            (Expectation::Sometimes, None) => unreached.push(property.name),
            (Expectation::Always, Some(path)) => {
                let actions = path.into_actions();
                let steps = actions.iter().map(|action| format!("{action:?}"));
                broken.push((property.name, steps.collect()));
            }
            _ => {}
        }
    }
    Explored {
        unique_states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        took: began.elapsed(),
        broken,
        unreached,
    }
}
