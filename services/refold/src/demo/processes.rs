//! The processes of a demo or a benchmark: this same binary, once per role.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;

use refold_bench::accounts;
use rustix::process::Signal;
use tokio::process::Child;
use tokio::process::Command;

use crate::cli::Failure;
use crate::cli::Kind;

/// The variable that tells a role whose it is: the process id of its driver.
const DRIVER_VARIABLE: &str = "REFOLD_DRIVER";

/// What a process of this binary does first: where a driver has started it, it leads a session of
/// its own, for its share of the processors (`refold_local::session`), and ends with its driver
/// however that ends, because nothing of a terminal reaches it any more.
///
/// # Errors
/// When its driver is gone already.
pub(crate) fn follow_driver() -> Result<(), Failure> {
    let Some(driver) = std::env::var(DRIVER_VARIABLE).ok() else {
        return Ok(());
    };
    let wrong = |error| Failure::error("follow the driver of this process", error);
    // Refused to a process that leads a group; a role is none.
    let _ = rustix::process::setsid();
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(wrong)?;
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if parent.as_ref() == Some(&driver) {
        return Ok(());
    }
    // It ended before its death was to be signalled.
    let gone = format!("the process {driver}, which started this one, is gone");
    Err(Failure::new(Kind::Error, gone))
}

/// A process of this binary. It is killed when the value is dropped, and when this process ends
/// in any way: it follows the thread that starts it, so none that ends before the process may.
#[derive(Debug)]
pub(crate) struct Role {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Role {
    /// Starts `refold ARGS`, with its stderr appended to `LOGS/NAME.log` and
    /// its stdout there too unless it is `piped`, and its stdin with it.
    pub(crate) fn start(
        name: &str,
        logs: &Path,
        args: &[String],
        piped: bool,
    ) -> Result<Self, Failure> {
        Self::spawn(name, logs, args, &[], piped)
    }

    /// The same with variables in its environment.
    pub(crate) fn start_in(
        name: &str,
        logs: &Path,
        args: &[String],
        env: &[(&str, &Path)],
    ) -> Result<Self, Failure> {
        Self::spawn(name, logs, args, env, false)
    }

    fn spawn(
        name: &str,
        logs: &Path,
        args: &[String],
        env: &[(&str, &Path)],
        piped: bool,
    ) -> Result<Self, Failure> {
        let doing = format!("start {name}");
        let wrong = |error: std::io::Error| Failure::error(&doing, error);
        let log = logs.join(format!("{name}.log"));
        let out = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(wrong)?;
        let stdout = match piped {
            true => Stdio::piped(),
            false => Stdio::from(out.try_clone().map_err(wrong)?),
        };
        let child = Command::new(std::env::current_exe().map_err(wrong)?)
            .args(args)
            .envs(env.iter().copied())
            .env(DRIVER_VARIABLE, std::process::id().to_string())
            .stdin(match piped {
                true => Stdio::piped(),
                false => Stdio::null(),
            })
            .stdout(stdout)
            .stderr(Stdio::from(out))
            .kill_on_drop(true)
            .spawn()
            .map_err(wrong)?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// What it was started as.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its process id; `None` once it was waited for.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sets the niceness of its session, as [`refold_local::session::set_nice`].
    ///
    /// # Errors
    /// Those of that function, and that it was waited for.
    pub(crate) fn set_nice(&self, nice: u8) -> Result<(), Failure> {
        let gone = || Failure::new(Kind::Error, format!("{} has ended", self.name));
        let pid = self.pid().ok_or_else(gone)?;
        refold_local::session::set_nice(pid, nice)
            .map_err(|error| Failure::error(&format!("let {} give way", self.name), error))
    }

    /// Most resident memory so far; 0 when it is gone.
    pub(crate) fn peak_memory_bytes(&self) -> u64 {
        let peak = self.pid().and_then(accounts::peak_memory_bytes);
        peak.unwrap_or_default()
    }

    /// Takes the piped stdout.
    pub(crate) fn stdout(&mut self) -> Option<tokio::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Takes the piped stdin.
    pub(crate) fn stdin(&mut self) -> Option<tokio::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Whether the process has ended by itself, as an error with its last words.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.ended(&status.to_string())),
            Err(error) => Err(Failure::error(&format!("look at {}", self.name), error)),
        }
    }

    /// Waits for the process to finish its work.
    pub(crate) async fn finish(&mut self, bound: Duration) -> Result<(), Failure> {
        match tokio::time::timeout(bound, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(self.ended(&status.to_string())),
            Ok(Err(error)) => Err(Failure::error(&format!("wait for {}", self.name), error)),
            Err(_) => Err(self.ended(&format!("no end within {} s", bound.as_secs()))),
        }
    }

    /// Waits for its end, however it ends; `None` when it goes on for longer than `bound`.
    pub(crate) async fn ended_within(
        &mut self,
        bound: Duration,
    ) -> Result<Option<ExitStatus>, Failure> {
        match tokio::time::timeout(bound, self.child.wait()).await {
            Ok(Ok(status)) => Ok(Some(status)),
            Ok(Err(error)) => Err(Failure::error(&format!("wait for {}", self.name), error)),
            Err(_) => Ok(None),
        }
    }

    /// Its exit code, once it has ended by itself.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let ended = self.child.try_wait().ok().flatten();
        ended.and_then(|status| status.code())
    }

    /// Everything that it has said so far.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The directory of each of its threads; none once it was waited for.
    fn tasks(&self) -> impl Iterator<Item = PathBuf> {
        let tasks = self
            .pid()
            .and_then(|pid| std::fs::read_dir(format!("/proc/{pid}/task")).ok());
        tasks
            .into_iter()
            .flatten()
            .flatten()
            .map(|task| task.path())
    }

    /// Whether each of its threads stands still behind a SIGSTOP.
    pub(crate) fn is_stopped(&self) -> bool {
        let mut states = self.tasks().map(|task| state(&task)).peekable();
        states.peek().is_some() && states.all(|state| state == Some('T'))
    }

    /// Each of its threads: name, state, and the system call that it waits in, where the kernel
    /// tells.
    pub(crate) fn threads(&self) -> Vec<String> {
        let told = |task: PathBuf, what| std::fs::read_to_string(task.join(what));
        let thread = |task: PathBuf| {
            let name = told(task.clone(), "comm").unwrap_or_default();
            let state = state(&task).unwrap_or('?');
            let waits = told(task, "wchan").unwrap_or_default();
            format!("{} {state} {}", name.trim(), waits.trim())
        };
        self.tasks().map(thread).collect()
    }

    /// SIGKILL, at once.
    pub(crate) async fn kill(&mut self) -> Result<(), Failure> {
        let killed = self.child.kill().await;
        killed.map_err(|error| Failure::error(&format!("kill {}", self.name), error))
    }

    /// SIGSTOP: it stands still, and so does what it has begun.
    pub(crate) fn pause(&self) -> Result<(), Failure> {
        self.signal(Signal::STOP).map(drop)
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) -> Result<(), Failure> {
        self.signal(Signal::CONT).map(drop)
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) -> Result<(), Failure> {
        self.signal(Signal::TERM).map(drop)
    }

    /// SIGTERM, and the wait for the drain.
    pub(crate) async fn stop(&mut self) -> Result<(), Failure> {
        match self.signal(Signal::TERM)? {
            true => self.finish(Duration::from_secs(20)).await,
            false => Ok(()),
        }
    }

    /// Sends a signal; `false` when the process was waited for.
    fn signal(&self, signal: Signal) -> Result<bool, Failure> {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) else {
            return Ok(false);
        };
        let sent = rustix::process::kill_process(pid, signal);
        sent.map_err(|error| Failure::error(&format!("signal {}", self.name), error))?;
        Ok(true)
    }

    fn ended(&self, how: &str) -> Failure {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(6)..].join("\n  ");
        let (name, path) = (&self.name, self.log.display());
        Failure::error(
            &format!("{name} ended ({how})"),
            format!("its last words, from {path}:\n  {last}"),
        )
    }
}

/// The state of a thread, as `proc_pid_stat(5)` names it.
fn state(task: &Path) -> Option<char> {
    let stat = std::fs::read_to_string(task.join("stat")).ok()?;
    // It stands behind the name, which may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.chars().next()
}

/// An address on loopback whose port was free a moment ago.
pub(crate) fn free_address() -> Result<String, Failure> {
    let bound = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = bound.map_err(|error| Failure::error("find a free port", error))?;
    Ok(address.to_string())
}
