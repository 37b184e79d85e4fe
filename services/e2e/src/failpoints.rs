//! A projector that fails at a named point, and what comes of it.

use std::time::Duration;

use crate::process::Exit;
use crate::process::Process;
use crate::world::Mode;
use crate::world::World;
use crate::world::with;

/// The points of a bulk load, in the order in which a partition meets them.
pub const BULK_POINTS: [&str; 15] = [
    "takeover::before",
    "takeover::after",
    "fold::before",
    "fold::after",
    "write::before",
    "write::after",
    "copy::before",
    "copy::after",
    "index::before",
    "index::after",
    "commit::before",
    "send::before",
    "send::after",
    "answer::after",
    "commit::after",
];

/// The points of a batch.
pub const APPLY_POINTS: [&str; 9] = [
    "takeover::before",
    "takeover::after",
    "fold::before",
    "fold::after",
    "write::before",
    "send::before",
    "send::after",
    "answer::after",
    "commit::after",
];

/// What can happen at a point.
pub const ACTIONS: [&str; 4] = ["panic", "error", "delay(1000)", "kill"];

/// How long a process may take to reach a point, or to end.
const BOUND: Duration = Duration::from_secs(90);

/// Events of a transaction where a batch is meant to be one of several.
const BATCH: u64 = 500;

/// A failpoint of a cell.
#[derive(Debug, Clone, Copy)]
pub struct Failpoint<'a> {
    /// The place, such as `commit::before`.
    pub point: &'a str,
    /// The partition that fails.
    pub partition: i32,
    /// What happens there.
    pub action: &'a str,
    /// The how manieth time.
    pub nth: u64,
}

impl World {
    /// Loads a version up to where a share of each partition's events is left, so that
    /// batches have something to do.
    ///
    /// # Panics
    /// When the load fails.
    pub fn load_all_but(&self, version: &str, share: f64) {
        let launch = crate::process::Launch::new(["bench", "part"])
            .flag("version", version)
            .flag("leave-share", share);
        let flags = [self.log_flags(), self.store_flags(), self.stream_flags()].concat();
        with(launch, flags).start().succeed(BOUND);
    }

    /// Starts a projector that fails at a point.
    pub fn failing(&self, mode: Mode, version: &str, failpoint: &Failpoint<'_>) -> Process {
        let Failpoint {
            point,
            partition,
            action,
            nth,
        } = failpoint;
        let listed = format!("{point}:{partition}={action}@{nth}");
        self.projector(mode, version)
            .flag("batch", BATCH)
            .env("REFOLD_FAILPOINTS", listed)
            .start()
    }

    /// Runs a projector that fails at a point up to its end or, where it survives, to the end
    /// of the log; a killed one is followed by one that does not fail. Answers how often the
    /// point fired.
    ///
    /// # Panics
    /// When a process does not end as it should.
    pub fn fail_and_finish(&self, mode: Mode, version: &str, failpoint: &Failpoint<'_>) -> usize {
        let mut failing = self.failing(mode, version, failpoint);
        if failpoint.action == "kill" {
            let exit = failing.exit(BOUND);
            assert_eq!(exit, Exit::Signal(9), "{failpoint:?}");
            let mut next = self.projector(mode, version).start();
            self.finish(mode, version, &mut next);
        } else {
            self.finish(mode, version, &mut failing);
        }
        failing.stderr().with("failpoint fired").len()
    }

    /// Waits until a projector has applied the whole log, and for its end.
    fn finish(&self, mode: Mode, version: &str, process: &mut Process) {
        if mode == Mode::Live {
            // A signal that comes before a process listens to it ends it at once.
            process.wait_for_line("took partition over", BOUND);
            let events = i64::try_from(self.stream().events).expect("a log that is written");
            self.wait("the whole log is applied", BOUND, || {
                assert_eq!(process.try_exit(), None, "{}", process.stderr().text());
                self.applied(version) == events
            });
            return process.drain(BOUND);
        }
        process.succeed(BOUND);
    }

    /// The same log with an empty database.
    ///
    /// # Panics
    /// When there is no stack.
    pub fn with_fresh_database(&self, name: &str) -> Self {
        let dsn = refold_local::testing::fresh_database(&format!("e2e_{name}"));
        Self::open(
            self.brokers(),
            &dsn.expect("a fresh database"),
            self.topic().to_owned(),
            self.stream(),
        )
    }
}
