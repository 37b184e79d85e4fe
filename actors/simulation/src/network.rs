//! The way between a process and what it talks to. A call is executed at the far end whatever
//! becomes of its sender: late, twice or without an answer, as the seed decides.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::plan::Fault;
use crate::world::World;
use crate::world::pass;

/// How long a caller waits for an answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The longest that a late call is on its way.
const LATEST: u64 = 40;

/// A process, as far as others see it.
#[derive(Clone)]
pub(crate) struct Process(Arc<Inside>);

struct Inside {
    number: u64,
    /// Until when it stands still.
    frozen: Mutex<Instant>,
}

impl Process {
    pub(crate) fn new(number: u64) -> Self {
        Self(Arc::new(Inside {
            number,
            frozen: Mutex::new(Instant::now()),
        }))
    }

    /// Its number; 0 is an operator, who is in no process.
    pub(crate) fn number(&self) -> u64 {
        self.0.number
    }

    /// Lets it stand still for a while.
    pub(crate) fn freeze(&self, time: Duration) {
        *self.0.frozen.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + time;
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.freeze(Duration::ZERO);
    }

    /// Waits while it stands still.
    pub(crate) async fn awake(&self) {
        loop {
            let until = *self.0.frozen.lock().unwrap_or_else(PoisonError::into_inner);
            if until <= Instant::now() {
                return;
            }
            // Looks again now and then: it may be woken before its time.
            let look = Instant::now() + Duration::from_secs(5);
            tokio::time::sleep_until(until.min(look)).await;
        }
    }
}

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It arrives and is answered.
    Answered,
    /// It never arrives.
    Lost,
    /// It is executed, and the answer is lost.
    Unanswered,
    /// It arrives when nobody waits any more.
    Late,
}

impl Fate {
    /// What becomes of a call that reads, or changes the registry.
    pub(crate) fn of_call(world: &World) -> Self {
        Self::of(world, [Fault::CallLost, Fault::AnswerLost, Fault::CallLate])
    }

    /// What becomes of a commit.
    pub(crate) fn of_commit(world: &World) -> Self {
        let faults = [
            Fault::CommitLost,
            Fault::CommitAnswerLost,
            Fault::CommitLate,
        ];
        Self::of(world, faults)
    }

    fn of(world: &World, [lost, unanswered, late]: [Fault; 3]) -> Self {
        if world.meets(lost) {
            Self::Lost
        } else if world.meets(unanswered) {
            Self::Unanswered
        } else if world.meets(late) {
            Self::Late
        } else {
            Self::Answered
        }
    }
}

/// Sends `op` to the far end and waits for its answer; `None` when there is none.
pub(crate) async fn call<T: Send + 'static>(
    world: &World,
    process: &Process,
    fate: Fate,
    op: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    process.awake().await;
    let (answer, answered) = oneshot::channel();
    let (there, back) = match fate {
        Fate::Late => {
            let seconds = world.chance.between(PATIENCE.as_secs() + 1..=LATEST);
            (Duration::from_secs(seconds), Duration::ZERO)
        }
        _ => (world.way(), world.way()),
    };
    // Without a sender: what is on its way arrives whether the process lives or not.
    tokio::spawn(async move {
        pass(there).await;
        if fate == Fate::Lost {
            return;
        }
        let result = op.await;
        pass(back).await;
        if fate != Fate::Unanswered {
            // Who gave up hears no answer.
            let _ = answer.send(result);
        }
    });
    let answer = tokio::time::timeout(PATIENCE, answered).await;
    process.awake().await;
    answer.ok()?.ok()
}
