//! Ends servers when the process that owns them is gone, even by SIGKILL.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use crate::process::{ServerProcess, Signal};
use crate::{Error, Result};

/// A shell that waits for the end of its standard input. Only the owner holds the other end of
/// that pipe, so the kernel closes it however the owner dies; the shell then signals the servers
/// it was told about, if pid and start time still match.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
}

/// Arguments are triples of pid, start time and signal. `read` fails only at end of file.
const SCRIPT: &str = r#"
while read -r _; do :; done
while [ $# -ge 3 ]; do
  if read -r stat 2>/dev/null </proc/$1/stat; then
    # field 22 of the line is field 20 of what follows the name
    found=$(set -- ${stat##*) }; shift 19; echo "$1")
    if [ "$found" = "$2" ]; then
      kill -$3 "$1" 2>/dev/null
      # One that stands still, or whose children do, cannot act on it.
      children=
      read -r children 2>/dev/null </proc/$1/task/$1/children
      kill -CONT $children "$1" 2>/dev/null
    fi
  fi
  shift 3
done
"#;

impl Watchdog {
    /// Watches over `servers` until dropped.
    pub(crate) fn over<'a>(
        servers: impl IntoIterator<Item = (&'a ServerProcess, Signal)>,
    ) -> Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT, "refold-watchdog"]);
        for (server, signal) in servers {
            command.arg(server.pid.to_string());
            command.arg(server.start_ticks.to_string());
            command.arg(signal.name());
        }
        let shell = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|e| Error::io("could not start the watchdog shell", &e))?;
        Ok(Self { shell })
    }

    /// Ends the watch and leaves the servers running.
    pub(crate) fn dismiss(mut self) {
        // Killed before its input closes, it cannot act; one that is gone already did nothing.
        drop(self.shell.kill());
    }
}

impl Drop for Watchdog {
    /// Closes the pipe and waits: whatever is still running is signalled here.
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // The shell ends by itself; a failed wait leaves nothing that could be done here.
        drop(self.shell.wait());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::process::{Launch, wait_until};

    fn sleeper(name: &str) -> ServerProcess {
        ServerProcess::start(Launch {
            name: name.into(),
            program: "/bin/sleep".into(),
            args: vec!["600".into()],
            env: Vec::new(),
            working_dir: std::env::temp_dir(),
            log: std::env::temp_dir().join(format!("refold-{name}-{}.log", std::process::id())),
            identity: None,
        })
        .expect("sleep starts")
    }

    #[test]
    fn servers_end_when_the_pipe_of_their_owner_closes() {
        let process = sleeper("watched");
        let watchdog = Watchdog::over([(&process, Signal::Kill)]).expect("a shell");
        assert!(process.is_running());
        drop(watchdog);
        assert!(wait_until(Duration::from_secs(5), || !process.is_running()));
    }

    #[test]
    fn a_process_with_another_start_time_is_spared() {
        let process = sleeper("spared");
        let impostor = ServerProcess {
            start_ticks: process.start_ticks + 1,
            ..process.clone()
        };
        drop(Watchdog::over([(&impostor, Signal::Kill)]).expect("a shell"));
        assert!(process.is_running());
        process
            .stop(Signal::Kill, Duration::from_secs(5))
            .expect("it stops");
    }
}
