//! A session of its own for every server that is started here.
//!
//! Linux shares the processors out among sessions before it does among their processes (autogroup,
//! sched(7)), wherever no control groups are set up. Postgres gives each backend a session. A
//! process that stays in the session of whoever started it shares one portion with everything else
//! that was started there, and each backend has as much as all of these together: an api beside
//! a load driver then waits for tens of milliseconds whenever a few backends are busy. Services
//! have sessions or control groups of their own, and so have these servers.

use std::path::Path;
use std::process::Command;

use crate::locate;

/// A command that starts `program` as the leader of a new session, which is also a process group.
/// Where there is no `setsid` (util-linux) it is the leader of a process group only.
pub fn command(program: &Path) -> Command {
    // A program that is not there is for the caller to hear of, and not for setsid to tell a log.
    match locate::on_path("setsid").filter(|_| program.exists()) {
        Some(setsid) => {
            let mut command = Command::new(setsid);
            command.arg(program);
            command
        }
        None => {
            use std::os::unix::process::CommandExt as _;
            let mut command = Command::new(program);
            command.process_group(0);
            command
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_leads_a_session_and_keeps_the_pid_that_it_was_started_with() {
        let mut child = command(Path::new("/bin/sleep"))
            .arg("60")
            .spawn()
            .expect("a process");
        let pid = child.id();
        // pid (name) state ppid pgrp session: the name changes when setsid becomes the program.
        let seen = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let rest = stat.rsplit_once(") ").map(|(name, rest)| {
                let fields: Vec<_> = rest.split(' ').map(str::to_owned).collect();
                (name.contains("(sleep"), fields)
            });
            rest.is_some_and(|(is_sleep, fields)| {
                is_sleep && fields[2] == pid.to_string() && fields[3] == pid.to_string()
            })
        };
        let leads = crate::testing::wait_until(std::time::Duration::from_secs(10), seen);
        child.kill().expect("a process that runs");
        child.wait().expect("its end");
        assert!(leads, "{pid} does not lead a session");
    }
}
