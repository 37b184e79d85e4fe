//! The governor: looks now and then at what a rebuild bears on, and holds the rebuild while that is
//! too much, or leaves it a part of the time while reads take too long.
//!
//! It runs beside the projectors and sets the pace that they share. They are held where they have no
//! transaction open, in front of a batch or of the load of a partition, so what is begun when it
//! decides is still committed: `-batch` events of each partition that catches up, and one leaf or
//! checkpoint of each of the `-workers`. A load that stood still inside of its `COPY` would keep
//! the oldest snapshot of the database open and stop the vacuum of every table meanwhile. Folding
//! goes on in memory; it writes nothing. A partition whose rows fit two frames of a copy leaves its
//! place to the next one, so small partitions may all be folded when the rebuild goes on.
//!
//! Reads lose to a rebuild what it takes of processors and disk, whatever it does. So the duty
//! holds for folding too, and inside a `COPY`, which it makes ten times as long at most.
//!
//! A lease has no term: an epoch holds until somebody else takes the partition over, and the group's
//! membership is a task of its own. So a projector that is held keeps its partition however long.

use std::sync::Arc;
use std::time::Duration;

use refold_domain::duty::Duty;
use refold_domain::duty::DutyControl;
use refold_domain::duty::ReadLatency;
use refold_domain::throttle::Change;
use refold_domain::throttle::Held;
use refold_domain::throttle::Reading;
use refold_domain::throttle::Readings;
use refold_domain::throttle::Reason;
use refold_domain::throttle::Throttle;
use refold_ports::Pressure;
use tokio::task::JoinHandle;

use crate::context::Shared;
use crate::options::Mode;

/// A running governor; it ends when this is dropped.
pub(crate) struct Governor(JoinHandle<()>);

impl Governor {
    /// Looks a first time, so that a rebuild that begins under pressure applies nothing at all, and
    /// goes on looking. `None` where nothing is to be held: a live projector, no limits, nobody who
    /// can look.
    pub(crate) async fn start(shared: &Shared) -> Option<Self> {
        let options = &shared.options;
        let pressure = shared.plugs.pressure.clone()?;
        if options.mode != Mode::Replay
            || !(options.limits.is_any() || options.max_read_p99.is_some())
        {
            return None;
        }
        let mut lookout = Lookout {
            pressure,
            throttle: Throttle::new(options.limits),
            duty: options.max_read_p99.map(DutyControl::new),
            is_rebuild: true,
            slowed: false,
            unanswered: false,
            hidden: false,
            shared: shared.clone(),
        };
        lookout.look().await;
        Some(Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(lookout.shared.options.look_every).await;
                lookout.look().await;
            }
        })))
    }
}

impl Drop for Governor {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Lookout {
    shared: Shared,
    pressure: Arc<dyn Pressure>,
    throttle: Throttle,
    duty: Option<DutyControl>,
    /// Whether the version is still a rebuild, as far as is known.
    is_rebuild: bool,
    /// It was said that the reads are too slow.
    slowed: bool,
    /// The last look was not answered.
    unanswered: bool,
    /// It was said that the role may not look at something.
    hidden: bool,
}

impl Lookout {
    /// One look and what follows. While there is no answer everything stays as it was: a database
    /// that is away is written to by nobody, and one that only refuses the question is not a reason
    /// to stand still for ever.
    async fn look(&mut self) {
        self.learn_state().await;
        // What was rebuilt and serves now is held no more, by nothing.
        let looks = self.is_rebuild && self.shared.options.limits.is_any();
        let readings = match looks {
            true => self.readings().await,
            false => Some(Readings::default()),
        };
        if let Some(readings) = readings {
            for change in self.throttle.judge(&readings) {
                self.tell(&change);
            }
        }
        let held: Held = self.throttle.held();
        self.shared.pace.hold(held);
        let duty = self.judge_reads().await;
        self.shared.pace.set_duty(duty);
        // Each time: a partition may have come meanwhile.
        self.shared.board.update_all(|o| {
            o.held = held;
            o.duty = duty;
        });
    }

    /// The duty after a look at the reads. Reads that cannot be looked at are no reason to take
    /// more of their time, nor less.
    async fn judge_reads(&mut self) -> Duty {
        let Some(mut control) = self.duty else {
            return Duty::WHOLE;
        };
        if !self.is_rebuild {
            return Duty::WHOLE;
        }
        let before = control.duty();
        let reads = match self.pressure.reads().await {
            Ok(reads) => reads,
            Err(error) => {
                tracing::debug!(%error, "look at what reads take");
                ReadLatency::Unchanged
            }
        };
        let duty = control.judge(reads);
        self.duty = Some(control);
        self.tell_duty(before, duty, reads, control.limit());
        duty
    }

    /// Tells that the reads were too slow, and that they are not any more: not each step.
    fn tell_duty(&mut self, before: Duty, duty: Duty, reads: ReadLatency, limit: Duration) {
        let version = &self.shared.label;
        let is_slow = matches!(reads, ReadLatency::P99(p99) if p99 > limit);
        if is_slow && !std::mem::replace(&mut self.slowed, true) {
            tracing::warn!(
                version,
                ?reads,
                ?limit,
                %duty,
                flag = "-max-read-p99",
                "slowed: reads take too long, and the rebuild works in a part of the time"
            );
        } else if duty.is_whole() && std::mem::take(&mut self.slowed) {
            tracing::info!(version, ?reads, "not slowed for the reads any more");
        } else if duty != before {
            tracing::debug!(version, ?reads, %duty, "the duty changed");
        }
    }

    /// A process keeps its mode when its version is promoted, and is then the one that keeps the
    /// serving version at the tail.
    async fn learn_state(&mut self) {
        match self.shared.plugs.registry.versions().await {
            Ok(versions) => {
                let own = versions.into_iter().find(|v| v.id == self.shared.version);
                self.is_rebuild = own.is_some_and(|v| v.state.may_be_held());
            }
            Err(error) => tracing::debug!(%error, "read the version's state"),
        }
    }

    async fn readings(&mut self) -> Option<Readings> {
        match self.pressure.look().await {
            Ok(readings) => {
                self.unanswered = false;
                self.tell_hidden(&readings);
                Some(readings)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.unanswered, true) {
                    let (version, held) = (&self.shared.label, self.throttle.held());
                    tracing::warn!(
                        version,
                        %error,
                        %held,
                        "the throttle gets no answer and leaves everything as it is"
                    );
                }
                None
            }
        }
    }

    fn tell_hidden(&mut self, readings: &Readings) {
        let limits = self.shared.options.limits;
        let hidden = Reason::ALL.into_iter().filter(|reason| {
            limits.get(*reason).is_some() && readings.get(*reason) == Reading::Hidden
        });
        let flags: Vec<_> = hidden.map(Reason::flag).collect();
        if flags.is_empty() || std::mem::replace(&mut self.hidden, true) {
            return;
        }
        tracing::warn!(
            version = self.shared.label,
            flags = flags.join(", "),
            "not limited: the database shows it to members of pg_monitor only; grant pg_monitor to \
             the projector's role"
        );
    }

    fn tell(&self, change: &Change) {
        let (version, reason) = (&self.shared.label, change.reason.word());
        let bytes = match change.reading {
            Reading::Bytes(bytes) => Some(bytes),
            Reading::Nothing | Reading::Hidden => None,
        };
        let (limit, resume) = (change.limit, change.resume);
        if change.held {
            let (flag, advice) = (change.reason.flag(), change.reason.advice());
            tracing::warn!(
                version,
                reason,
                bytes,
                limit,
                resume,
                flag,
                advice,
                "throttled: nothing is applied while this is over its limit"
            );
        } else {
            tracing::info!(
                version,
                reason,
                bytes,
                resume,
                "not throttled for this any more"
            );
        }
    }
}
