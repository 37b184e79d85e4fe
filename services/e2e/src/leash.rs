//! Ends what a test started when the test process is gone, even by SIGKILL.

use std::fs;
use std::io::Write;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;

/// Reads pids and start times until the test process, which holds the other end of
/// the pipe alone, is gone. A pid with another start time belongs to somebody else.
const SCRIPT: &str = r#"
all=
while read -r pid ticks; do all="$all $pid $ticks"; done
set -- $all
while [ $# -ge 2 ]; do
  if read -r stat 2>/dev/null </proc/$1/stat; then
    found=$(set -- ${stat##*) }; shift 19; echo "$1")
    [ "$found" = "$2" ] && kill -KILL "$1" 2>/dev/null
  fi
  shift 2
done
"#;

/// Puts a child of this process on the leash.
pub(crate) fn hold(pid: u32) {
    static LEASH: OnceLock<Mutex<Child>> = OnceLock::new();
    let leash = LEASH.get_or_init(|| {
        let shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "refold-e2e-leash"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell starts");
        Mutex::new(shell)
    });
    let Some(ticks) = start_ticks(pid) else {
        return;
    };
    let mut shell = leash.lock().unwrap_or_else(PoisonError::into_inner);
    let pipe = shell.stdin.as_mut().expect("the shell's input is a pipe");
    writeln!(pipe, "{pid} {ticks}").expect("the leash takes a pid");
}

/// Field 22 of the process's line; the name in front of it may hold spaces.
fn start_ticks(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.rsplit_once(") ")?.1;
    fields.split(' ').nth(19).map(str::to_owned)
}

/// The state letter of a process: `T` when it is stopped.
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}
