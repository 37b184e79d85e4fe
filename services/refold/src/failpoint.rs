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
//! send::after:*=kill@3           the third time that any partition gets there
//! ```
//!
//! A process that is told a directory by `REFOLD_FAILPOINT_DIR` takes further ones while it runs: it
//! looks for the file `arm` there, reads it, removes it, and writes a line to the file `fired`
//! in front of every action.

use std::env;
use std::fmt;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use refold_domain::position::Partition;
use refold_ports::probe::Edge;
use refold_ports::probe::Point;
use refold_ports::probe::Probe;
use refold_ports::probe::Word;
use rustix::process::Signal;

use crate::cli::Failure;

/// Where they are listed.
pub(crate) const VARIABLE: &str = "REFOLD_FAILPOINTS";

/// Names the directory in which further ones are armed while a process runs.
pub(crate) const DIRECTORY_VARIABLE: &str = "REFOLD_FAILPOINT_DIR";

/// The file in that directory that lists what is to be armed.
pub(crate) const ARM: &str = "arm";

/// The file in that directory that gets a line for each that fires.
pub(crate) const FIRED: &str = "fired";

/// Between two looks for something to arm.
const LOOK: Duration = Duration::from_millis(10);

/// How long it takes at most until a SIGSTOP has reached every thread of this process.
const STANDS_WITHIN: Duration = Duration::from_millis(100);

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
    word: Word,
    edge: Edge,
    /// `None` for whichever gets there.
    partition: Option<Partition>,
    action: Action,
    /// How often the point is still reached before it fires, this time included; 0 once it has.
    left: u64,
}

impl Failpoint {
    fn is_at(&self, point: Point) -> bool {
        let here = self.partition.is_none_or(|p| p == point.partition);
        here && (self.word, self.edge) == (point.word, point.edge)
    }
}

/// The failpoints of this process.
#[derive(Debug, Default)]
pub(crate) struct Failpoints {
    armed: Mutex<Vec<Failpoint>>,
    /// Where more are armed while the process runs.
    directory: Option<PathBuf>,
}

impl Failpoints {
    /// Those that the environment lists, and with a directory those that are armed there from now
    /// on; `None` without either. Called inside the runtime.
    ///
    /// # Errors
    /// One that is not understood, with what would be.
    pub(crate) fn of_environment() -> Result<Option<Arc<Self>>, Failure> {
        let listed = env::var(VARIABLE).unwrap_or_default();
        let directory = env::var_os(DIRECTORY_VARIABLE).map(PathBuf::from);
        let armed = match listed.trim() {
            "" if directory.is_none() => return Ok(None),
            "" => Vec::new(),
            listed => parse(listed).map_err(Failure::usage)?,
        };
        tracing::warn!(
            ?directory,
            "this process fails on purpose: {VARIABLE}={listed}"
        );
        let failpoints = Arc::new(Self {
            armed: Mutex::new(armed),
            directory,
        });
        if let Some(directory) = failpoints.directory.clone() {
            let failpoints = Arc::clone(&failpoints);
            tokio::spawn(async move {
                loop {
                    failpoints.arm_from(&directory);
                    tokio::time::sleep(LOOK).await;
                }
            });
        }
        Ok(Some(failpoints))
    }

    /// Arms what the directory lists, once.
    fn arm_from(&self, directory: &Path) {
        let file = directory.join(ARM);
        let Ok(listed) = fs::read_to_string(&file) else {
            return;
        };
        match parse(listed.trim()) {
            Ok(more) => self.lock().extend(more),
            Err(error) => tracing::error!(error, "a failpoint was not armed"),
        }
        if let Err(error) = fs::remove_file(&file) {
            tracing::error!(%error, "failpoints could not be taken from {}", file.display());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Failpoint>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down that one fires: whoever armed it waits for that.
    fn record(&self, point: Point, action: Action) {
        let Some(directory) = &self.directory else {
            return;
        };
        let file = fs::File::options()
            .create(true)
            .append(true)
            .open(directory.join(FIRED));
        let written =
            file.and_then(|mut file| file.write_all(format!("{point}={action}\n").as_bytes()));
        if let Err(error) = written {
            tracing::error!(%error, "a failpoint could not be recorded");
        }
    }

    /// Counts a point, and takes the action that is due.
    fn due(&self, point: Point) -> Option<Action> {
        let mut all = self.lock();
        let mut due = None;
        for failpoint in all.iter_mut().filter(|f| f.left > 0 && f.is_at(point)) {
            failpoint.left -= 1;
            if failpoint.left == 0 {
                due = Some(failpoint.action);
            }
        }
        all.retain(|failpoint| failpoint.left > 0);
        due
    }
}

fn parse(listed: &str) -> Result<Vec<Failpoint>, String> {
    let entries = listed.split(',').map(str::trim);
    let wrong = |entry: &str| {
        format!(
            "{VARIABLE}: {entry:?} is no failpoint such as commit::before:3=kill or \
             fold::after:0=panic@5; a point is takeover, fold, write, copy, index, commit, send or \
             answer, before or after, and a partition or * for any; an action is panic, error, delay(MILLISECONDS), \
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
    // Any partition's number makes the place readable.
    let (place, any) = match point.strip_suffix(":*") {
        Some(place) => (format!("{place}:0"), true),
        None => (point.to_owned(), false),
    };
    let point = Point::parse(&place)?;
    Some(Failpoint {
        word: point.word,
        edge: point.edge,
        partition: (!any).then_some(point.partition),
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
        self.record(point, action);
        match action {
            Action::Panic => panic!("failpoint {point}"),
            Action::Error => return Err(format!("failpoint {point}")),
            Action::Delay(delay) => tokio::time::sleep(delay).await,
            Action::Kill => signal_self(Signal::KILL),
            Action::Stop => {
                signal_self(Signal::STOP);
                // Whichever thread is nearest takes the signal, and this one would go on until it
                // is reached: a commit would be on its way that was to be stopped in front of.
                // The thread sleeps rather than the task, so that nothing is done here meanwhile.
                std::thread::sleep(STANDS_WITHIN);
            }
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
        let read = parse("commit::before:3=kill, fold::after:*=delay(20)@5").expect("understood");
        let told: Vec<_> = read
            .iter()
            .map(|f| (f.word, f.edge, f.partition, f.action, f.left))
            .collect();
        let delay = Action::Delay(Duration::from_millis(20));
        assert_eq!(
            told,
            [
                (
                    Word::Commit,
                    Edge::Before,
                    Some(Partition(3)),
                    Action::Kill,
                    1
                ),
                (Word::Fold, Edge::After, None, delay, 5),
            ]
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
        let point = |text| Point::parse(text).expect("a point");
        let (point, other) = (point("fold::after:0"), point("fold::after:1"));
        let failpoints = Failpoints::default();
        failpoints
            .lock()
            .extend(parse("fold::after:0=error@2").expect("understood"));
        assert_eq!(failpoints.due(point), None);
        assert_eq!(failpoints.due(other), None);
        assert_eq!(failpoints.due(point), Some(Action::Error));
        assert_eq!(failpoints.due(point), None);
    }

    #[test]
    fn what_a_directory_lists_is_armed_once_and_told_when_it_fires() {
        let directory = refold_local::testing::ScratchDir::new("refold-arm").expect("a directory");
        let failpoints = Failpoints {
            directory: Some(directory.path().to_owned()),
            ..Failpoints::default()
        };
        let point = Point::parse("send::after:6").expect("a point");
        failpoints.arm_from(directory.path());
        assert_eq!(failpoints.due(point), None);
        fs::write(directory.path().join(ARM), "send::after:*=panic@2\n").expect("written");
        failpoints.arm_from(directory.path());
        failpoints.arm_from(directory.path());
        assert_eq!(failpoints.due(point), None);
        let due = failpoints.due(point).expect("the second time");
        failpoints.record(point, due);
        assert_eq!(failpoints.due(point), None);
        let fired = fs::read_to_string(directory.path().join(FIRED)).expect("a record");
        assert_eq!(fired, "send::after:6=panic\n");
    }
}
