//! A supervisor's state: one seat per partition.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ractor::Actor;
use ractor::ActorId as RactorId;
use ractor::ActorRef;
use ractor::actor::messages::BoxedState;
use refold_domain::observe::Observed;
use refold_domain::observe::Phase;
use refold_domain::position::Partition;
use refold_domain::restart::RestartHistory;
use refold_domain::restart::Verdict;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::time::Instant;

use super::lookout::Lookout;
use super::msg::Status;
use super::msg::SupervisorArgs;
use super::msg::SupervisorMsg;
use crate::context::Shared;
use crate::context::Tenure;
use crate::outcome;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::projector::Ending;
use crate::projector::Projector;
use crate::projector::ProjectorArgs;
use crate::projector::ProjectorMsg;
use crate::projector::ProjectorState;

/// One partition and what became of its projectors.
#[derive(Default)]
struct Seat {
    /// The running projector; `None` before the first start, between restarts and after the end.
    actor: Option<ActorRef<ProjectorMsg>>,
    history: RestartHistory,
    tenure: Arc<Tenure>,
    reached_end: bool,
    ending: Option<Ending>,
    /// The group gave the partition to another process, and its projector is about to end.
    revoked: bool,
}

/// How long a partition that another process took is left alone while the group still gives it
/// to this one: one of the two is about to hear otherwise.
const LEFT_ALONE: Duration = Duration::from_secs(3);

/// Everything of a supervisor that changes.
pub(crate) struct SupervisorState {
    myself: ActorRef<SupervisorMsg>,
    shared: Shared,
    status: watch::Sender<Status>,
    all_reached_end: Arc<Notify>,
    seats: BTreeMap<Partition, Seat>,
    started: Instant,
    by_group: bool,
    /// The partitions with a seat, for the lookout.
    seated: watch::Sender<Vec<Partition>>,
    draining: bool,
    /// Why the process is not to go on, whatever became of its projectors.
    refused: Option<String>,
    /// Ends with the supervisor.
    _lookout: Lookout,
}

impl SupervisorState {
    pub(super) fn new(myself: ActorRef<SupervisorMsg>, args: SupervisorArgs) -> Self {
        let shared = args.shared;
        for partition in &args.order {
            enter(&shared, *partition);
        }
        let (seated, seen) = watch::channel(args.order.clone());
        let lookout = Lookout::spawn(shared.clone(), seen, myself.clone());
        let seats = args.order.into_iter().map(|p| (p, Seat::default()));
        Self {
            seats: seats.collect(),
            started: Instant::now(),
            by_group: args.by_group,
            seated,
            draining: false,
            refused: None,
            status: args.status,
            all_reached_end: args.all_reached_end,
            _lookout: lookout,
            myself,
            shared,
        }
    }

    /// Takes the group's word for which partitions are this process's: those that are new are
    /// started, the others are drained and let go.
    pub(super) fn assign(&mut self, order: &[Partition]) {
        if self.draining {
            return;
        }
        let held: Vec<_> = self.seats.keys().copied().collect();
        for partition in held {
            let keeps = order.contains(&partition);
            let Some(seat) = self.seats.get_mut(&partition) else {
                continue;
            };
            // One that comes back while its projector drains is started again behind that.
            seat.revoked = !keeps;
            match &seat.actor {
                _ if keeps => {}
                // One that ended meanwhile reports its own ending.
                Some(actor) => drop(actor.cast(ProjectorMsg::Drain)),
                None => self.let_go(partition),
            }
        }
        for partition in order {
            if !self.seats.contains_key(partition) {
                enter(&self.shared, *partition);
                self.seats.insert(*partition, Seat::default());
                // A supervisor that is gone starts nothing.
                let _ = self.myself.cast(SupervisorMsg::Start(*partition));
            }
        }
        tracing::info!(
            version = self.shared.label,
            partitions = order.len(),
            "assigned by the group"
        );
        self.tell_seated();
    }

    /// Another process works on the partition.
    fn let_go(&mut self, partition: Partition) {
        self.shared.gate.withdraw(partition);
        self.seats.remove(&partition);
        self.shared.board.leave(&self.shared.actor_id(partition));
        self.tell_seated();
    }

    fn tell_seated(&self) {
        self.seated
            .send_replace(self.seats.keys().copied().collect());
    }

    /// What follows from an ending while a group shares the partitions out; `false` when it is to
    /// stay as it is.
    fn share_on(&mut self, partition: Partition, ending: &Ending) -> bool {
        let Some(seat) = self.seats.get_mut(&partition) else {
            return true;
        };
        if seat.revoked {
            self.let_go(partition);
            return true;
        }
        let pause = match ending {
            // It was revoked and given back.
            Ending::Drained => Duration::ZERO,
            Ending::Fenced(_) => LEFT_ALONE.mul_f64(1.0 + self.shared.plugs.dice.draw()),
            _ => return false,
        };
        *seat = Seat::default();
        self.myself
            .send_after(pause, move || SupervisorMsg::Start(partition));
        true
    }

    pub(super) async fn start(&mut self, partition: Partition) {
        let Some(seat) = self.seats.get_mut(&partition) else {
            return;
        };
        if seat.actor.is_some() || seat.ending.is_some() {
            return;
        }
        let args = ProjectorArgs {
            shared: self.shared.clone(),
            partition,
            tenure: Arc::clone(&seat.tenure),
            supervisor: self.myself.clone(),
        };
        let name = self.shared.actor_id(partition);
        let spawned = Projector::spawn_linked(None, Projector, args, self.myself.get_cell()).await;
        match spawned {
            Ok((actor, _)) => {
                tracing::debug!(version = name.version, %partition, "projector started");
                seat.actor = Some(actor);
            }
            Err(error) => self.restart_or_break(partition, &error.to_string()),
        }
    }

    /// The partition whose running projector has this id.
    fn seat_of(&self, who: RactorId) -> Option<Partition> {
        let of = |seat: &Seat| seat.actor.as_ref().map(|a| a.get_id()) == Some(who);
        let found = self.seats.iter().find(|(_, seat)| of(seat));
        found.map(|(partition, _)| *partition)
    }

    /// A projector returned an error or panicked.
    pub(super) fn failed(&mut self, who: RactorId, why: &str) {
        if let Some(partition) = self.seat_of(who) {
            self.restart_or_break(partition, why);
        }
    }

    /// A projector stopped: by an ending of its own, or killed.
    pub(super) fn terminated(
        &mut self,
        who: RactorId,
        last: Option<BoxedState>,
        why: Option<String>,
    ) {
        let Some(partition) = self.seat_of(who) else {
            return;
        };
        let last = last.and_then(|mut state| state.take::<ProjectorState>().ok());
        if last.as_ref().is_some_and(|state| state.reached_end) {
            self.reached_end(partition);
        }
        match last.and_then(|mut state| state.ending.take()) {
            Some(ending) => self.ended(partition, ending),
            None => {
                let why = why.unwrap_or_else(|| "stopped without a reason".to_owned());
                self.restart_or_break(partition, &why);
            }
        }
    }

    fn restart_or_break(&mut self, partition: Partition, why: &str) {
        let policy = self.shared.options.restart;
        let jitter = self.shared.plugs.dice.draw();
        let now = self.started.elapsed();
        let Some(seat) = self.seats.get_mut(&partition) else {
            return;
        };
        seat.actor = None;
        if self.draining || seat.revoked {
            return self.ended(partition, Ending::Drained);
        }
        let verdict = seat.history.failed(&policy, now, jitter);
        let restarts = seat.history.total();
        let id = self.shared.actor_id(partition);
        match verdict {
            Verdict::RestartAfter(delay) => {
                tracing::warn!(version = id.version, partition = %partition, why, ?delay, restarts, "projector failed, restarts");
                self.shared.gate.withdraw(partition);
                self.shared.board.update(&id, |o| {
                    o.phase = Phase::Starting;
                    o.reason = Some(why.to_owned());
                    o.restarts = restarts;
                    o.memory_bytes = 0;
                });
                // The timer ends by itself when the supervisor is gone.
                self.myself
                    .send_after(delay, move || SupervisorMsg::Start(partition));
            }
            Verdict::Broken => {
                let reason = format!("failed {restarts} times, last: {why}");
                tracing::error!(version = id.version, partition = %partition, reason, "projector is broken");
                self.shared.board.update(&id, |o| {
                    o.phase = Phase::Broken;
                    o.reason = Some(reason.clone());
                    o.memory_bytes = 0;
                });
                self.ended(partition, Ending::Broken(reason));
            }
        }
    }

    fn ended(&mut self, partition: Partition, ending: Ending) {
        self.shared.gate.withdraw(partition);
        if self.by_group && !self.draining && self.share_on(partition, &ending) {
            return;
        }
        let refused = matches!(ending, Ending::Refused(_));
        if let Some(seat) = self.seats.get_mut(&partition) {
            seat.actor = None;
            seat.ending = Some(ending);
        }
        if refused && !self.draining {
            // What the operator asked for holds for all partitions.
            self.drain();
        }
        self.stop_when_all_ended();
    }

    fn stop_when_all_ended(&mut self) {
        // The group may give it others.
        if self.by_group && !self.draining {
            return;
        }
        let endings = self.seats.iter();
        let endings: Option<BTreeMap<_, _>> = endings
            .map(|(p, seat)| Some((*p, seat.ending.clone()?)))
            .collect();
        if let Some(endings) = endings {
            let judged = match &self.refused {
                Some(why) => Err(Failure::Refused(why.clone())),
                None if endings.is_empty() && self.draining => Ok(Outcome::Drained),
                None => outcome::judge(&endings),
            };
            self.status.send_modify(|s| s.ended = Some(judged));
            self.myself.stop(None);
        }
    }

    pub(super) fn reached_end(&mut self, partition: Partition) {
        if let Some(seat) = self.seats.get_mut(&partition) {
            seat.reached_end = true;
        }
        let mut seats = self.seats.values();
        let all = seats.len() > 0 && seats.all(|seat| seat.reached_end);
        let is_news = self.status.send_if_modified(|status| {
            let news = all && !status.all_reached_end;
            status.all_reached_end |= all;
            news
        });
        if is_news {
            self.all_reached_end.notify_one();
        }
    }

    pub(super) fn pass_epochs_on(&self, epochs: &[(Partition, i64)]) {
        for (partition, epoch) in epochs {
            let seat = self.seats.get(partition);
            let lost = seat.filter(|seat| seat.tenure.lost_to(*epoch));
            if let Some(actor) = lost.and_then(|seat| seat.actor.as_ref()) {
                // A projector that ended meanwhile needs no telling.
                let _ = actor.cast(ProjectorMsg::EpochSeen(*epoch));
            }
        }
    }

    /// Ends every projector: what each of them would commit is refused.
    pub(super) fn refuse(&mut self, why: String) {
        if self.refused.is_none() {
            tracing::warn!(version = self.shared.label, why, "not projected any more");
            self.refused = Some(why);
        }
        self.drain();
    }

    pub(super) fn drain(&mut self) {
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        tracing::info!(version = self.shared.label, "draining");
        for seat in self.seats.values_mut() {
            match &seat.actor {
                Some(actor) => {
                    // One that ended meanwhile reports its own ending.
                    let _ = actor.cast(ProjectorMsg::Drain);
                }
                None if seat.ending.is_none() => seat.ending = Some(Ending::Drained),
                None => {}
            }
        }
        let bound = self.shared.options.drain_bound;
        self.myself
            .send_after(bound, || SupervisorMsg::DrainExpired);
        self.stop_when_all_ended();
    }

    /// Ends what is still running where it stands. An open transaction is
    /// rolled back, or its commit is answered by the next take-over.
    pub(super) fn end_drain(&self) {
        let left = self.seats.iter();
        for (partition, actor) in left.filter_map(|(p, s)| Some((p, s.actor.as_ref()?))) {
            tracing::warn!(%partition, "projector did not drain in time and is ended");
            actor.get_cell().kill();
        }
    }
}

/// Puts a partition on the board.
fn enter(shared: &Shared, partition: Partition) {
    let name = shared.plugs.projection.spec().name;
    let observed = Observed::starting(name, shared.options.mode.word());
    shared.board.enter(&shared.actor_id(partition), observed);
}
