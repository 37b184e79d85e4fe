//! What all actors of one process share.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;

use refold_domain::observe::ActorId;
use refold_domain::observe::Board;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::version::VersionId;
use tokio::sync::Semaphore;

use crate::gate::Gate;
use crate::options::ProjectorOptions;
use crate::plan;
use crate::plugs::Plugs;
use crate::shared_pace::SharedPace;

/// What all actors of one process share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Context>);

/// The fields of [`Shared`].
pub(crate) struct Context {
    pub(crate) plugs: Plugs,
    pub(crate) options: ProjectorOptions,
    pub(crate) board: Board,
    pub(crate) version: VersionId,
    pub(crate) label: String,
    /// Number of partitions that this process works on.
    pub(crate) partitions: usize,
    pub(crate) gate: Gate,
    pub(crate) pace: SharedPace,
    /// The apply transactions that may still begin. First come, first served.
    pub(crate) transactions: Arc<Semaphore>,
}

impl Shared {
    pub(crate) fn new(context: Context) -> Self {
        Self(Arc::new(context))
    }

    /// The identity of a partition's projector.
    pub(crate) fn actor_id(&self, partition: Partition) -> ActorId {
        ActorId {
            version: self.label.clone(),
            partition,
        }
    }
}

impl Deref for Shared {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.0
    }
}

/// What a partition's projectors know of its ownership, kept over their restarts.
#[derive(Debug, Default)]
pub(crate) struct Tenure {
    granted: AtomicI64,
    unanswered: AtomicI64,
    started_from_offset: AtomicBool,
}

impl Tenure {
    /// A take-over was granted.
    pub(crate) fn granted(&self, epoch: i64) {
        self.granted.store(epoch, Ordering::Release);
        self.unanswered.store(0, Ordering::Release);
    }

    /// A take-over got no answer: it may have moved the epoch.
    pub(crate) fn unanswered(&self) {
        self.unanswered.fetch_add(1, Ordering::AcqRel);
    }

    /// The start that the operator asked for was honoured: history was taken as
    /// a whole, or read again up to the mark. A later take-over goes on at the mark.
    pub(crate) fn honour_from_offset(&self) {
        self.started_from_offset.store(true, Ordering::Release);
    }

    /// Where the operator wants reading to start, while that is still to be done.
    pub(crate) fn wanted_start(&self, options: &ProjectorOptions) -> Option<Offset> {
        let honoured = self.started_from_offset.load(Ordering::Acquire);
        options.from_offset.filter(|_| !honoured)
    }

    /// The highest epoch that can be this process's own: the last one that it was granted, and
    /// one more for each take-over since whose answer was lost. `None` before the first grant.
    pub(crate) fn own_up_to(&self) -> Option<i64> {
        let granted = self.granted.load(Ordering::Acquire);
        let unanswered = self.unanswered.load(Ordering::Acquire);
        plan::own_up_to(granted, unanswered)
    }

    /// Whether an epoch seen in the registry belongs to another process.
    pub(crate) fn lost_to(&self, seen: i64) -> bool {
        self.own_up_to().is_some_and(|own| seen > own)
    }
}
