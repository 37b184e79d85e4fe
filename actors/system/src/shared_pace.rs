//! One pace for all partitions of a process: a rate limit, a duty that leaves the reads some of the
//! time, and a throttle that may hold them all.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;
use std::time::Duration;

use refold_domain::duty::Duty;
use refold_domain::pace::Pace;
use refold_domain::throttle::Held;
use tokio::sync::watch;
use tokio::time::Instant;

/// A [`Pace`] that several threads take from.
#[derive(Debug)]
pub(crate) struct SharedPace {
    started: Instant,
    pace: Mutex<Pace>,
    held: watch::Sender<Held>,
    duty_percent: AtomicU8,
}

impl SharedPace {
    /// A pace of `events_per_second`; `None` never waits. Nothing holds it yet.
    pub(crate) fn new(events_per_second: Option<u64>) -> Self {
        Self {
            started: Instant::now(),
            pace: Mutex::new(Pace::new(events_per_second, Duration::ZERO)),
            held: watch::Sender::new(Held::default()),
            duty_percent: AtomicU8::new(Duty::WHOLE.percent()),
        }
    }

    /// When the process began to project.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Takes `events` and returns how long the taker has to wait before its next events.
    pub(crate) fn take(&self, events: u64) -> Duration {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.take(events, self.started.elapsed())
    }

    /// Says in which share of the time the rebuild works from now on.
    pub(crate) fn set_duty(&self, duty: Duty) {
        self.duty_percent.store(duty.percent(), Ordering::Relaxed);
    }

    /// How long the rebuild has to begin nothing, so that the reads get their share of the time.
    pub(crate) fn closed_for(&self) -> Duration {
        let duty = Duty::of_percent(self.duty_percent.load(Ordering::Relaxed));
        duty.closed_for(self.started.elapsed())
    }

    /// Says what holds the rebuild from now on.
    pub(crate) fn hold(&self, held: Held) {
        self.held.send_if_modified(|before| {
            let is_news = *before != held;
            *before = held;
            is_news
        });
    }

    /// What holds the rebuild.
    pub(crate) fn held(&self) -> Held {
        *self.held.borrow()
    }

    /// Waits until nothing holds the rebuild, and no longer than `patience`; whether that came.
    pub(crate) async fn is_free_within(&self, patience: Duration) -> bool {
        let mut held = self.held.subscribe();
        let free = held.wait_for(|held| !held.is_any());
        tokio::time::timeout(patience, free).await.is_ok()
    }
}
