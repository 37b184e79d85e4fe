//! The scans that the switches rest on.

use std::time::Duration;

use serde_json::Value;
use tokio::io::BufReader;
use tokio::io::Lines;
use tokio::process::ChildStdout;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::LIVE;
use super::LOOK;
use super::NEW;
use super::Scene;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::connect::query;

/// How long the longest finished scan took, in seconds.
const LONGEST: &str = "select coalesce(max(extract(epoch from finished_at - started_at)), 0)::float8 \
     from refold.verifications where finished_at is not null";

/// What all scans found.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Scanned {
    pub(super) scans: u64,
    /// Rows of the last one.
    pub(super) rows: u64,
    pub(super) compared: u64,
    /// Keys that differ where they must not, and rows that the log contradicts.
    pub(super) findings: u64,
    pub(super) seconds_max: f64,
}

impl Scanned {
    /// Adds what a comparison told.
    fn add(&mut self, told: &str) -> Result<(), Failure> {
        let strange = || Failure::new(Kind::Error, format!("the scans said {told:?}"));
        let told: Value = serde_json::from_str(told).map_err(|_| strange())?;
        let (Some(rows), Some(differences)) =
            (told["rows_compared"].as_u64(), told["differences"].as_u64())
        else {
            return Err(strange());
        };
        // Nothing differs as expected, and the log was not asked; or it was and says so.
        let contradicted = match told["log"]["versions"].as_array() {
            Some(versions) => {
                let each = versions.iter().map(|v| v["contradicted"].as_u64());
                each.sum::<Option<u64>>().ok_or_else(strange)?
            }
            None if told["intended_differences"] == 0 => 0,
            None => return Err(strange()),
        };
        self.scans += 1;
        self.rows = rows;
        self.compared += rows;
        self.findings += differences + contradicted;
        Ok(())
    }
}

/// The scans that go on beside the switches.
pub(super) struct Scans {
    listener: JoinHandle<Result<(), Failure>>,
    scanned: watch::Receiver<Scanned>,
}

impl Scans {
    /// Scans once, for the first switch to rest on, and goes on scanning `rate` rows a second.
    pub(super) async fn start(
        scene: &mut Scene,
        every: Duration,
        rate: u64,
    ) -> Result<Self, Failure> {
        let lines = scene.start_scans((NEW, LIVE), every, rate)?;
        let (tell, scanned) = watch::channel(Scanned::default());
        let listener = tokio::spawn(listen(lines, tell));
        while scanned.borrow().scans == 0 && !listener.is_finished() {
            scene.check_roles()?;
            tokio::time::sleep(LOOK).await;
        }
        Ok(Self { listener, scanned })
    }

    /// Whether a scan could not be made.
    pub(super) fn ended(&self) -> bool {
        self.listener.is_finished()
    }

    /// Stops scanning and says what was found.
    pub(super) async fn stop(self, scene: &mut Scene) -> Result<Scanned, Failure> {
        scene.stop_scans().await?;
        let joined = self.listener.await;
        joined.map_err(|error| Failure::error("listen to the scans", error))??;
        let longest = query(scene.postgres(), LONGEST).await?;
        let seconds_max = longest.trim().parse();
        let seconds_max = seconds_max.map_err(|e| Failure::error("read the longest scan", e))?;
        let scanned = *self.scanned.borrow();
        Ok(Scanned {
            seconds_max,
            ..scanned
        })
    }
}

/// Adds up what every comparison tells, until there is none any more.
async fn listen(
    mut lines: Lines<BufReader<ChildStdout>>,
    tell: watch::Sender<Scanned>,
) -> Result<(), Failure> {
    let failed = |error| Failure::error("listen to the scans", error);
    while let Some(line) = lines.next_line().await.map_err(failed)? {
        let mut scanned = *tell.borrow();
        scanned.add(&line)?;
        tell.send_replace(scanned);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_are_added_up_and_anything_else_is_refused() {
        let mut scanned = Scanned::default();
        let alike = r#"{"rows_compared":10,"differences":0,"intended_differences":0,"log":null}"#;
        scanned.add(alike).expect("a comparison");
        let wrong = r#"{"rows_compared":11,"differences":2,"intended_differences":4,"log":{"versions":[{"contradicted":0},{"contradicted":1}]}}"#;
        scanned.add(wrong).expect("a comparison");
        let found = (
            scanned.scans,
            scanned.rows,
            scanned.compared,
            scanned.findings,
        );
        assert_eq!(found, (2, 11, 21, 3));
        let silent = r#"{"rows_compared":11,"differences":0,"intended_differences":4,"log":null}"#;
        for strange in ["", "{}", silent] {
            assert!(scanned.add(strange).is_err(), "{strange}");
        }
    }
}
