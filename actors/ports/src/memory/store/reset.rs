//! A build that came to nothing is built again.

use refold_domain::position::Offset;
use refold_domain::sums::Sums;
use refold_domain::version::VersionState;

use crate::registry::RegistryError;
use crate::registry::ResetRequest;

use super::state::Mark;
use super::state::State;

impl State {
    pub(super) fn reset(&mut self, request: &ResetRequest) -> Result<(), RegistryError> {
        let (version, spec) = (request.version, &request.spec);
        let row = self.row(version)?;
        if !row.state.may_be_aborted() {
            return Err(RegistryError::Conflict(format!(
                "{} is {}; only a build that never served is reset",
                row.label, row.state
            )));
        }
        if row.label != spec.label() {
            let sentence = format!("{} is no code for {}", spec.label(), row.label);
            return Err(RegistryError::Conflict(sentence));
        }
        let was = row.state;
        row.code_hash = spec.code_hash();
        row.note = Some(request.reason.clone());
        if was != VersionState::Failed {
            self.step(version, VersionState::Failed)?;
        }
        self.step(version, VersionState::Building)?;
        if let Some(again) = self.versions.get_mut(&version) {
            again.spec = spec.clone();
        }
        let marks = self.marks.iter_mut().filter(|((of, _), _)| *of == version);
        for (_, mark) in marks {
            *mark = Mark {
                epoch: mark.epoch + 1,
                begun: false,
                ..Mark::at(Offset(0), Sums::zero(&spec.sum_layout()))
            };
        }
        let barriers = self.barriers.values_mut();
        for barrier in barriers.filter(|barrier| barrier.concerns(version)) {
            barrier.waiting = false;
        }
        let (actor, reason) = (&request.actor, &request.reason);
        self.audit
            .push(format!("{actor} reset version {version}: {reason}"));
        Ok(())
    }
}
