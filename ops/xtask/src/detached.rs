//! Experiments that outlive the terminal: started apart from it, with a log and a state that
//! can be asked, and started again where they stopped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::outcome::{Failure, Outcome};
use crate::workspace::Workspace;

/// Names the experiment in the environment of its processes: a later process that got the
/// same pid does not carry it.
const MARK: &str = "REFOLD_EXPERIMENT";

/// Lines of the log that the status shows.
const LAST_LINES: usize = 12;

/// Where the log and the state of one experiment are.
pub(crate) struct Detached {
    name: String,
    dir: PathBuf,
}

/// What is known of an experiment.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// It was never started.
    Unknown,
    /// It runs as this process.
    Running(u32),
    /// It ended with this exit code.
    Ended(i32),
    /// It is gone and left no exit code: killed, or the machine went down.
    Gone,
}

impl Detached {
    pub(crate) fn of(workspace: &Workspace, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            dir: workspace.path(".refold/experiments").join(name),
        }
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn state(&self) -> State {
        let read = |name: &str| fs::read_to_string(self.dir.join(name)).ok();
        let Some(pid) = read("pid").and_then(|text| text.trim().parse().ok()) else {
            return State::Unknown;
        };
        if let Some(code) = read("exit").and_then(|text| text.trim().parse().ok()) {
            return State::Ended(code);
        }
        match self.carries_mark(pid) {
            true => State::Running(pid),
            false => State::Gone,
        }
    }

    fn carries_mark(&self, pid: u32) -> bool {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let wanted = format!("{MARK}={}", self.name);
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == wanted.as_bytes())
    }

    /// Starts a command line in a session of its own. Its output is appended to the log, its
    /// exit code is written down.
    pub(crate) fn start(&self, mut command: Command, line: &str) -> Outcome {
        if let State::Running(pid) = self.state() {
            return Err(Failure::failed(format!(
                "{} runs already as process {pid}; look at it with --status",
                self.name
            )));
        }
        fs::create_dir_all(&self.dir).map_err(|e| self.failed("create", &self.dir, &e))?;
        let exit = self.dir.join("exit");
        if exit.exists() {
            fs::remove_file(&exit).map_err(|e| self.failed("remove", &exit, &e))?;
        }
        let log = File::options().create(true).append(true).open(self.log());
        let log = log.map_err(|e| self.failed("open", &self.log(), &e))?;
        let errors = log
            .try_clone()
            .map_err(|e| self.failed("open", &self.log(), &e))?;
        let child = command
            .arg(format!("({line}); echo $? > {}", quoted(&exit)))
            .env(MARK, &self.name)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|e| Failure::failed(format!("could not start {}: {e}", self.name)))?;
        let pid = self.dir.join("pid");
        fs::write(&pid, format!("{}\n", child.id())).map_err(|e| self.failed("write", &pid, &e))?;
        println!("{} runs as process {}", self.name, child.id());
        println!("its log: {}", self.log().display());
        println!("ask with: cargo x experiment {} --status", self.name);
        Ok(())
    }

    /// Tells whether it runs, how it ended, and the end of its log.
    pub(crate) fn status(&self) -> Outcome {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        for line in &lines[lines.len().saturating_sub(LAST_LINES)..] {
            println!("  {line}");
        }
        let name = &self.name;
        match self.state() {
            State::Unknown => {
                println!("{name} was not started with --detach");
                Ok(())
            }
            State::Running(pid) => {
                println!("{name} runs as process {pid}");
                Ok(())
            }
            State::Ended(0) => {
                println!("{name} is done");
                Ok(())
            }
            State::Ended(code) => {
                println!("{name} ended with exit code {code}; go on with --resume");
                Err(Failure::Exit(code))
            }
            State::Gone => Err(Failure::failed(format!(
                "{name} is gone without an exit code; go on with --resume"
            ))),
        }
    }

    /// Whether there is something to go on with.
    pub(crate) fn was_started(&self) -> bool {
        self.state() != State::Unknown
    }

    fn failed(&self, what: &str, path: &Path, error: &std::io::Error) -> Failure {
        let name = &self.name;
        Failure::failed(format!(
            "{name}: could not {what} {}: {error}",
            path.display()
        ))
    }
}

/// A path as one word of a shell's command line.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use refold_local::testing::{ScratchDir, wait_until};

    use super::*;

    fn shell() -> Command {
        let mut command = Command::new("/bin/sh");
        command.arg("-c");
        command
    }

    fn detached(scratch: &ScratchDir) -> Detached {
        Detached {
            name: "test".to_owned(),
            dir: scratch.path().join("test"),
        }
    }

    #[test]
    fn an_exit_code_outlives_the_process() {
        let scratch = ScratchDir::new("refold-detached").expect("a directory");
        let test = detached(&scratch);
        assert!(!test.was_started());
        test.start(shell(), "echo said; exit 3").expect("starts");
        let patience = Duration::from_secs(30);
        assert!(wait_until(patience, || test.state() == State::Ended(3)));
        assert!(
            fs::read_to_string(test.log())
                .expect("a log")
                .contains("said")
        );
        assert!(matches!(test.status(), Err(Failure::Exit(3))));
        test.start(shell(), "true").expect("starts again");
        assert!(wait_until(patience, || test.state() == State::Ended(0)));
    }

    #[test]
    fn a_running_one_is_not_started_twice_and_a_foreign_process_is_not_it() {
        let scratch = ScratchDir::new("refold-detached").expect("a directory");
        let test = detached(&scratch);
        let hold = scratch.path().join("hold");
        fs::write(&hold, "").expect("a file");
        let line = format!("while test -e {}; do sleep 0.05; done", quoted(&hold));
        test.start(shell(), &line).expect("starts");
        assert!(wait_until(Duration::from_secs(30), || matches!(
            test.state(),
            State::Running(_)
        )));
        assert!(test.start(shell(), "true").is_err());
        fs::remove_file(&hold).expect("removed");
        assert!(wait_until(Duration::from_secs(30), || test.state() == State::Ended(0)));
        // This process carries no mark.
        fs::remove_file(test.dir.join("exit")).expect("removed");
        fs::write(test.dir.join("pid"), std::process::id().to_string()).expect("written");
        assert_eq!(test.state(), State::Gone);
    }

    #[test]
    fn a_path_with_a_quote_is_one_word() {
        assert_eq!(quoted(Path::new("/a b/c'd")), "'/a b/c'\\''d'");
    }
}
