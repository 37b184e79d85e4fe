//! Failpoints: named places at which a projector can be made to fail, for tests and chaos runs.
//!
//! `REFOLD_FAILPOINTS` lists them, separated by commas: `POINT=ACTION`, or `POINT=ACTION@N` for
//! the N-th time that the point is reached. Each fires once in the life of a process.
//!
//! ```text
//! commit::before:3=kill          SIGKILL in front of the commit of partition 3
//! send::after:3=kill             the same when the commit is on its way and its answer is not read
//! fold::after:0=panic@5          the actor panics behind the fifth fold of partition 0
//! write::before:1=error          the stage fails with an error
//! copy::after:2=delay(5000)      it lasts five seconds longer
//! takeover::after:0=stop         SIGSTOP: the process stands still until it is continued
//! ```

use std::env;
use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use refold_ports::probe::Point;
use refold_ports::probe::Probe;
use rustix::process::Signal;

use crate::cli::Failure;

/// Where they are listed.
const VARIABLE: &str = "REFOLD_FAILPOINTS";

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Panic,
    Error,
    Delay(Duration),
    Kill,
    Stop,
}

/// One failpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failpoint {
    point: Point,
    action: Action,
    /// How often the point is still reached before it fires, this time included; 0 once it has.
    left: u64,
}

/// The failpoints of this process.
#[derive(Debug)]
pub(crate) struct Failpoints(Mutex<Vec<Failpoint>>);

impl Failpoints {
    /// Those that the environment lists; `None` without any.
    ///
    /// # Errors
    /// One that is not understood, with what would be.
    pub(crate) fn of_environment() -> Result<Option<Self>, Failure> {
        let listed = env::var(VARIABLE).unwrap_or_default();
        if listed.trim().is_empty() {
            return Ok(None);
        }
        let all = parse(&listed).map_err(Failure::usage)?;
        tracing::warn!("this process fails on purpose: {VARIABLE}={listed}");
        Ok(Some(Self(Mutex::new(all))))
    }

    /// Counts a point, and takes the action that is due.
    fn due(&self, point: Point) -> Option<Action> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = None;
        for failpoint in all.iter_mut().filter(|f| f.point == point && f.left > 0) {
            failpoint.left -= 1;
            if failpoint.left == 0 {
                due = Some(failpoint.action);
            }
        }
        due
    }
}

fn parse(listed: &str) -> Result<Vec<Failpoint>, String> {
    let entries = listed.split(',').map(str::trim);
    let wrong = |entry: &str| {
        format!(
            "{VARIABLE}: {entry:?} is no failpoint such as commit::before:3=kill or \
             fold::after:0=panic@5; a point is takeover, fold, write, copy, index, commit, send or \
             answer, before or after, and a partition; an action is panic, error, delay(MILLISECONDS), \
             kill or stop"
        )
    };
    entries
        .map(|entry| read(entry).ok_or_else(|| wrong(entry)))
        .collect()
}

fn read(entry: &str) -> Option<Failpoint> {
    let (point, what) = entry.split_once('=')?;
    let (action, left) = match what.split_once('@') {
        None => (what, 1),
        Some((action, nth)) => (action, nth.parse().ok().filter(|nth| *nth > 0)?),
    };
    let action = match action {
        "panic" => Action::Panic,
        "error" => Action::Error,
        "kill" => Action::Kill,
        "stop" => Action::Stop,
        delay => {
            let millis = delay.strip_prefix("delay(")?.strip_suffix(')')?;
            Action::Delay(Duration::from_millis(millis.parse().ok()?))
        }
    };
    Some(Failpoint {
        point: Point::parse(point)?,
        action,
        left,
    })
}

#[async_trait]
impl Probe for Failpoints {
    async fn reach(&self, point: Point) -> Result<(), String> {
        let Some(action) = self.due(point) else {
            return Ok(());
        };
        tracing::warn!(%point, %action, "failpoint fired");
        match action {
            Action::Panic => panic!("failpoint {point}"),
            Action::Error => return Err(format!("failpoint {point}")),
            Action::Delay(delay) => tokio::time::sleep(delay).await,
            Action::Kill => signal_self(Signal::KILL),
            Action::Stop => signal_self(Signal::STOP),
        }
        Ok(())
    }
}

fn signal_self(signal: Signal) {
    let sent = rustix::process::kill_process(rustix::process::getpid(), signal);
    if let Err(error) = sent {
        tracing::error!(%error, "a process could not signal itself");
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic => f.write_str("panic"),
            Self::Error => f.write_str("error"),
            Self::Delay(delay) => write!(f, "delay({})", delay.as_millis()),
            Self::Kill => f.write_str("kill"),
            Self::Stop => f.write_str("stop"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failpoints_are_read_with_their_action_and_count() {
        let read = parse("commit::before:3=kill, fold::after:0=delay(20)@5").expect("understood");
        let told: Vec<_> = read
            .iter()
            .map(|f| format!("{}={}@{}", f.point, f.action, f.left))
            .collect();
        assert_eq!(
            told,
            ["commit::before:3=kill@1", "fold::after:0=delay(20)@5"]
        );
    }

    #[test]
    fn what_is_no_failpoint_is_refused_with_what_there_is() {
        for wrong in [
            "commit::before:3",
            "commit::before:3=explode",
            "nowhere::before:3=kill",
            "commit::before:3=kill@0",
            "commit::before:3=delay(x)",
            "commit::before:3=kill,",
        ] {
            let refused = parse(wrong).expect_err(wrong);
            assert!(refused.contains("delay(MILLISECONDS)"), "{refused}");
        }
    }

    #[test]
    fn a_failpoint_fires_once_at_its_turn() {
        let all = parse("fold::after:0=error@2").expect("understood");
        let (point, other) = (
            all[0].point,
            Point::parse("fold::after:1").expect("a point"),
        );
        let failpoints = Failpoints(Mutex::new(all));
        assert_eq!(failpoints.due(point), None);
        assert_eq!(failpoints.due(other), None);
        assert_eq!(failpoints.due(point), Some(Action::Error));
        assert_eq!(failpoints.due(point), None);
    }
}
