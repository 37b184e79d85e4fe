//! The projector: one actor per (version, partition), owner of its mark.
//!
//! ```text
//! Starting --take-over--> Admitted? --> Folding --> Loading --.
//!     ^                                                        v
//!     '---- connection lost, outcome unknown ---------------- Applying --> ended
//! ```
//! It pulls: one `Pull` is one turn, and the next is cast when the turn is over,
//! so that drains and other messages get in between and nothing piles up. All
//! that is durable is in the store; an actor that dies loses nothing but time.

mod apply;
mod hold;
mod load;
mod msg;
mod pending;
mod start;
mod state;

pub(crate) use msg::Ending;
pub(crate) use msg::ProjectorArgs;
pub(crate) use msg::ProjectorMsg;
use ractor::Actor;
use ractor::ActorProcessingErr;
use ractor::ActorRef;
pub(crate) use state::ProjectorState;

use self::state::Next;

/// The actor; everything that changes is in [`ProjectorState`].
pub(crate) struct Projector;

impl Actor for Projector {
    type Msg = ProjectorMsg;
    type State = ProjectorState;
    type Arguments = ProjectorArgs;

    // No input or output here: an error in it would reach the spawner only.
    async fn pre_start(
        &self,
        myself: ActorRef<ProjectorMsg>,
        args: ProjectorArgs,
    ) -> Result<ProjectorState, ActorProcessingErr> {
        myself.cast(ProjectorMsg::Pull)?;
        Ok(ProjectorState::new(args))
    }

    async fn handle(
        &self,
        myself: ActorRef<ProjectorMsg>,
        message: ProjectorMsg,
        state: &mut ProjectorState,
    ) -> Result<(), ActorProcessingErr> {
        let next = match message {
            ProjectorMsg::Pull => state.turn().await?,
            ProjectorMsg::Drain => state.drain(),
            ProjectorMsg::EpochSeen(epoch) => state.see_epoch(epoch),
        };
        match next {
            Next::Pull => myself.cast(ProjectorMsg::Pull)?,
            Next::PullAfter(wait) => {
                // The timer ends by itself when the actor is gone.
                myself.send_after(wait, || ProjectorMsg::Pull);
            }
            Next::AsBefore => {}
            Next::Stop => myself.stop(None),
        }
        Ok(())
    }
}
