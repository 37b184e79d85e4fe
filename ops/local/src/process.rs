//! Server processes: started apart from the terminal, identified beyond their pid, ended gently.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::machine::{self, Identity};
use crate::session;
use crate::{Error, Result};

/// How often a condition is looked at again while waiting for it.
const POLL: Duration = Duration::from_millis(25);

/// Signals this crate sends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    Terminate,
    /// Postgres' fast shutdown: sessions are disconnected instead of waited for.
    Interrupt,
    /// Postgres' immediate shutdown: no checkpoint, recovery at the next start.
    Quit,
    Kill,
    /// Stands still until it is continued.
    Stop,
    Continue,
}

impl Signal {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Terminate => "TERM",
            Self::Interrupt => "INT",
            Self::Quit => "QUIT",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }
}

/// What to start.
#[derive(Debug)]
pub(crate) struct Launch {
    /// For messages, e.g. `"Kafka node 1"`.
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(String, OsString)>,
    pub(crate) working_dir: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) identity: Option<Identity>,
}

/// A process that was started by us, now or by an earlier run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerProcess {
    pub(crate) name: String,
    pub(crate) pid: u32,
    /// Clock ticks between boot and the start of the process. With the boot id it tells our
    /// process from a later one that got the same pid.
    pub(crate) start_ticks: u64,
    pub(crate) boot_id: String,
    pub(crate) log: PathBuf,
}

impl ServerProcess {
    /// Starts a server in its own session with its output in the log file.
    pub(crate) fn start(launch: Launch) -> Result<Self> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&launch.log)
            .map_err(|e| Error::io(format_args!("could not open {}", launch.log.display()), &e))?;
        let errors = log
            .try_clone()
            .map_err(|e| Error::io("could not duplicate a log handle", &e))?;
        // Out of the terminal's foreground group, too: Ctrl-C and a closed terminal do not
        // reach the server, only `down` or the guard ends it.
        let mut command = session::command(&launch.program);
        command
            .args(&launch.args)
            .envs(launch.env)
            .current_dir(&launch.working_dir)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        if let Some(identity) = launch.identity {
            command.uid(identity.uid).gid(identity.gid);
        }
        let mut child = command.spawn().map_err(|e| {
            let what = format_args!("could not start {}", launch.program.display()).to_string();
            Error::io(what, &e)
        })?;
        let pid = child.id();
        // Read before anybody waits for the child: until then even a dead one keeps its entry.
        let start_ticks = read_stat(pid).map(|stat| stat.start_ticks);
        thread::spawn(move || child.wait());
        let start_ticks = start_ticks.ok_or_else(|| {
            Error::new(format!("{} vanished while it started", launch.name)).with_log(&launch.log)
        })?;
        Ok(Self {
            name: launch.name,
            pid,
            start_ticks,
            boot_id: machine::boot_id(),
            log: launch.log,
        })
    }

    /// Whether this very process is alive (a zombie is not).
    pub(crate) fn is_running(&self) -> bool {
        self.boot_id == machine::boot_id()
            && read_stat(self.pid)
                .is_some_and(|stat| stat.start_ticks == self.start_ticks && !stat.is_zombie)
    }

    /// Whether nothing is left of it. One that has ended may still hold its ports while the last of
    /// its threads ends.
    pub(crate) fn is_gone(&self) -> bool {
        self.boot_id != machine::boot_id()
            || read_stat(self.pid).is_none_or(|stat| stat.start_ticks != self.start_ticks)
    }

    /// Sends a signal, unless the process is gone or its pid belongs to another one now.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.is_running() {
            send(&[self.pid], signal);
        }
    }

    /// Stops the process and the children that it has then: nothing of the server moves.
    pub(crate) fn pause(&self) {
        self.signal(Signal::Stop);
        // Listed when it starts no more.
        signal_all(&self.children(), Signal::Stop);
    }

    /// Undoes [`Self::pause`]. One that runs is not touched by it.
    pub(crate) fn resume(&self) {
        signal_all(&self.children(), Signal::Continue);
        self.signal(Signal::Continue);
    }

    /// The processes that its main thread has started and that are alive.
    pub(crate) fn children(&self) -> Vec<Self> {
        if !self.is_running() {
            return Vec::new();
        }
        let pid = self.pid;
        let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let listed = listed.unwrap_or_default();
        let child = |pid: &str| {
            let pid = pid.parse().ok()?;
            Some(Self {
                name: format!("a child of {}", self.name),
                pid,
                start_ticks: read_stat(pid)?.start_ticks,
                boot_id: self.boot_id.clone(),
                log: self.log.clone(),
            })
        };
        listed.split_whitespace().filter_map(child).collect()
    }

    /// Sends `first`, waits up to `patience`, then kills; returns when the process is gone.
    pub(crate) fn stop(&self, first: Signal, patience: Duration) -> Result<()> {
        self.signal(first);
        // One that stands still could not act on it.
        self.resume();
        if wait_until(patience, || !self.is_running()) {
            return Ok(());
        }
        self.signal(Signal::Kill);
        if wait_until(Duration::from_secs(10), || !self.is_running()) {
            return Ok(());
        }
        Err(Error::new(format!(
            "{} (pid {}) did not end after SIGKILL",
            self.name, self.pid
        )))
    }

    /// An error about this server that carries the end of its log.
    pub(crate) fn failure(&self, what: &str) -> Error {
        Error::new(format!("{} {what}", self.name)).with_log(&self.log)
    }

    /// Waits until `ready` answers, the process dies, or `patience` is over.
    pub(crate) fn await_ready(
        &self,
        patience: Duration,
        mut ready: impl FnMut() -> bool,
    ) -> Result<()> {
        let mut died = false;
        let settled = wait_until(patience, || {
            died = !self.is_running();
            died || ready()
        });
        match (settled, died) {
            (true, false) => Ok(()),
            (_, true) => Err(self.failure("ended while it started")),
            (false, false) => Err(self.failure(&format!(
                "was not ready after {} seconds",
                patience.as_secs()
            ))),
        }
    }
}

/// Polls `condition` until it holds or the time is over; tells whether it held.
pub(crate) fn wait_until(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(POLL);
    }
}

/// Sends a signal to those that are alive.
pub(crate) fn signal_all(processes: &[ServerProcess], signal: Signal) {
    let alive = processes.iter().filter(|process| process.is_running());
    let pids: Vec<u32> = alive.map(|process| process.pid).collect();
    if !pids.is_empty() {
        send(&pids, signal);
    }
}

struct Stat {
    start_ticks: u64,
    is_zombie: bool,
}

fn read_stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `pid (comm) state ppid ...`: the name may hold spaces and parentheses, so fields count from
/// the last parenthesis. State is field 3, start time field 22.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    let start_ticks = fields.nth(18)?.parse().ok()?;
    Some(Stat {
        start_ticks,
        is_zombie: matches!(state, "Z" | "X"),
    })
}

/// The shell's builtin `kill`: it is there on the barest system, and needs no `unsafe`.
fn send(pids: &[u32], signal: Signal) {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    let sent = Command::new("/bin/sh")
        .arg("-c")
        .arg(format!("kill -{} {}", signal.name(), pids.join(" ")))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    // A process that ended in between is what was wanted; the caller waits for exactly that.
    drop(sent);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> ServerProcess {
        let log = std::env::temp_dir().join(format!("refold-sleeper-{}.log", std::process::id()));
        ServerProcess::start(Launch {
            name: "sleeper".into(),
            program: "/bin/sleep".into(),
            args: vec!["600".into()],
            env: Vec::new(),
            working_dir: std::env::temp_dir(),
            log,
            identity: None,
        })
        .expect("sleep starts")
    }

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let text = "7 (a b) c)) S 1 7 7 0 -1 4 1 0 0 0 1 2 0 0 20 0 1 0 4242 9 9";
        let stat = parse_stat(text).expect("a stat line");
        assert_eq!(stat.start_ticks, 4242);
        assert!(!stat.is_zombie);
    }

    #[test]
    fn a_started_process_runs_until_it_is_stopped() {
        let process = sleeper();
        assert!(process.is_running());
        process
            .stop(Signal::Terminate, Duration::from_secs(5))
            .expect("it stops");
        assert!(!process.is_running());
    }

    #[test]
    fn a_reused_pid_is_neither_seen_as_running_nor_signalled() {
        let process = sleeper();
        let impostor = ServerProcess {
            start_ticks: process.start_ticks + 1,
            ..process.clone()
        };
        assert!(!impostor.is_running());
        impostor
            .stop(Signal::Kill, Duration::from_secs(1))
            .expect("nothing to do");
        assert!(process.is_running());
        process
            .stop(Signal::Kill, Duration::from_secs(5))
            .expect("it stops");
    }
}
