//! The barrier actor: one order per projection at a time.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use ractor::Actor;
use ractor::ActorProcessingErr;
use ractor::ActorRef;
use ractor::RpcReplyPort;
use ractor::SpawnErr;
use refold_domain::spec::ProjectionSpec;
use refold_ports::Registry;
use refold_ports::registry::Promotion;
use refold_ports::registry::RegistryError;
use tokio::sync::Mutex;

use super::drive::PromotionOrder;
use super::drive::drive;

/// The barrier actor cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("the barrier actor cannot be started: {0}")]
pub struct BarrierError(#[from] SpawnErr);

enum BarrierMsg {
    /// Drive this order and answer.
    Promote(
        Box<PromotionOrder>,
        RpcReplyPort<Result<Promotion, RegistryError>>,
    ),
}

struct Barrier;

struct BarrierArgs {
    registry: Arc<dyn Registry>,
    specs: Vec<ProjectionSpec>,
}

struct BarrierState {
    registry: Arc<dyn Registry>,
    specs: Arc<[ProjectionSpec]>,
    /// One turn per projection name. There are as many as names are linked in.
    turns: HashMap<&'static str, Arc<Mutex<()>>>,
}

impl Actor for Barrier {
    type Msg = BarrierMsg;
    type State = BarrierState;
    type Arguments = BarrierArgs;

    async fn pre_start(
        &self,
        _myself: ActorRef<BarrierMsg>,
        args: BarrierArgs,
    ) -> Result<BarrierState, ActorProcessingErr> {
        let names = args.specs.iter().map(|spec| spec.name);
        Ok(BarrierState {
            turns: names.map(|name| (name, Arc::default())).collect(),
            registry: args.registry,
            specs: args.specs.into(),
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<BarrierMsg>,
        message: BarrierMsg,
        state: &mut BarrierState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            BarrierMsg::Promote(order, reply) => state.begin(order, reply),
        }
        Ok(())
    }
}

impl BarrierState {
    /// Drives the order beside the mailbox, so that an order for another
    /// projection does not wait for this one's deadline.
    fn begin(
        &self,
        order: Box<PromotionOrder>,
        reply: RpcReplyPort<Result<Promotion, RegistryError>>,
    ) {
        let registry = Arc::clone(&self.registry);
        let specs = Arc::clone(&self.specs);
        let name = specs.iter().find(|spec| spec.label() == order.label);
        let turn = name.and_then(|spec| self.turns.get(spec.name)).cloned();
        tokio::spawn(async move {
            let _turn = match &turn {
                Some(turn) => Some(turn.lock().await),
                // A label that is not linked in is refused before it changes anything.
                None => None,
            };
            let answer = drive(registry.as_ref(), &specs, &order).await;
            // Nobody may be listening any more; the registry knows what happened.
            let _ = reply.send(answer);
        });
    }
}

/// A handle to the barrier actor. Cheap to clone.
#[derive(Clone)]
pub struct BarrierRef(ActorRef<BarrierMsg>);

impl BarrierRef {
    /// Starts the actor. `specs` are the projections that are linked into this binary.
    ///
    /// # Errors
    /// [`BarrierError`].
    pub async fn spawn(
        registry: Arc<dyn Registry>,
        specs: Vec<ProjectionSpec>,
    ) -> Result<Self, BarrierError> {
        let args = BarrierArgs { registry, specs };
        let (actor, _) = Barrier::spawn(None, Barrier, args).await?;
        Ok(Self(actor))
    }

    /// Drives an order, after those before it for the same projection. An order
    /// that was begun goes on when the caller goes away.
    ///
    /// # Errors
    /// As [`drive`]; [`RegistryError::Failed`] when the actor was stopped.
    pub async fn promote(&self, order: PromotionOrder) -> Result<Promotion, RegistryError> {
        let order = Box::new(order);
        let called = self.0.call(|reply| BarrierMsg::Promote(order, reply), None);
        let stopped = || RegistryError::Failed("the barrier actor was stopped".to_owned());
        match called.await {
            Ok(ractor::rpc::CallResult::Success(answer)) => answer,
            Ok(_) | Err(_) => Err(stopped()),
        }
    }

    /// Stops the actor. Orders that were begun go on.
    pub fn stop(&self) {
        self.0.stop(None);
    }
}

impl fmt::Debug for BarrierRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BarrierRef").field(&self.0.get_id()).finish()
    }
}
