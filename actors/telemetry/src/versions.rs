//! The registry's versions as an observable instrument.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use refold_domain::version::VersionState;

use crate::names;

/// One version: projection, label, state.
type Entry = (String, String, VersionState);

/// The versions as they were last read from the registry. Cheap to clone; all
/// clones show the same.
#[derive(Debug, Clone, Default)]
pub struct VersionStates(Arc<Mutex<Vec<Entry>>>);

impl VersionStates {
    /// Nothing read yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces what is shown: projection, label and state of every version.
    pub fn set(&self, versions: Vec<Entry>) {
        // A plain value: a panic elsewhere cannot leave it half-written.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = versions;
    }

    fn all(&self) -> Vec<Entry> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

pub(crate) fn observe(meter: &Meter, states: &VersionStates) {
    let states = states.clone();
    meter
        .u64_observable_gauge(names::VERSION_STATE.instrument())
        .with_description(names::VERSION_STATE.meaning)
        .with_callback(move |observer| {
            for (projection, label, state) in states.all() {
                for possible in VersionState::ALL {
                    let labels = [
                        KeyValue::new("projection", projection.clone()),
                        KeyValue::new("version", label.clone()),
                        KeyValue::new("state", possible.word()),
                    ];
                    observer.observe(u64::from(possible == state), &labels);
                }
            }
        })
        .build();
}
