//! The database's backends that give way to those of the readers.
//!
//! Every backend of Postgres leads a session, and Linux shares the processors out among sessions
//! ([`refold_local::session`]). The niceness of a projector or of a scan is that of the client;
//! its backend keeps the share of a backend that answers a read, and sixteen that commit at a
//! barrier have sixteen shares.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use refold_local::session::set_nice;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::task::spawn_blocking;

use crate::cli::Failure;
use crate::cli::Kind;
use crate::connect::query;

/// Between two looks for new backends: a scan, which has some of its own, takes ten times as long.
const LOOK: Duration = Duration::from_secs(2);

/// The backends that write read models, scan them or vacuum.
const BACKENDS: &str = "select coalesce(string_agg(pid::text, ' '), '') from pg_stat_activity \
     where application_name like 'refold writer %' or application_name = 'refold verify' \
         or backend_type = 'autovacuum worker'";

/// Gives every such backend a niceness as it comes. When this is dropped, no more.
pub(super) struct GiveWay {
    task: JoinHandle<Result<usize, Failure>>,
    stop: watch::Sender<bool>,
}

impl GiveWay {
    /// Looks for them in `database` from now on.
    pub(super) fn start(database: &str, nice: u8) -> Self {
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(keep_on(database.to_owned(), nice, stopped));
        Self { task, stop }
    }

    /// Looks no more, and says how many backends were made to give way.
    ///
    /// # Errors
    /// When the database could not be asked, or a backend that runs kept its niceness.
    pub(super) async fn stop(self) -> Result<usize, Failure> {
        self.stop.send_replace(true);
        let joined = self.task.await;
        joined.map_err(|error| Failure::error("let the backends give way", error))?
    }
}

async fn keep_on(
    database: String,
    nice: u8,
    mut stopped: watch::Receiver<bool>,
) -> Result<usize, Failure> {
    let (mut known, mut count) = (BTreeSet::new(), 0);
    loop {
        let listed = query(&database, BACKENDS).await?;
        let found: BTreeSet<u32> = pids(&listed)?;
        for &pid in found.difference(&known) {
            let set = spawn_blocking(move || set_nice(pid, nice)).await;
            let set = set.map_err(|error| Failure::error("let a backend give way", error))?;
            match set {
                Ok(()) => count += 1,
                // It ended since it was listed.
                Err(_) if !Path::new(&format!("/proc/{pid}")).exists() => {}
                Err(error) => return Err(Failure::error("let a backend give way", error)),
            }
        }
        // A number that comes again is another backend's.
        known = found;
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = stopped.wait_for(|stop| *stop) => return Ok(count),
        }
    }
}

fn pids(listed: &str) -> Result<BTreeSet<u32>, Failure> {
    let numbers = listed.split_whitespace().map(str::parse);
    let numbers: Result<_, _> = numbers.collect();
    numbers.map_err(|_| Failure::new(Kind::Error, format!("{listed:?} is no list of processes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_backends_is_read_and_anything_else_refused() {
        assert_eq!(pids("").ok(), Some(BTreeSet::new()));
        assert_eq!(pids("30 4\n").ok(), Some(BTreeSet::from([4, 30])));
        assert!(pids("30 x").is_err());
    }
}
