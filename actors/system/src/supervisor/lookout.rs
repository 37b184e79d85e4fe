//! The lookout: asks now and then where the logs end and who owns the
//! partitions, beside the projectors, so that it never holds them up.

use std::time::SystemTime;

use ractor::ActorRef;
use refold_domain::position::Partition;
use refold_domain::version::VersionState;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::msg::SupervisorMsg;
use crate::context::Shared;

/// A running lookout; it ends when this is dropped.
pub(super) struct Lookout(JoinHandle<()>);

impl Lookout {
    pub(super) fn spawn(
        shared: Shared,
        partitions: watch::Receiver<Vec<Partition>>,
        supervisor: ActorRef<SupervisorMsg>,
    ) -> Self {
        Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(shared.options.lookout_every).await;
                if let Some(epochs) = read_epochs(&shared).await
                    && supervisor.cast(SupervisorMsg::Epochs(epochs)).is_err()
                {
                    return;
                }
                if let Some(why) = not_projected(&shared).await
                    && supervisor.cast(SupervisorMsg::NotProjected(why)).is_err()
                {
                    return;
                }
                let now = partitions.borrow().clone();
                measure_ends(&shared, &now).await;
            }
        }))
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why nothing is projected into the version any more. A projector that has nothing to write
/// would not meet the fence.
async fn not_projected(shared: &Shared) -> Option<String> {
    let versions = match shared.plugs.registry.versions().await {
        Ok(versions) => versions,
        Err(error) => {
            tracing::debug!(%error, "read the version's state");
            return None;
        }
    };
    let version = versions.into_iter().find(|v| v.id == shared.version)?;
    if version.state.is_projected() {
        return None;
    }
    let sentence = format!("{} is {} and not projected", version.label, version.state);
    Some(match version.note {
        Some(note) if version.state == VersionState::Failed => format!("{sentence}: {note}"),
        _ => sentence,
    })
}

async fn measure_ends(shared: &Shared, partitions: &[Partition]) {
    for partition in partitions {
        match shared.plugs.source.watermarks(*partition).await {
            Ok(log) => shared.board.update(&shared.actor_id(*partition), |o| {
                o.end = o.next.max(log.high);
                o.end_measured = Some(SystemTime::now());
                o.asked_end = Some(log.high);
            }),
            // The measured time on the board shows how old the end is. A log that is
            // away answers for no partition, and each question takes its deadline.
            Err(error) => {
                tracing::debug!(%partition, %error, "ask end of log");
                shared.board.update_all(|o| o.asked_end = None);
                return;
            }
        }
    }
}

async fn read_epochs(shared: &Shared) -> Option<Vec<(Partition, i64)>> {
    match shared.plugs.registry.marks(shared.version).await {
        Ok(marks) => Some(marks.iter().map(|m| (m.partition, m.epoch)).collect()),
        Err(error) => {
            tracing::debug!(%error, "read epochs");
            None
        }
    }
}
