//! The supervisor: starts a process's projectors, restarts those that fail, and
//! says how the process is.

mod lookout;
mod msg;
mod state;

pub use msg::Status;
pub(crate) use msg::SupervisorArgs;
pub(crate) use msg::SupervisorMsg;
use ractor::Actor;
use ractor::ActorProcessingErr;
use ractor::ActorRef;
use ractor::SupervisionEvent;

use self::state::SupervisorState;

/// The actor; everything that changes is in [`SupervisorState`].
pub(crate) struct Supervisor;

impl Actor for Supervisor {
    type Msg = SupervisorMsg;
    type State = SupervisorState;
    type Arguments = SupervisorArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<SupervisorMsg>,
        args: SupervisorArgs,
    ) -> Result<SupervisorState, ActorProcessingErr> {
        for partition in &args.order {
            myself.cast(SupervisorMsg::Start(*partition))?;
        }
        Ok(SupervisorState::new(myself, args))
    }

    async fn handle(
        &self,
        _myself: ActorRef<SupervisorMsg>,
        message: SupervisorMsg,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMsg::Start(partition) => state.start(partition).await,
            SupervisorMsg::Assigned(order) => state.assign(&order),
            SupervisorMsg::ReachedEnd(partition) => state.reached_end(partition),
            SupervisorMsg::Epochs(epochs) => state.pass_epochs_on(&epochs),
            SupervisorMsg::NotProjected(why) => state.refuse(why),
            SupervisorMsg::Drain => state.drain(),
            SupervisorMsg::DrainExpired => state.end_drain(),
        }
        Ok(())
    }

    // The default would stop the supervisor with its first child.
    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<SupervisorMsg>,
        event: SupervisionEvent,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(who, why) => state.failed(who.get_id(), &why.to_string()),
            SupervisionEvent::ActorTerminated(who, last, why) => {
                state.terminated(who.get_id(), last, why);
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}
