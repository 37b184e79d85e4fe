//! What happens to whoever reaches a point: it is struck, or held.

use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use refold_ports::probe::Point;
use refold_ports::probe::Probe;

use crate::world::PATIENCE;

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    /// The stage fails.
    Fail,
    /// The code panics.
    Panic,
    /// Nothing goes on any more, as in a stopped process.
    Hang,
}

/// Strikes at a point a number of times.
#[derive(Clone)]
pub(crate) struct Striker {
    point: Point,
    blow: Blow,
    /// Visits that pass before the first blow.
    passing: Arc<Mutex<u32>>,
    left: Arc<Mutex<u32>>,
}

impl Striker {
    pub(crate) fn new(point: &str, blow: Blow, times: u32) -> Self {
        Self {
            point: Point::parse(point).expect("a point"),
            blow,
            passing: Arc::default(),
            left: Arc::new(Mutex::new(times)),
        }
    }

    /// Lets the first visits pass.
    pub(crate) fn after(self, visits: u32) -> Self {
        *self.passing.lock().expect("no test panics in here") = visits;
        self
    }

    /// Whether it struck as often as it was told.
    pub(crate) fn is_spent(&self) -> bool {
        *self.left.lock().expect("no test panics in here") == 0
    }
}

#[async_trait]
impl Probe for Striker {
    async fn reach(&self, point: Point) -> Result<(), String> {
        if point != self.point {
            return Ok(());
        }
        {
            let mut passing = self.passing.lock().expect("no test panics in here");
            if *passing > 0 {
                *passing -= 1;
                return Ok(());
            }
            let mut left = self.left.lock().expect("no test panics in here");
            if *left == 0 {
                return Ok(());
            }
            *left -= 1;
        }
        match self.blow {
            Blow::Fail => Err(format!("struck at {point}")),
            Blow::Panic => panic!("struck at {point}"),
            Blow::Hang => std::future::pending().await,
        }
    }
}

/// Holds whoever reaches a point until it is opened.
#[derive(Clone)]
pub(crate) struct Door {
    point: Point,
    /// Who passes before it is shut.
    free: Arc<tokio::sync::Semaphore>,
    waiting: Arc<tokio::sync::Semaphore>,
    opened: Arc<tokio::sync::Semaphore>,
}

impl Door {
    pub(crate) fn at(point: &str) -> Self {
        Self::behind(point, 0)
    }

    /// A door that the first `free` find open.
    pub(crate) fn behind(point: &str, free: usize) -> Self {
        Self {
            free: Arc::new(tokio::sync::Semaphore::new(free)),
            point: Point::parse(point).expect("a point"),
            waiting: Arc::new(tokio::sync::Semaphore::new(0)),
            opened: Arc::new(tokio::sync::Semaphore::new(0)),
        }
    }

    pub(crate) async fn someone_waits(&self) {
        let waits = tokio::time::timeout(PATIENCE, self.waiting.acquire());
        drop(waits.await.expect("someone reaches the door"));
    }

    pub(crate) fn open(&self) {
        self.opened.add_permits(1_000_000);
    }
}

#[async_trait]
impl Probe for Door {
    async fn reach(&self, point: Point) -> Result<(), String> {
        if point == self.point {
            if let Ok(free) = self.free.try_acquire() {
                free.forget();
                return Ok(());
            }
            self.waiting.add_permits(1);
            drop(self.opened.acquire().await);
        }
        Ok(())
    }
}
