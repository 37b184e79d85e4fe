//! A session of its own for every server that is started here.
//!
//! Linux shares the processors out among sessions before it does among their processes (autogroup,
//! sched(7)), wherever no control groups are set up. Postgres gives each backend a session. A
//! process that stays in the session of whoever started it shares one portion with everything else
//! that was started there, and each backend has as much as all of these together: an api beside
//! a load driver then waits for tens of milliseconds whenever a few backends are busy. Services
//! have sessions or control groups of their own, and so have these servers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::{Error, Result, locate};

/// Whether the kernel shares the processors out among sessions.
const ENABLED: &str = "/proc/sys/kernel/sched_autogroup_enabled";

/// The kernel takes one change of a session's niceness in a tenth of a second from anybody but
/// root, and answers EAGAIN to the others.
const AGAIN_EVERY: Duration = Duration::from_millis(100);

/// How long such a change is tried for.
const NICE_WITHIN: Duration = Duration::from_secs(5);

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

/// Sets the niceness of the whole session that a process belongs to: 0 is the usual, 19 the least;
/// each step weighs a fifth less beside other sessions that want the processors, and nothing while
/// they are idle (`/proc/PID/autogroup` of sched(7)). A niceness that a process gives itself counts
/// inside its session only.
///
/// Blocks for up to five seconds where the kernel wants a pause between changes.
///
/// # Errors
/// A process that is gone or another user's, and a kernel that does not share by session.
pub fn set_nice(pid: u32, nice: u8) -> Result<()> {
    let enabled = fs::read_to_string(ENABLED).unwrap_or_default();
    if enabled.trim() != "1" {
        let sentence = format!(
            "this kernel does not share the processors out among sessions ({ENABLED} is not 1)"
        );
        return Err(Error::new(sentence));
    }
    let file = autogroup(pid);
    let deadline = Instant::now() + NICE_WITHIN;
    loop {
        match fs::write(&file, nice.to_string()) {
            Ok(()) => return Ok(()),
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline =>
            {
                std::thread::sleep(AGAIN_EVERY);
            }
            Err(error) => {
                let doing = format!("set the niceness of process {pid}'s session to {nice}");
                return Err(Error::io(doing, &error));
            }
        }
    }
}

fn autogroup(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/autogroup"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_made_to_give_way_and_no_other_one_with_it() {
        if !fs::read_to_string(ENABLED).is_ok_and(|enabled| enabled.trim() == "1") {
            let refused = set_nice(std::process::id(), 10).expect_err("nothing to set");
            assert!(refused.to_string().contains(ENABLED), "{refused}");
            return;
        }
        let child = || {
            let mut command = command(Path::new("/bin/sleep"));
            command.arg("60").spawn().expect("a process")
        };
        let mut children = [child(), child()];
        let read = |pid: u32| fs::read_to_string(autogroup(pid)).unwrap_or_default();
        let pids = children.each_ref().map(std::process::Child::id);
        // Until it is a leader it has its parent's session.
        let own = read(std::process::id());
        let apart = crate::testing::wait_until(Duration::from_secs(10), || {
            pids.iter().all(|pid| read(*pid) != own)
        });
        let set = set_nice(pids[0], 10);
        let seen = pids.map(read);
        for child in &mut children {
            child.kill().expect("a process that runs");
            child.wait().expect("its end");
        }
        assert!(apart, "no session of its own: {seen:?}");
        set.expect("a session of one's own may be made to give way");
        assert!(seen[0].trim().ends_with("nice 10"), "{seen:?}");
        assert!(seen[1].trim().ends_with("nice 0"), "{seen:?}");
        let gone = set_nice(pids[0], 5).expect_err("it has ended");
        assert!(gone.to_string().contains(&pids[0].to_string()), "{gone}");
    }

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
