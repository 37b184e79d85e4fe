//! Standing still while the throttle holds the rebuild, or while it is the reads' turn.

use refold_domain::observe::Stage;
use tokio::time::Instant;

use super::load::LISTEN_EVERY;
use super::state::ProjectorState;

impl ProjectorState {
    /// Waits until the rebuild may begin something again, a tenth of a second at most.
    pub(super) async fn leave_time_to_reads(&mut self) {
        let wait = self.shared.pace.closed_for();
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
            self.busy(Stage::Throttled, wait);
        }
    }

    /// Waits for the throttle, for no longer than other messages may wait; whether it still holds
    /// the rebuild. To be asked with no transaction open, and again in the next turn.
    pub(super) async fn is_held(&mut self) -> bool {
        let held = self.shared.pace.held();
        if !held.is_any() {
            return false;
        }
        let reason = Some(format!("throttled: {held}"));
        self.observe(|o| o.reason.clone_from(&reason));
        let started = Instant::now();
        let free = self.shared.pace.is_free_within(LISTEN_EVERY).await;
        self.busy(Stage::Throttled, started.elapsed());
        if free {
            self.observe(|o| o.reason = None);
        }
        !free
    }
}
