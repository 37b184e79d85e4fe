//! A process's place in a group that shares the partitions out.

use std::collections::BTreeSet;
use std::sync::Arc;

use ractor::ActorRef;
use refold_domain::position::Partition;
use refold_ports::membership::Group;
use refold_ports::membership::Membership;
use refold_ports::source::SourceError;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::context::Shared;
use crate::outcome::Failure;
use crate::run::largest_first;
use crate::supervisor::SupervisorMsg;

/// Passes the group's word on to the supervisor until it leaves.
pub(crate) struct Member {
    leave: oneshot::Sender<()>,
    follower: JoinHandle<()>,
}

impl Member {
    /// Joins the group; what it assigns goes to `supervisor`.
    pub(crate) async fn join(
        group: Arc<dyn Group>,
        shared: &Shared,
        supervisor: &ActorRef<SupervisorMsg>,
    ) -> Result<Self, Failure> {
        let membership = enter(&group).await.map_err(|error| Failure::Broken {
            partition: None,
            reason: error.to_string(),
        })?;
        let (leave, left) = oneshot::channel();
        let follower = Follower {
            group,
            shared: shared.clone(),
            supervisor: supervisor.clone(),
            known: BTreeSet::new(),
        };
        let follower = tokio::spawn(follower.follow(membership, left));
        Ok(Self { leave, follower })
    }

    /// Leaves the group and waits until it has heard so.
    pub(crate) async fn leave(self) {
        // A follower that ended has left.
        let _ = self.leave.send(());
        let _ = self.follower.await;
    }
}

/// Joins the group; its client is set up on a thread that may block.
async fn enter(group: &Arc<dyn Group>) -> Result<Box<dyn Membership>, SourceError> {
    let group = Arc::clone(group);
    let joined = tokio::task::spawn_blocking(move || group.join()).await;
    joined.unwrap_or_else(|error| Err(SourceError::Fatal(error.to_string())))
}

struct Follower {
    group: Arc<dyn Group>,
    shared: Shared,
    supervisor: ActorRef<SupervisorMsg>,
    /// What the group said last.
    known: BTreeSet<Partition>,
}

impl Follower {
    async fn follow(mut self, membership: Box<dyn Membership>, mut left: oneshot::Receiver<()>) {
        let mut membership = membership;
        loop {
            let assigned = tokio::select! {
                // Also when the process is given up: nobody holds the other end then.
                _ = &mut left => break,
                assigned = membership.changed() => assigned,
            };
            match assigned {
                Ok(assigned) => self.pass_on(assigned).await,
                Err(error) if error.is_transient() => {
                    let label = &self.shared.label;
                    tracing::warn!(version = label, %error, "the group is joined again");
                    match enter(&self.group).await {
                        Ok(again) => membership = again,
                        Err(error) => return self.lost(&error),
                    }
                }
                Err(error) => return self.lost(&error),
            }
        }
        // Leaving blocks until the group has heard of it.
        let gone = tokio::task::spawn_blocking(move || drop(membership));
        let _ = gone.await;
    }

    async fn pass_on(&mut self, assigned: BTreeSet<Partition>) {
        let new: Vec<_> = assigned.difference(&self.known).copied().collect();
        let mut order: Vec<_> = assigned.intersection(&self.known).copied().collect();
        match largest_first(&self.shared, &new).await {
            Ok(sized) => order.extend(sized),
            // The order is a matter of speed, and each projector asks again for itself.
            Err(error) => {
                tracing::debug!(%error, "size up what was assigned");
                order.extend(new);
            }
        }
        self.known = assigned;
        // A supervisor that is gone projects nothing.
        let _ = self.supervisor.cast(SupervisorMsg::Assigned(order));
    }

    /// Without a word from the group nothing more is taken on, and nothing is let go: the fence
    /// ends what another process takes over.
    fn lost(&self, error: &SourceError) {
        tracing::error!(version = self.shared.label, %error, "the group is not heard any more");
    }
}
