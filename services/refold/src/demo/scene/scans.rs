//! The scans that keep the proof of both versions young.

use std::time::Duration;

use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::io::Lines;
use tokio::process::ChildStdout;

use super::Scene;
use super::flags;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::demo::processes::Role;

/// The name of the process that scans.
const SCANS: &str = "scans";

impl Scene {
    /// Starts `refold verify -every`: both versions are compared and the log is asked, again and
    /// again. A line of JSON comes out behind each comparison, and none behind the last.
    ///
    /// A process of its own, as it would be anywhere: the system shares the processors out among
    /// sessions, and what a scan uses is not to be taken from whoever measures reads.
    pub(in crate::demo) fn start_scans(
        &mut self,
        (version, against): (&str, &str),
        every: Duration,
        rate: u64,
    ) -> Result<Lines<BufReader<ChildStdout>>, Failure> {
        let mut args = vec!["verify".to_owned(), "--json".to_owned()];
        args.extend(self.log_flags());
        args.extend(flags(&[
            ("version", version),
            ("against", against),
            ("every", &format!("{}ms", every.as_millis())),
            ("rate", &rate.to_string()),
            ("workers", "1"),
            ("postgres", &self.postgres),
        ]));
        let mut scans = Role::start(SCANS, &self.logs, &args, true)?;
        let missing = || Failure::new(Kind::Error, "the scans have no stdout");
        let stdout = scans.stdout().ok_or_else(missing)?;
        self.roles.push(scans);
        Ok(BufReader::new(stdout).lines())
    }

    /// Stops scanning; a scan that is under way is left where it is.
    pub(in crate::demo) async fn stop_scans(&mut self) -> Result<(), Failure> {
        self.stop_role(SCANS).await
    }
}
