//! The scans that the switches rest on.

use std::io;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use refold_store_postgres::ScanOptions;
use refold_store_postgres::ScanReport;
use refold_store_postgres::SessionOptions;
use rustix::process::setpriority_process;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Pair;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::command::verify::prove_once;
use crate::witness;
use crate::witness::Standing;

/// What all scans found.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Scanned {
    pub(super) scans: u64,
    /// Rows of the last one.
    pub(super) rows: u64,
    pub(super) compared: u64,
    pub(super) findings: u64,
    pub(super) seconds_max: f64,
}

impl Scanned {
    /// Scans both tables and lets the log confirm what differs as expected: without that no
    /// promotion rests on the scan.
    async fn add_one(&mut self, proof: &mut Proof) -> Result<(), Failure> {
        let (pair, options) = ((&proof.pair.0, &proof.pair.1), proof.options());
        let standing = &mut proof.standing;
        let proven = prove_once(&proof.session, &proof.log, pair, &options, standing);
        let (report, confirmation) = proven.await?;
        self.add(&report);
        self.findings += confirmation.map_or(0, |log| log.contradicted());
        Ok(())
    }

    fn add(&mut self, report: &ScanReport) {
        self.scans += 1;
        self.rows = report.rows();
        self.compared += report.rows();
        self.findings += report.findings();
        self.seconds_max = self.seconds_max.max(report.seconds);
    }
}

/// What is scanned, and the log that confirms it.
pub(super) struct Proof {
    pub(super) session: SessionOptions,
    pub(super) log: witness::Log,
    pub(super) pair: Pair,
    /// Rows a second that a scan reads at most.
    pub(super) rate: u64,
    /// What the log gives, as far as it was asked.
    pub(super) standing: Standing,
}

impl Proof {
    fn options(&self) -> ScanOptions {
        ScanOptions {
            rate: Some(self.rate),
            workers: 1,
            ..ScanOptions::default()
        }
    }
}

fn failed(error: io::Error) -> Failure {
    Failure::error("start the scans", error)
}

/// The scans that go on beside the switches. When this is dropped, the one under way is the last.
///
/// They have a runtime of their own: a task that folds a million rows would keep answers from
/// the sessions beside it, which count how long they waited for them.
pub(super) struct Scans {
    thread: JoinHandle<Result<Scanned, Failure>>,
    stop: watch::Sender<bool>,
}

impl Scans {
    /// Scans once, for the first switch to rest on, and goes on scanning with a niceness of `nice`.
    pub(super) async fn start(
        mut proof: Proof,
        every: Duration,
        nice: u8,
    ) -> Result<Self, Failure> {
        let mut scanned = Scanned::default();
        let next = Instant::now() + every;
        scanned.add_one(&mut proof).await?;
        let (stop, stopped) = watch::channel(false);
        let scan = move || {
            // Of this thread, and of those that it starts.
            setpriority_process(None, i32::from(nice))
                .map_err(|error| Failure::error("let the scans give way", error))?;
            let runtime = Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .map_err(failed)?;
            runtime.block_on(scan_on(proof, (next, every), scanned, stopped))
        };
        let named = thread::Builder::new().name("scans".to_owned());
        let thread = named.spawn(scan).map_err(failed)?;
        Ok(Self { thread, stop })
    }

    /// Whether a scan could not be made.
    pub(super) fn ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the scan that is under way.
    pub(super) async fn stop(self) -> Result<Scanned, Failure> {
        self.stop.send_replace(true);
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await;
        let joined = joined.map_err(|error| Failure::error("wait for the last scan", error))?;
        joined.map_err(|_| Failure::new(Kind::Error, "the thread that scans panicked"))?
    }
}

/// Scans until it is told to stop, or the one who would tell it is gone.
async fn scan_on(
    mut proof: Proof,
    (mut next, every): (Instant, Duration),
    mut scanned: Scanned,
    mut stopped: watch::Receiver<bool>,
) -> Result<Scanned, Failure> {
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            _ = stopped.wait_for(|stop| *stop) => return Ok(scanned),
        }
        next = Instant::now() + every;
        scanned.add_one(&mut proof).await?;
    }
}
