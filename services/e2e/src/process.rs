//! A process of the binary under test.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use refold_local::http_get;
use refold_local::testing::wait_until;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;

use crate::binary::refold_binary;
use crate::leash;
use crate::lines::Lines;
use crate::metrics::Metrics;

/// How long a process may take to say where it listens.
const START: Duration = Duration::from_secs(20);
/// How long a signal that cannot be refused may take.
const SIGNALLED: Duration = Duration::from_secs(5);

/// A command line of the binary that was not started yet.
#[derive(Debug, Clone)]
pub struct Launch {
    program: Option<PathBuf>,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl Launch {
    /// `refold ARGS`.
    pub fn new<S: Into<String>>(args: impl IntoIterator<Item = S>) -> Self {
        Self {
            program: None,
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
        }
    }

    /// Of another binary than the one that this checkout builds.
    #[must_use]
    pub fn of(mut self, program: &Path) -> Self {
        self.program = Some(program.to_owned());
        self
    }

    /// With a further argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// With further arguments.
    #[must_use]
    pub fn args<S: Into<String>>(self, args: impl IntoIterator<Item = S>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// With a further flag and its value, `flag` without dashes.
    #[must_use]
    pub fn flag(self, flag: &str, value: impl ToString) -> Self {
        self.arg(format!("--{flag}={}", value.to_string()))
    }

    /// With a variable in the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Below the limits that a shell's `ulimit` of these arguments sets, such as `-n 64`.
    ///
    /// # Panics
    /// When the binary cannot be built.
    #[must_use]
    pub fn limited(mut self, limits: &str) -> Self {
        let program = self.program.as_deref().unwrap_or_else(|| refold_binary());
        let script = format!("ulimit {limits} && exec \"$0\" \"$@\"");
        let program = program.to_string_lossy().into_owned();
        self.args.splice(0..0, ["-c".to_owned(), script, program]);
        self.program = Some(PathBuf::from("/bin/sh"));
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// When the binary cannot be built or started.
    pub fn start(&self) -> Process {
        let program = self.program.as_deref().unwrap_or_else(|| refold_binary());
        let mut child = Command::new(program)
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the refold binary starts");
        leash::hold(child.id());
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let stderr = child.stderr.take().expect("stderr is a pipe");
        Process {
            what: self.args.join(" "),
            child,
            status: None,
            stdout: Lines::of(stdout),
            stderr: Lines::of(stderr),
            address: OnceLock::new(),
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    fn of(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, signal) => Self::Signal(signal.unwrap_or_default()),
        }
    }
}

/// A process that was started. It is killed when the value is dropped.
#[derive(Debug)]
pub struct Process {
    what: String,
    child: Child,
    status: Option<Exit>,
    stdout: Lines,
    stderr: Lines,
    address: OnceLock<String>,
}

impl Process {
    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it writes to stderr.
    pub fn stderr(&self) -> &Lines {
        &self.stderr
    }

    /// What it writes to stdout.
    pub fn stdout(&self) -> &Lines {
        &self.stdout
    }

    /// Waits for a line on stderr that contains `part`.
    ///
    /// # Panics
    /// When it does not come.
    pub fn wait_for_line(&self, part: &str, bound: Duration) -> String {
        self.stderr
            .wait_for(part, bound)
            .unwrap_or_else(|| self.fail(&format!("no line with {part:?} within {bound:?}")))
    }

    /// SIGKILL, and its end.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let exit = self.exit(SIGNALLED);
        assert_eq!(exit, Exit::Signal(9), "{}", self.what);
    }

    /// SIGSTOP, and until it stands still.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        let stopped = wait_until(SIGNALLED, || leash::state(self.pid()) == Some('T'));
        assert!(stopped, "{} was not stopped", self.what);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        // The child was not waited for, so the pid is still its own.
        assert!(self.status.is_none(), "{} has ended already", self.what);
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a pid"), signal).expect("a child can be signalled");
    }

    /// How it ended, if it has.
    pub fn try_exit(&mut self) -> Option<Exit> {
        if self.status.is_none() {
            let status = self.child.try_wait().expect("a child can be waited for");
            self.status = status.map(Exit::of);
            if self.status.is_some() {
                self.stderr.wait_for_end(SIGNALLED);
                self.stdout.wait_for_end(SIGNALLED);
            }
        }
        self.status
    }

    /// Waits for its end. All of its output is read then.
    ///
    /// # Panics
    /// When it does not end.
    pub fn exit(&mut self, bound: Duration) -> Exit {
        if !wait_until(bound, || self.try_exit().is_some()) {
            self.fail(&format!("still running after {bound:?}"));
        }
        self.status.unwrap_or(Exit::Signal(0))
    }

    /// Waits for its end with code 0.
    ///
    /// # Panics
    /// When it ends otherwise, or does not end.
    pub fn succeed(&mut self, bound: Duration) {
        let exit = self.exit(bound);
        if exit != Exit::Code(0) {
            self.fail(&format!("ended with {exit:?}"));
        }
    }

    /// SIGTERM, and its end with code 0.
    ///
    /// # Panics
    /// When it ends otherwise, or does not end.
    pub fn drain(&mut self, bound: Duration) {
        self.terminate();
        self.succeed(bound);
    }

    /// Waits for its end with a code other than 0 and returns code and last sentence.
    ///
    /// # Panics
    /// When it succeeds, is ended by a signal, or does not end.
    pub fn refuse(&mut self, bound: Duration) -> (i32, String) {
        match self.exit(bound) {
            Exit::Code(code) if code != 0 => {
                let said = self.stderr.with("refold: ").pop();
                (code, said.unwrap_or_else(|| self.stderr.text()))
            }
            exit => self.fail(&format!("ended with {exit:?}")),
        }
    }

    /// `host:port` of its metrics and health.
    ///
    /// # Panics
    /// When it does not say where it listens.
    pub fn address(&self) -> &str {
        self.address.get_or_init(|| {
            let line = self.wait_for_line("address=", START);
            let address = line.split("address=").nth(1).unwrap_or_default();
            address
                .split_whitespace()
                .next()
                .unwrap_or_default()
                .to_owned()
        })
    }

    /// `GET path` on its own port: status and body.
    pub fn get(&self, path: &str) -> Result<(u16, String), refold_local::Error> {
        http_get(self.address(), path)
    }

    /// Its metrics now; `None` while it cannot be asked.
    pub fn metrics(&self) -> Option<Metrics> {
        match self.get("/metrics") {
            Ok((200, body)) => Some(Metrics::new(body)),
            _ => None,
        }
    }

    /// The value of a count in the last line of a projector, such as `applied`.
    ///
    /// # Panics
    /// When the projector has not ended, or counts something else.
    pub fn last_count(&self, count: &str) -> i64 {
        let line = self.wait_for_line("process ended version", START);
        let value = line.split(&format!(" {count}=")).nth(1);
        let value = value.and_then(|rest| rest.split_whitespace().next());
        let value = value.and_then(|text| text.parse().ok());
        value.unwrap_or_else(|| self.fail(&format!("does not count {count}: {line}")))
    }

    /// Ends the test with what the process said last.
    fn fail(&self, why: &str) -> ! {
        let lines = self.stderr.all();
        let last = lines[lines.len().saturating_sub(30)..].join("\n  ");
        panic!("refold {}: {why}; its last words:\n  {last}", self.what);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.status.is_none() {
            // Gone by itself in the meantime is fine as well.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}
