//! The readers of a demo, and the events that keep coming.

use std::time::Duration;
use std::time::Instant;

use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio::sync::watch;

use super::LOOK;
use super::Load;
use super::Scene;
use super::Tail;
use super::flags;
use super::past;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::demo::processes::Role;
use crate::load;
use crate::load::LoadPlan;
use crate::load::LoadReport;
use crate::load::Span;

/// How long what is on its way to the broker may take to be acknowledged.
const TAIL_OBEYS: Duration = Duration::from_secs(30);

/// The name of the process that appends.
const TAIL: &str = "tail";

impl Scene {
    /// Starts reading.
    pub(in crate::demo) fn start_load(&mut self) {
        let plan = LoadPlan {
            api: self.api.clone(),
            rate: self.args.read_rate.0,
            aggregates: self.args.stream.aggregates.0,
            seed: self.args.stream.seed,
        };
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(load::run(
            plan,
            self.fresh.clone(),
            self.mark.clone(),
            self.progress.clone(),
            stopped,
        ));
        self.load = Some(Load { task, stop });
    }

    /// Reads so far.
    pub(in crate::demo) fn reads(&self) -> u64 {
        self.progress.reads()
    }

    /// Reads that failed so far.
    pub(in crate::demo) fn failed_reads(&self) -> u64 {
        self.progress.failed()
    }

    /// Accounts reads from now on to `span`.
    pub(in crate::demo) fn mark(&self, span: Span) {
        self.mark.set(span);
    }

    /// Waits until so many reads were made.
    pub(in crate::demo) async fn wait_reads(&mut self, reads: u64) -> Result<(), Failure> {
        let due = reads.saturating_sub(self.reads()) / self.args.read_rate.0.max(1);
        let bound = Duration::from_secs(60 + 2 * due);
        let deadline = Instant::now() + bound;
        while self.reads() < reads {
            self.check_roles()?;
            past(deadline, || {
                format!("{reads} reads were not made in {} s", bound.as_secs())
            })?;
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Stops reading and returns what was seen.
    pub(in crate::demo) async fn stop_load(&mut self) -> Result<LoadReport, Failure> {
        let Some(load) = self.load.take() else {
            return Err(Failure::new(Kind::Error, "no reads were started"));
        };
        load.stop.send_replace(true);
        let report = load.task.await;
        report.map_err(|error| Failure::error("read the api", error))
    }

    /// Starts appending to the log; the ids that it writes are read back.
    pub(in crate::demo) fn start_tail(&mut self) -> Result<(), Failure> {
        if self.args.tail_rate.0 == 0 {
            return Ok(());
        }
        let mut args = vec![
            "seed".to_owned(),
            "tail".to_owned(),
            "--print-ids".to_owned(),
            "--controlled".to_owned(),
        ];
        args.extend(self.log_flags());
        args.extend(flags(&[
            ("codec", &self.args.codec),
            ("rate", &self.args.tail_rate.0.to_string()),
        ]));
        args.extend(self.staging.tail_flags.iter().cloned());
        let mut tail = Role::start(TAIL, &self.logs, &args, true)?;
        if let (Some(stdout), Some(stdin)) = (tail.stdout(), tail.stdin()) {
            let fresh = self.fresh.clone();
            let (holds, held) = watch::channel(false);
            tokio::spawn(async move {
                let mut lines = BufReader::new(stdout).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    match line.trim() {
                        "held" => drop(holds.send_replace(true)),
                        "going" => drop(holds.send_replace(false)),
                        id => drop(id.parse().map(|id| fresh.note(id))),
                    }
                }
            });
            self.tail = Some(Tail { stdin, held });
        }
        self.roles.push(tail);
        Ok(())
    }

    /// Has what was appended acknowledged, and nothing more appended until [`Scene::let_tail_go`].
    pub(in crate::demo) async fn hold_tail(&mut self) -> Result<(), Failure> {
        self.tell_tail("hold\n", true).await
    }

    /// Goes on appending.
    pub(in crate::demo) async fn let_tail_go(&mut self) -> Result<(), Failure> {
        self.tell_tail("go\n", false).await
    }

    async fn tell_tail(&mut self, order: &str, holds: bool) -> Result<(), Failure> {
        let Some(tail) = &mut self.tail else {
            return Ok(());
        };
        let failed = |why: &str| Failure::new(Kind::Error, format!("tell the tail: {why}"));
        let written = tail.stdin.write_all(order.as_bytes()).await;
        written.map_err(|error| failed(&error.to_string()))?;
        let obeyed = tail.held.wait_for(|held| *held == holds);
        match tokio::time::timeout(TAIL_OBEYS, obeyed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(failed("it has ended")),
            Err(_) => Err(failed("it did not obey in time")),
        }
    }

    /// Stops appending.
    pub(in crate::demo) async fn stop_tail(&mut self) -> Result<(), Failure> {
        self.tail = None;
        self.stop_role(TAIL).await
    }

    /// Stops the process of this name, if there is one.
    pub(super) async fn stop_role(&mut self, name: &str) -> Result<(), Failure> {
        let at = self.roles.iter().position(|role| role.name() == name);
        match at.map(|at| self.roles.remove(at)) {
            Some(mut role) => role.stop().await,
            None => Ok(()),
        }
    }

    /// Waits until the log moves: nothing is proven about a log that stands still.
    pub(in crate::demo) async fn wait_tail(&mut self, bound: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + bound;
        while self.args.tail_rate.0 > 0 && self.fresh.is_empty() {
            self.check_roles()?;
            past(deadline, || {
                format!("nothing was appended in {} s", bound.as_secs())
            })?;
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}
