//! Admission to the bulk path: how many histories are folded at once, which one
//! is next, and what happens when their tables outgrow the memory.
//!
//! The largest waiting partition goes first, because the last one to finish
//! decides when the rebuild is done. Sizes are estimated from events and from
//! what finished folds needed per event. Where an estimate was too low, the
//! youngest fold gives way and starts again later; the eldest always goes on, so
//! that there is always progress, until one alone does not fit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use refold_domain::position::Partition;
use tokio::sync::oneshot;

/// Whether a fold may hold the memory that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// It may.
    Fits,
    /// The folds together hold too much: drop this one and ask for admission again.
    GiveWay,
    /// This one alone holds more than all may hold.
    TooLarge,
}

/// The gate of a process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Mutex<State>>);

struct State {
    workers: usize,
    budget: usize,
    bytes_per_event: f64,
    admitted: u64,
    expected: BTreeMap<Partition, u64>,
    waiting: BTreeMap<Partition, Waiter>,
    running: BTreeMap<Partition, Running>,
}

struct Waiter {
    events: u64,
    open: oneshot::Sender<Slot>,
}

struct Running {
    events: u64,
    bytes: usize,
    order: u64,
}

impl Gate {
    /// A gate for `workers` folds that hold `budget` bytes together.
    pub(crate) fn new(workers: usize, budget: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            workers: workers.max(1),
            budget,
            bytes_per_event: 0.0,
            admitted: 0,
            expected: BTreeMap::new(),
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below is complete before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces a partition that will ask for admission, so that a smaller one
    /// that asks earlier does not take its place.
    pub(crate) fn expect(&self, partition: Partition, events: u64) {
        self.lock().expected.insert(partition, events);
    }

    /// Takes an announcement back: the partition will not ask, or not soon.
    pub(crate) fn withdraw(&self, partition: Partition) {
        self.lock().expected.remove(&partition);
        self.open();
    }

    /// Asks for admission; the receiver gets a place when it is granted.
    /// Dropping the receiver withdraws the question or frees the place.
    pub(crate) fn ask(&self, partition: Partition, events: u64) -> oneshot::Receiver<Slot> {
        let (open, opened) = oneshot::channel();
        {
            let mut state = self.lock();
            state.expected.remove(&partition);
            state.waiting.insert(partition, Waiter { events, open });
        }
        self.open();
        opened
    }

    fn open(&self) {
        loop {
            let Some((partition, waiter)) = self.lock().admit_next() else {
                return;
            };
            let gate = self.clone();
            // Outside the lock: a place that nobody takes any more frees itself on drop.
            let _ = waiter.open.send(Slot { gate, partition });
        }
    }
}

impl State {
    fn estimate(&self, events: u64) -> usize {
        (events as f64 * self.bytes_per_event) as usize
    }

    fn held(&self) -> usize {
        let held = self.running.values();
        held.map(|r| r.bytes.max(self.estimate(r.events))).sum()
    }

    /// Moves the next waiting partition that may run to the running ones.
    fn admit_next(&mut self) -> Option<(Partition, Waiter)> {
        // A receiver that was dropped has withdrawn its question.
        self.waiting.retain(|_, waiter| !waiter.open.is_closed());
        if self.running.len() >= self.workers {
            return None;
        }
        let (partition, waiter) = self.waiting.iter().max_by_key(|(_, w)| w.events)?;
        let (partition, events) = (*partition, waiter.events);
        if self.expected.values().any(|expected| *expected > events) {
            return None;
        }
        let wanted = self.held().saturating_add(self.estimate(events));
        if !self.running.is_empty() && wanted > self.budget {
            return None;
        }
        self.admitted += 1;
        let running = Running {
            events,
            bytes: 0,
            order: self.admitted,
        };
        self.running.insert(partition, running);
        self.waiting.remove(&partition).map(|w| (partition, w))
    }

    fn hold(&mut self, partition: Partition, bytes: usize) -> Room {
        let Some(own) = self.running.get_mut(&partition) else {
            return Room::GiveWay;
        };
        own.bytes = bytes;
        let order = own.order;
        let held: usize = self.running.values().map(|r| r.bytes).sum();
        if held <= self.budget {
            Room::Fits
        } else if bytes > self.budget {
            Room::TooLarge
        } else if self.running.values().all(|r| r.order <= order) {
            Room::GiveWay
        } else {
            // A younger one will give way with its next chunk.
            Room::Fits
        }
    }
}

/// A place at the gate.
pub(crate) struct Slot {
    gate: Gate,
    partition: Partition,
}

impl Slot {
    /// Reports the bytes that the fold holds and learns whether it may go on.
    pub(crate) fn hold(&self, bytes: usize) -> Room {
        self.gate.lock().hold(self.partition, bytes)
    }

    /// Makes this the eldest fold: its rows are on their way, others give way to it.
    pub(crate) fn stay(&self) {
        if let Some(own) = self.gate.lock().running.get_mut(&self.partition) {
            own.order = 0;
        }
    }

    /// Tells what a whole fold needed, for the next estimates.
    pub(crate) fn learn(&self, events: u64, bytes: usize) {
        if events == 0 {
            return;
        }
        let mut state = self.gate.lock();
        let per_event = bytes as f64 / events as f64;
        state.bytes_per_event = state.bytes_per_event.max(per_event);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.gate.lock().running.remove(&self.partition);
        self.gate.open();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(number: i32) -> Partition {
        Partition(number)
    }

    fn place(asked: &mut oneshot::Receiver<Slot>) -> Option<Slot> {
        asked.try_recv().ok()
    }

    #[test]
    fn the_largest_announced_partition_is_admitted_first() {
        let gate = Gate::new(1, 1_000);
        gate.expect(p(0), 10);
        gate.expect(p(1), 90);
        let mut small = gate.ask(p(0), 10);
        assert!(place(&mut small).is_none());
        let mut large = gate.ask(p(1), 90);
        let slot = place(&mut large);
        assert!(slot.is_some());
        assert!(place(&mut small).is_none());
        drop(slot);
        assert!(place(&mut small).is_some());
    }

    #[test]
    fn a_partition_that_will_not_come_holds_nobody_up() {
        let gate = Gate::new(1, 1_000);
        gate.expect(p(1), 90);
        let mut small = gate.ask(p(0), 10);
        assert!(place(&mut small).is_none());
        gate.withdraw(p(1));
        assert!(place(&mut small).is_some());
    }

    #[test]
    fn a_question_or_a_place_that_was_dropped_lets_the_next_one_in() {
        let gate = Gate::new(1, 1_000);
        let granted_but_not_taken = gate.ask(p(0), 60);
        let withdrawn = gate.ask(p(1), 50);
        let mut third = gate.ask(p(2), 10);
        drop(withdrawn);
        assert!(place(&mut third).is_none());
        drop(granted_but_not_taken);
        assert!(place(&mut third).is_some());
    }

    #[test]
    fn what_a_fold_needed_keeps_the_next_ones_inside_the_budget() {
        let gate = Gate::new(8, 1_000);
        let mut first = gate.ask(p(0), 100);
        let slot = place(&mut first).expect("a free gate");
        slot.learn(100, 600);
        let mut second = gate.ask(p(1), 100);
        assert!(place(&mut second).is_none(), "600 + 600 bytes do not fit");
        drop(slot);
        assert!(place(&mut second).is_some());
    }

    #[test]
    fn the_youngest_gives_way_and_one_that_fits_nowhere_says_so() {
        let gate = Gate::new(2, 1_000);
        let mut asked = [gate.ask(p(0), 9), gate.ask(p(1), 8)];
        let [elder, younger] = asked.each_mut().map(place);
        let (elder, younger) = (elder.expect("a place"), younger.expect("a place"));
        assert_eq!(younger.hold(500), Room::Fits);
        assert_eq!(elder.hold(600), Room::Fits, "the elder goes on");
        assert_eq!(younger.hold(500), Room::GiveWay);
        younger.stay();
        assert_eq!(younger.hold(500), Room::Fits, "its rows are on their way");
        assert_eq!(elder.hold(600), Room::GiveWay);
        drop(younger);
        assert_eq!(elder.hold(1_001), Room::TooLarge);
    }
}
