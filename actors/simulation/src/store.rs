//! The store at the end of a way: sessions that die, answers that are lost, commits that come
//! late or twice.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use async_trait::async_trait;
use bytes::Bytes;
use refold_domain::batch::BulkSeal;
use refold_domain::batch::WriteBatch;
use refold_domain::position::Offset;
use refold_domain::position::OffsetRange;
use refold_ports::PartitionWriter;
use refold_ports::Sink;
use refold_ports::memory::store::CommitFault;
use refold_ports::memory::store::Omission;
use refold_ports::sink::BulkTarget;
use refold_ports::sink::Committed;
use refold_ports::sink::Lease;
use refold_ports::sink::StoreError;
use refold_ports::sink::TakeOver;

use crate::branch::Branch;
use crate::judge;
use crate::judge::Commit;
use crate::mutation::Mutation;
use crate::network::Fate;
use crate::network::Process;
use crate::network::call;
use crate::plan::Fault;
use crate::world::Place;
use crate::world::World;

/// The store as one process sees it.
pub(crate) struct SimSink {
    pub(crate) world: World,
    pub(crate) process: Process,
    pub(crate) unknown: Arc<Unknown>,
}

/// Places of which a commit was not answered.
#[derive(Default)]
pub(crate) struct Unknown(Mutex<BTreeSet<Place>>);

impl Unknown {
    fn places(&self) -> MutexGuard<'_, BTreeSet<Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gone() -> StoreError {
    StoreError::Disconnected("no answer from the store".to_owned())
}

#[async_trait]
impl Sink for SimSink {
    async fn take_over(
        &self,
        wanted: TakeOver<'_>,
    ) -> Result<Box<dyn PartitionWriter>, StoreError> {
        let place = (wanted.version, wanted.partition);
        let (world, process) = (self.world.clone(), self.process.number());
        let was_unknown = self.unknown.places().contains(&place);
        let reads_only = was_unknown && world.mutation == Some(Mutation::ResumeByRead);
        let spec = wanted.spec.clone();
        let (start, own_up_to) = (wanted.start, wanted.own_up_to);
        let op = async move {
            if reads_only {
                world.store.leave_out(Some(Omission::NewEpoch));
            }
            let wanted = TakeOver {
                own_up_to,
                ..TakeOver::from_anyone(place.0, &spec, place.1, start)
            };
            let taken = world.store.take_over(wanted).await;
            if reads_only {
                world.store.leave_out(None);
            }
            if let Ok(writer) = &taken {
                judge::taken_over(&world, process, writer.lease());
            }
            taken
        };
        let fate = Fate::of_call(&self.world);
        let Some(taken) = call(&self.world, &self.process, fate, op).await else {
            self.world.take(Branch::UnansweredTakeOver);
            return Err(gone());
        };
        let inner = taken?;
        self.unknown.places().remove(&place);
        Ok(Box::new(SimWriter {
            world: self.world.clone(),
            process: self.process.clone(),
            place,
            lease: inner.lease().clone(),
            inner: Some(inner),
            target: BulkTarget::Leaf,
            unknown: Arc::clone(&self.unknown),
        }))
    }
}

/// A session under one epoch.
struct SimWriter {
    world: World,
    process: Process,
    place: Place,
    /// As the last answer showed it.
    lease: Lease,
    /// `None` when the session is over, or on its way.
    inner: Option<Box<dyn PartitionWriter>>,
    /// What the load in progress writes.
    target: BulkTarget,
    unknown: Arc<Unknown>,
}

/// What a call does at the far end.
type Op<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// What is to become durable.
#[derive(Clone)]
enum Job {
    Batch(Box<WriteBatch>),
    Seal(Box<BulkSeal>),
}

impl Job {
    fn range(&self) -> OffsetRange {
        match self {
            Self::Batch(batch) => batch.range,
            Self::Seal(seal) => seal.range,
        }
    }

    async fn run(&self, inner: &mut dyn PartitionWriter) -> Result<Committed, StoreError> {
        match self {
            Self::Batch(batch) => inner.commit(batch).await,
            Self::Seal(seal) => inner.seal(seal).await,
        }
    }
}

impl SimWriter {
    async fn send<T: Send + 'static>(
        &mut self,
        fate: Fate,
        op: impl FnOnce(&mut dyn PartitionWriter) -> Op<'_, T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let mut inner = self.inner.take().ok_or_else(gone)?;
        let there = async move {
            let answer = op(inner.as_mut()).await;
            (inner, answer)
        };
        let (inner, answer) = call(&self.world, &self.process, fate, there)
            .await
            .ok_or_else(gone)?;
        self.lease = inner.lease().clone();
        self.inner = Some(inner);
        answer
    }

    async fn ask<T: Send + 'static>(
        &mut self,
        op: impl FnOnce(&mut dyn PartitionWriter) -> Op<'_, T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let fate = Fate::of_call(&self.world);
        self.send(fate, op).await
    }

    /// Sends something that is to become durable.
    async fn make_durable(&mut self, job: Job) -> Result<Committed, StoreError> {
        let world = self.world.clone();
        let fate = Fate::of_commit(&world);
        let fault = match fate {
            // The store itself loses it, so that one without transactions keeps half of it.
            Fate::Lost => Some(CommitFault::LostBefore),
            Fate::Answered if world.meets(Fault::CommitRetry) => Some(CommitFault::Retry),
            Fate::Answered if world.meets(Fault::DiskFull) => Some(CommitFault::DiskFull),
            _ => None,
        };
        let twice = fate == Fate::Answered && fault.is_none() && world.meets(Fault::CommitTwice);
        let commit = Commit {
            process: self.process.number(),
            place: self.place,
            epoch: self.lease.epoch,
            range: job.range(),
            target: self.target,
            is_load: matches!(job, Job::Seal(_)),
            fate,
        };
        let mistaken = world.mutation == Some(Mutation::LostIsRetry);
        let way = match fate {
            Fate::Lost => Fate::Answered,
            Fate::Unanswered if mistaken => Fate::Answered,
            other => other,
        };
        let range = commit.range;
        let is_batch = !commit.is_load;
        if is_batch {
            world.seen().sent.insert(self.place, range);
        }
        let answer = self
            .send(way, move |inner| {
                Box::pin(execute(world, commit, inner, job, (fault, twice)))
            })
            .await;
        if matches!(fate, Fate::Lost | Fate::Unanswered | Fate::Late) {
            self.unknown.places().insert(self.place);
        }
        if is_batch {
            self.world.seen().sent.remove(&self.place);
        }
        let is_retry = matches!(answer, Err(StoreError::Retry(_)));
        match (fate, self.world.mutation) {
            (Fate::Unanswered, Some(Mutation::LostIsRetry)) => {
                Err(StoreError::Retry("no answer".to_owned()))
            }
            (_, Some(Mutation::RollbackIsCommit)) if is_retry => Ok(Committed {
                next: range.to,
                switch: None,
            }),
            _ => answer,
        }
    }
}

/// Executes a commit at the far end. Nothing in here waits: it is one step of the simulation.
async fn execute(
    world: World,
    commit: Commit,
    inner: &mut dyn PartitionWriter,
    job: Job,
    (fault, twice): (Option<CommitFault>, bool),
) -> Result<Committed, StoreError> {
    if let Some(fault) = fault {
        world.store.fail_commit(1, fault);
    }
    let answer = job.run(inner).await;
    world.store.forgive_commits();
    judge::committed(&world, &commit, &answer).await;
    if answer.is_ok() {
        tell_straddled(&world, &commit);
    }
    if twice && answer.is_ok() {
        let again = job.run(inner).await;
        world.take(Branch::CommitTwice);
        judge::committed_again(&world, &commit, &again).await;
    }
    answer
}

/// Tells who waits for it when the new mark lies inside of a batch that another version has sent.
fn tell_straddled(world: &World, commit: &Commit) {
    let (version, partition) = commit.place;
    let to = commit.range.to;
    let seen = world.seen();
    let others = seen.sent.keys().filter(|place| place.0 != version);
    let straddles = others
        .filter(|place| place.1 == partition)
        .any(|place| seen.is_under_batch(*place, to));
    drop(seen);
    if straddles {
        world.straddled.notify_waiters();
    }
}

#[async_trait]
impl PartitionWriter for SimWriter {
    fn lease(&self) -> &Lease {
        &self.lease
    }

    async fn fetch(&mut self, keys: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, StoreError> {
        let keys = keys.to_vec();
        self.ask(move |inner| Box::pin(async move { inner.fetch(&keys).await }))
            .await
    }

    async fn commit(&mut self, batch: &WriteBatch) -> Result<Committed, StoreError> {
        let mut batch = batch.clone();
        if self.world.mutation == Some(Mutation::StaleSums) {
            batch.sums = self.lease.sums.clone();
        }
        self.make_durable(Job::Batch(Box::new(batch))).await
    }

    async fn checkpoint_rows(&mut self) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        self.ask(|inner| Box::pin(inner.checkpoint_rows())).await
    }

    async fn begin_bulk(&mut self, to: Offset, target: BulkTarget) -> Result<(), StoreError> {
        self.target = target;
        let (world, place, epoch) = (self.world.clone(), self.place, self.lease.epoch);
        self.ask(move |inner| {
            Box::pin(async move {
                inner.begin_bulk(to, target).await?;
                world.seen().loading.insert(place, (target, epoch));
                Ok(())
            })
        })
        .await
    }

    async fn copy(&mut self, tuples: Bytes) -> Result<(), StoreError> {
        self.ask(move |inner| Box::pin(inner.copy(tuples))).await
    }

    async fn index(&mut self, rows: u64) -> Result<(), StoreError> {
        self.ask(move |inner| Box::pin(inner.index(rows))).await
    }

    async fn seal(&mut self, seal: &BulkSeal) -> Result<Committed, StoreError> {
        self.make_durable(Job::Seal(Box::new(seal.clone()))).await
    }
}
