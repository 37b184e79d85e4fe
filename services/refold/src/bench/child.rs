//! A measured process: this binary again, with its figures on the last line of its stdout.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Child;
use tokio::process::Command;

use crate::cli::Failure;

/// A measured process that runs. It is killed when the value is dropped.
pub(super) struct Measuring {
    child: Child,
}

/// Starts `refold ARGS`, on the core `pin` only if there is one, with its stderr appended to
/// `LOGS/measured.log`.
pub(super) fn start(
    args: &[String],
    pin: Option<usize>,
    logs: &Path,
) -> Result<Measuring, Failure> {
    let program =
        std::env::current_exe().map_err(|error| Failure::error("find this program", error))?;
    start_program(&program, args, pin, logs)
}

/// Starts another program in the same way.
pub(super) fn start_program(
    program: &Path,
    args: &[String],
    pin: Option<usize>,
    logs: &Path,
) -> Result<Measuring, Failure> {
    let wrong = |error: std::io::Error| Failure::error("start a measured process", error);
    let log = logs.join("measured.log");
    let out = File::options().create(true).append(true).open(log);
    let mut command = match pin {
        Some(core) => {
            let mut command = Command::new("taskset");
            command.arg("--cpu-list").arg(core.to_string()).arg(program);
            command
        }
        None => Command::new(program),
    };
    let child = command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(out.map_err(wrong)?)
        .kill_on_drop(true)
        .spawn()
        .map_err(wrong)?;
    Ok(Measuring { child })
}

impl Measuring {
    /// Its process id; `None` when it is gone.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for its end and reads its figures.
    pub(super) async fn figures(self, logs: &Path) -> Result<Value, Failure> {
        let ended = self.child.wait_with_output().await;
        let ended = ended.map_err(|error| Failure::error("wait for a measured process", error))?;
        let text = String::from_utf8_lossy(&ended.stdout);
        let last = text.lines().next_back().unwrap_or_default();
        match serde_json::from_str(last) {
            Ok(figures) if ended.status.success() => Ok(figures),
            _ => {
                let log = std::fs::read_to_string(logs.join("measured.log")).unwrap_or_default();
                let lines: Vec<_> = log.lines().collect();
                let words = lines[lines.len().saturating_sub(4)..].join("\n  ");
                Err(Failure::error(
                    &format!("a measured process ended ({})", ended.status),
                    format!("its last words:\n  {words}"),
                ))
            }
        }
    }
}
