//! A projector's state and the frame around its turns: which work is next, and
//! what follows from trouble.

use std::sync::Arc;
use std::time::Duration;

use ractor::ActorRef;
use refold_domain::observe::ActorId;
use refold_domain::observe::Observed;
use refold_domain::observe::Phase;
use refold_domain::observe::Stage;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::sink::Directive;
use refold_ports::sink::StoreError;
use refold_ports::sink::TakeOver;
use refold_ports::source::SourceError;
use tokio::time::Instant;

use super::load::Admission;
use super::load::Folding;
use super::load::Loading;
use super::msg::Ending;
use super::msg::ProjectorArgs;
use super::pending::Apply;
use crate::context::Shared;
use crate::context::Tenure;
use crate::observer::CommittedBatch;
use crate::supervisor::SupervisorMsg;
use refold_ports::probe::Edge;
use refold_ports::probe::Word;

/// What a projector is at.
pub(crate) enum Work {
    /// It has to take its partition over. Also after everything that loses a lease.
    Starting,
    /// It waits for its place among the bulk loads.
    Admitted(Box<Admission>),
    /// Its thread folds history.
    Folding(Box<Folding>),
    /// Its rows go into the leaf, in one open transaction.
    Loading(Box<Loading>),
    /// It applies batches.
    Applying(Box<Apply>),
}

impl Work {
    const fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Admitted(_) => "admitted",
            Self::Folding(_) => "folding",
            Self::Loading(_) => "loading",
            Self::Applying(_) => "applying",
        }
    }
}

/// A turn that lasts longer names itself when it is over, also when it was cancelled.
const SLOW: Duration = Duration::from_secs(10);

/// Watches one turn.
struct SlowTurn {
    id: ActorId,
    work: &'static str,
    begun: Instant,
}

impl SlowTurn {
    fn begin(id: &ActorId, work: &Work) -> Self {
        Self {
            id: id.clone(),
            work: work.name(),
            begun: Instant::now(),
        }
    }
}

impl Drop for SlowTurn {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        if took >= SLOW {
            tracing::warn!(version = self.id.version, partition = %self.id.partition, work = self.work, ?took, "slow turn");
        }
    }
}

/// What the actor does after a message.
pub(crate) enum Next {
    /// Cast the next pull.
    Pull,
    /// Cast it after this time.
    PullAfter(Duration),
    /// A pull is on its way already.
    AsBefore,
    /// Stop; the ending is in the state.
    Stop,
}

/// What a turn came to.
pub(crate) enum Turn {
    /// Go on with this work.
    On(Work, Next),
    /// End.
    End(Ending),
}

/// What went wrong in a turn. The work of the turn is gone, the lease with it.
pub(crate) enum Trouble {
    /// The store.
    Store(StoreError),
    /// The log.
    Source(SourceError),
    /// Anything else: a reason for the operator.
    Failed(String),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<SourceError> for Trouble {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl Trouble {
    /// The log failed while records at or below the mark `next` may have been wanted. Retention
    /// may pass a record that was only to be looked at again: no event is missing then, and the
    /// next take-over looks at the log afresh.
    pub(super) fn of_source(error: SourceError, next: Offset) -> Self {
        Self::Source(match error {
            SourceError::Truncated { wanted, low, .. } if wanted < next && low <= next => {
                SourceError::Unreachable(format!(
                    "the record at offset {wanted} was deleted while it was looked for"
                ))
            }
            other => other,
        })
    }
}

/// The failure that a supervisor sees.
#[derive(Debug, thiserror::Error)]
#[error("{partition}: {reason}")]
pub(crate) struct ProjectorError {
    partition: Partition,
    reason: String,
}

/// Everything of a projector that changes.
pub(crate) struct ProjectorState {
    pub(super) shared: Shared,
    pub(super) partition: Partition,
    pub(super) id: ActorId,
    pub(super) tenure: Arc<Tenure>,
    pub(super) supervisor: ActorRef<SupervisorMsg>,
    pub(super) draining: bool,
    /// Refusals of the outside world since the last commit.
    pub(super) refusals: u32,
    pub(super) work: Work,
    /// Whether the whole history was in at some commit. The supervisor reads it
    /// from the terminated actor: that event overtakes messages.
    pub(crate) reached_end: bool,
    /// How it ended; read by the supervisor like `reached_end`.
    pub(crate) ending: Option<Ending>,
}

impl ProjectorState {
    pub(super) fn new(args: ProjectorArgs) -> Self {
        Self {
            id: args.shared.actor_id(args.partition),
            shared: args.shared,
            partition: args.partition,
            tenure: args.tenure,
            supervisor: args.supervisor,
            draining: false,
            refusals: 0,
            work: Work::Starting,
            reached_end: false,
            ending: None,
        }
    }

    /// Takes one turn.
    pub(super) async fn turn(&mut self) -> Result<Next, ProjectorError> {
        if self.ending.is_some() {
            return Ok(Next::Stop);
        }
        let work = std::mem::replace(&mut self.work, Work::Starting);
        let watched = SlowTurn::begin(&self.id, &work);
        let turn = match work {
            Work::Starting => self.start().await,
            Work::Admitted(admission) => self.wait_for_place(admission).await,
            Work::Folding(folding) => self.follow_fold(folding).await,
            Work::Loading(loading) => self.load(loading).await,
            Work::Applying(apply) => self.apply(apply).await,
        };
        drop(watched);
        match turn {
            Ok(Turn::On(work, next)) => {
                self.work = work;
                Ok(next)
            }
            Ok(Turn::End(ending)) => Ok(self.end(ending)),
            Err(trouble) => self.settle(trouble),
        }
    }

    /// Ends at once, except inside a bulk transaction, which is finished first:
    /// minutes of folding are in it. Whatever else is in memory is in the log too.
    pub(super) fn drain(&mut self) -> Next {
        self.draining = true;
        match self.work {
            Work::Loading(_) => Next::AsBefore,
            _ => self.end(Ending::Drained),
        }
    }

    /// Ends when the registry shows that another process took the partition
    /// over: an idle partition commits nothing and would not meet the fence.
    pub(super) fn see_epoch(&mut self, epoch: i64) -> Next {
        if self.ending.is_none() && self.tenure.lost_to(epoch) {
            return self.end(self.taken_over(epoch));
        }
        Next::AsBefore
    }

    pub(super) fn taken_over(&self, epoch: i64) -> Ending {
        Ending::Fenced(TakeOver::lost(self.partition, &self.shared.label, epoch))
    }

    pub(super) fn end(&mut self, ending: Ending) -> Next {
        let (phase, reason) = match &ending {
            Ending::Finished | Ending::Drained => (Phase::Stopped, None),
            Ending::Halted(why) => (Phase::Halted, Some(why)),
            Ending::Fenced(why) => (Phase::Fenced, Some(why)),
            Ending::Broken(why) | Ending::Refused(why) => (Phase::Broken, Some(why)),
        };
        match reason {
            Some(reason) => {
                tracing::warn!(version = self.id.version, partition = %self.partition, %phase, reason, "projector ended")
            }
            None => {
                tracing::info!(version = self.id.version, partition = %self.partition, ?ending, "projector ended")
            }
        }
        self.observe(|o| {
            o.phase = phase;
            o.reason = reason.cloned();
            o.memory_bytes = 0;
        });
        self.ending = Some(ending);
        self.work = Work::Starting;
        Next::Stop
    }

    /// The one table from trouble to what follows; the lease is gone already.
    fn settle(&mut self, trouble: Trouble) -> Result<Next, ProjectorError> {
        match trouble {
            Trouble::Store(error) => match error.directive() {
                Directive::Stop => Ok(self.end(Ending::Fenced(fence_reason(error)))),
                Directive::Fail => Err(self.failure(error.to_string())),
                Directive::TakeOver | Directive::Cut(_) | Directive::Again | Directive::BackOff => {
                    Ok(self.hold_back(error.to_string()))
                }
            },
            Trouble::Source(error) => match error {
                SourceError::Unreachable(_) => Ok(self.hold_back(error.to_string())),
                SourceError::Truncated { .. } | SourceError::BeyondEnd { .. } => {
                    Ok(self.end(Ending::Halted(error.to_string())))
                }
                SourceError::TopicMissing(_)
                | SourceError::Corrupt { .. }
                | SourceError::Fatal(_) => Err(self.failure(error.to_string())),
            },
            Trouble::Failed(reason) => Err(self.failure(reason)),
        }
    }

    fn failure(&self, reason: String) -> ProjectorError {
        ProjectorError {
            partition: self.partition,
            reason,
        }
    }

    /// Notes a reason from outside and waits, longer each time.
    pub(super) fn hold_back(&mut self, reason: String) -> Next {
        self.refusals = self.refusals.saturating_add(1);
        // The first ones pass by themselves (a parked partition, a deadlock).
        if self.refusals >= 4 && self.refusals.is_power_of_two() {
            tracing::warn!(version = self.id.version, partition = %self.partition, reason, refusals = self.refusals, "held back");
        } else {
            tracing::debug!(version = self.id.version, partition = %self.partition, reason, refusals = self.refusals, "held back");
        }
        self.observe(|o| o.reason = Some(reason));
        let jitter = self.shared.plugs.dice.draw();
        Next::PullAfter(self.shared.options.retry.after(self.refusals, jitter))
    }

    pub(super) fn observe(&self, change: impl FnOnce(&mut Observed)) {
        self.shared.board.update(&self.id, change);
    }

    pub(super) fn busy(&self, stage: Stage, time: Duration) {
        self.observe(|o| o.busy.add(stage, time));
    }

    pub(super) async fn pass(&mut self, word: Word, edge: Edge) -> Result<(), Trouble> {
        let passed = self.shared.plugs.pass(word, edge, self.partition);
        passed.await.map_err(Trouble::Failed)
    }

    /// Tells the metrics of a transaction that became durable.
    pub(super) fn tell_observer(&self, events: u64, rows: u64, took: Duration) {
        if let Some(observer) = &self.shared.plugs.observer {
            observer.committed(&CommittedBatch {
                version: &self.shared.label,
                mode: self.shared.options.mode,
                events,
                rows,
                took,
            });
        }
    }

    /// The whole history was in at a commit.
    pub(super) fn tell_reached_end(&mut self) {
        self.reached_end = true;
        // A supervisor that is gone takes its projectors with it.
        let _ = self
            .supervisor
            .cast(SupervisorMsg::ReachedEnd(self.partition));
    }
}

/// The reason alone: the ending says already that it is a fence.
fn fence_reason(error: StoreError) -> String {
    match error {
        StoreError::Fenced(reason) => reason,
        other => other.to_string(),
    }
}
