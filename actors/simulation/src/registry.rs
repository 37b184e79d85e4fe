//! The registry and the reads at the end of a way.

use std::time::Duration;

use async_trait::async_trait;
use refold_domain::cutover::Forced;
use refold_domain::log::TopicIdentity;
use refold_domain::spec::ProjectionSpec;
use refold_domain::version::VersionId;
use refold_domain::version::VersionState;
use refold_ports::Registry;
use refold_ports::memory::store::MemoryStore;
use refold_ports::registry::Activation;
use refold_ports::registry::ActiveRow;
use refold_ports::registry::BarrierProgress;
use refold_ports::registry::BarrierProof;
use refold_ports::registry::BarrierRow;
use refold_ports::registry::MarkRow;
use refold_ports::registry::PromoteRequest;
use refold_ports::registry::Promotion;
use refold_ports::registry::ReadAnswer;
use refold_ports::registry::ReadError;
use refold_ports::registry::ReadModel as _;
use refold_ports::registry::RegistryError;
use refold_ports::registry::ResetRequest;
use refold_ports::registry::RetireRequest;
use refold_ports::registry::VersionRow;

use crate::branch::Branch;
use crate::ledger;
use crate::mutation::Mutation;
use crate::network::Fate;
use crate::network::Process;
use crate::network::call;
use crate::switch;
use crate::world::World;
use crate::world::pass;

/// The registry as one process, or an operator, sees it.
#[derive(Clone)]
pub(crate) struct SimRegistry {
    pub(crate) world: World,
    pub(crate) process: Process,
}

impl SimRegistry {
    async fn ask<T, F>(&self, op: impl FnOnce(World, MemoryStore) -> F) -> Result<T, RegistryError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, RegistryError>> + Send + 'static,
    {
        self.ask_as(Fate::of_call(&self.world), op).await
    }

    async fn ask_as<T, F>(
        &self,
        fate: Fate,
        op: impl FnOnce(World, MemoryStore) -> F,
    ) -> Result<T, RegistryError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, RegistryError>> + Send + 'static,
    {
        let op = op(self.world.clone(), self.world.store.clone());
        let answer = call(&self.world, &self.process, fate, op).await;
        let gone = || RegistryError::Unreachable("no answer from the registry".to_owned());
        answer.unwrap_or_else(|| Err(gone()))
    }
}

#[async_trait]
impl Registry for SimRegistry {
    async fn register(
        &self,
        spec: &ProjectionSpec,
        log: &TopicIdentity,
    ) -> Result<VersionRow, RegistryError> {
        let (spec, log) = (spec.clone(), log.clone());
        self.ask(|world, store| async move {
            let row = store.register(&spec, &log).await?;
            let number = ledger::number_of(&row.label);
            world.seen().numbers.insert(row.id, number);
            Ok(row)
        })
        .await
    }

    async fn versions(&self) -> Result<Vec<VersionRow>, RegistryError> {
        self.ask(|_, store| async move { store.versions().await })
            .await
    }

    async fn version(&self, label: &str) -> Result<VersionRow, RegistryError> {
        let label = label.to_owned();
        self.ask(|_, store| async move { store.version(&label).await })
            .await
    }

    async fn active(&self, name: &str) -> Result<Option<ActiveRow>, RegistryError> {
        let name = name.to_owned();
        self.ask(|_, store| async move { store.active(&name).await })
            .await
    }

    async fn marks(&self, version: VersionId) -> Result<Vec<MarkRow>, RegistryError> {
        self.ask(|_, store| async move { store.marks(version).await })
            .await
    }

    async fn make_ready(&self, version: VersionId) -> Result<bool, RegistryError> {
        self.ask(|_, store| async move { store.make_ready(version).await })
            .await
    }

    async fn activate_first(
        &self,
        version: VersionId,
        actor: &str,
        forced: Option<&Forced>,
    ) -> Result<Activation, RegistryError> {
        let (actor, forced) = (actor.to_owned(), forced.cloned());
        self.ask(|world, store| async move {
            let forced = forced.as_ref();
            let row = store.activate_first(version, &actor, forced).await;
            switch::one_active(&world).await;
            row
        })
        .await
    }

    async fn fail(&self, version: VersionId, reason: &str) -> Result<(), RegistryError> {
        let reason = reason.to_owned();
        self.ask(|_, store| async move { store.fail(version, &reason).await })
            .await
    }

    async fn set_barrier(
        &self,
        from: VersionId,
        to: VersionId,
    ) -> Result<BarrierRow, RegistryError> {
        self.ask(|world, store| async move {
            wait_for_marks(&world).await;
            let row = store.set_barrier(from, to).await?;
            switch::barrier_set(&world, &row).await;
            Ok(row)
        })
        .await
    }

    async fn barrier_progress(&self, barrier: i64) -> Result<BarrierProgress, RegistryError> {
        self.ask(|_, store| async move { store.barrier_progress(barrier).await })
            .await
    }

    async fn compare_at_barrier(
        &self,
        barrier: i64,
        from: &ProjectionSpec,
        to: &ProjectionSpec,
        columns: &[&'static str],
    ) -> Result<BarrierProof, RegistryError> {
        let (from, to, columns) = (from.clone(), to.clone(), columns.to_vec());
        self.ask(|world, store| async move {
            let compared = store.compare_at_barrier(barrier, &from, &to, &columns);
            let proof = compared.await?;
            switch::compared(&world, barrier);
            world.seen().proven = Some(barrier);
            world.compared.notify_waiters();
            Ok(proof)
        })
        .await
    }

    async fn drop_barrier(&self, barrier: i64) -> Result<(), RegistryError> {
        self.ask(|world, store| async move {
            store.drop_barrier(barrier).await?;
            let mut seen = world.seen();
            seen.barrier = seen.barrier.filter(|last| *last != barrier);
            Ok(())
        })
        .await
    }

    async fn promote(
        &self,
        request: &PromoteRequest,
        from: &ProjectionSpec,
        to: &ProjectionSpec,
    ) -> Result<Promotion, RegistryError> {
        let (request, from, to) = (request.clone(), from.clone(), to.clone());
        let fate = Fate::of_call(&self.world);
        self.ask_as(fate, |world, store| async move {
            let promotion = match store.promote(&request, &from, &to).await {
                Ok(promotion) => promotion,
                Err(error) => {
                    note_refused(&world, &request).await;
                    return Err(error);
                }
            };
            if promotion.changed {
                switch::promoted(&world, request.barrier, &promotion).await;
                if fate != Fate::Answered {
                    world.take(Branch::PromotionAnswerLost);
                }
            }
            Ok(promotion)
        })
        .await
    }

    async fn retire_as(&self, request: &RetireRequest) -> Result<(), RegistryError> {
        let request = request.clone();
        self.ask(|world, store| async move {
            let retired = store.retire_as(&request).await;
            switch::one_active(&world).await;
            retired
        })
        .await
    }

    async fn drop_retired(
        &self,
        version: VersionId,
        grace: Duration,
        actor: &str,
    ) -> Result<(), RegistryError> {
        let actor = actor.to_owned();
        self.ask(|world, store| async move {
            let dropped = store.drop_retired(version, grace, &actor).await;
            switch::one_active(&world).await;
            dropped
        })
        .await
    }

    async fn reset(&self, request: &ResetRequest) -> Result<(), RegistryError> {
        let request = request.clone();
        self.ask(|world, store| async move {
            let reset = store.reset(&request).await;
            switch::one_active(&world).await;
            reset
        })
        .await
    }
}

/// The longest that a barrier waits for the rows of the marks.
const LOCKED: Duration = Duration::from_secs(2);

/// Choosing a barrier locks the marks (ADR 8), so it waits for commits and comes right behind
/// one. In some seeds that is the moment in which it is hardest to keep: the mark that it will
/// name lies inside of a batch that another version has on its way.
async fn wait_for_marks(world: &World) {
    if !(world.is_troubled() && world.plan.waits_for_marks && world.chance.odds(0.7)) {
        return;
    }
    let straddled = world.straddled.notified();
    let _ = tokio::time::timeout(LOCKED, straddled).await;
}

/// Counts a promotion that came too late for its proof.
async fn note_refused(world: &World, request: &PromoteRequest) {
    if world.seen().proven != Some(request.barrier) {
        return;
    }
    let versions = world.store.versions().await.unwrap_or_default();
    let row = versions.iter().find(|row| row.id == request.to);
    let is_over =
        |row: &VersionRow| matches!(row.state, VersionState::Retired | VersionState::Dropped);
    if row.is_some_and(is_over) {
        world.take(Branch::RetiredAfterProof);
    }
}

impl SimRegistry {
    /// Reads the row of an aggregate.
    pub(crate) async fn read(&self, key: i64) -> Result<ReadAnswer, ReadError> {
        let gone = || ReadError::Unavailable("no answer to the read".to_owned());
        let key = key.to_string();
        let split = self.world.mutation == Some(Mutation::SplitRead);
        let (world, store) = (self.world.clone(), self.world.store.clone());
        let op = async move {
            let answer = store.read(ledger::NAME, &key).await?;
            if !split {
                return Ok(answer);
            }
            pass(world.chance.time(Duration::from_secs(2))).await;
            let row = store.read(ledger::NAME, &key).await?.row;
            Ok(ReadAnswer { row, ..answer })
        };
        let fate = Fate::of_call(&self.world);
        let answer = call(&self.world, &self.process, fate, op).await;
        answer.unwrap_or_else(|| Err(gone()))
    }
}
