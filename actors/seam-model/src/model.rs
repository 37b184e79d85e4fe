//! The model: its first state and what may happen next.

use refold_domain::version::VersionState;
use stateright::Model;
use stateright::Property;

use crate::bounds::Bounds;
use crate::log::PARTITIONS;
use crate::log::last_position;
use crate::log::once_below;
use crate::mutation::Mutation;
use crate::properties;
use crate::state::Database;
use crate::state::Mark;
use crate::state::Seen;
use crate::state::Spent;
use crate::state::State;
use crate::state::VERSIONS;
use crate::state::Version;
use crate::state::Worker;
use crate::step::Action;

/// The seam within bounds, whole or with one rule left out.
#[derive(Debug, Clone, Copy)]
pub struct Seam {
    /// How far it is explored.
    pub bounds: Bounds,
    /// The rule that is left out.
    pub mutation: Option<Mutation>,
}

impl Seam {
    /// The seam with all its rules.
    pub const fn whole(bounds: Bounds) -> Self {
        Self {
            bounds,
            mutation: None,
        }
    }

    /// The seam without one.
    pub const fn without(mutation: Mutation, bounds: Bounds) -> Self {
        Self {
            bounds,
            mutation: Some(mutation),
        }
    }

    pub(crate) fn lacks(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    fn first(&self) -> State {
        let built = |partition: usize| Mark {
            epoch: 1,
            next: last_position(partition, false),
            has_leaf: true,
            rows: once_below(partition, last_position(partition, false)),
            reached_end: true,
            ..Mark::default()
        };
        let worker = |partition: usize| Worker {
            epoch: 1,
            next: last_position(partition, false),
            has_leaf: true,
            code: 0,
            waits: false,
        };
        let row = |state| Version { state, code: 0 };
        let mut marks = [[Mark::default(); PARTITIONS]; VERSIONS];
        let mut workers = [[None; PARTITIONS]; VERSIONS];
        let there = if self.bounds.ready { VERSIONS } else { 1 };
        for (marks, workers) in marks.iter_mut().zip(&mut workers).take(there) {
            *marks = std::array::from_fn(built);
            *workers = std::array::from_fn(|p| Some(worker(p)));
        }
        let candidate = match self.bounds.ready {
            true => VersionState::Ready,
            false => VersionState::Building,
        };
        State {
            db: Database {
                versions: [row(VersionState::Active), row(candidate)],
                active: 0,
                marks,
                barrier: None,
                switched_at: [0; PARTITIONS],
                generation: 0,
            },
            standby: None,
            grown: false,
            workers,
            messages: Vec::new(),
            registry: Vec::new(),
            choosing: None,
            reader: None,
            spent: Spent::default(),
            seen: Seen::default(),
        }
    }
}

impl Model for Seam {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.first()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.possible(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        self.take(&mut state, action).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(&self.bounds)
    }
}
