//! One round: a projector stops itself at a point, another one takes over, the first goes on.

use std::path::Path as FilePath;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use serde_json::json;

use super::ending::Ending;
use super::ending::ended_by;
use super::ending::last_words;
use super::history;
use super::history::Audit;
use super::history::Mark;
use super::history::Marks;
use super::plan::Mode;
use super::plan::Moment;
use super::plan::Plan;
use crate::bench::site::SeededLog;
use crate::bench::site::Site;
use crate::bench::site::VERSION;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::demo::Role;
use crate::failpoint::DIRECTORY_VARIABLE;
use crate::failpoint::FIRED;
use crate::failpoint::VARIABLE;

/// How long a process may take to reach its point, or to apply the log.
const BOUND: Duration = Duration::from_secs(60);

/// How long the stopped process may take to end when it goes on.
const END_WITHIN: Duration = Duration::from_secs(30);

/// Beyond this a take-over is not waited for: it has failed its bound long ago.
const TAKE_OVER_PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Events of a transaction.
pub(super) const BATCH: u64 = 250;

/// Shows what a projector does about a lost session, which is no news for an operator.
const TALKATIVE: &str = "info,opentelemetry_sdk=warn,refold_system=debug";

/// Where rounds are played.
pub(super) struct Stage<'a> {
    pub(super) site: &'a Site,
    pub(super) log: &'a SeededLog,
    /// A database without a version.
    pub(super) empty: String,
    /// One with a part of the log loaded.
    pub(super) loaded: String,
}

/// What came of a round.
#[derive(Debug, Clone)]
pub(super) struct Round {
    pub(super) plan: Plan,
    /// From the successor's start until it owned all partitions, in seconds.
    pub(super) take_over: f64,
    /// How long the first process stood still, in seconds.
    pub(super) stopped: f64,
    /// From SIGCONT to its end, in seconds.
    pub(super) end: f64,
    /// What ended it in the stopped partition.
    pub(super) ending: Ending,
    /// Its exit code; -1 when a signal ended it.
    pub(super) code: i32,
    pub(super) audit: Audit,
    /// Rows that are not those of the oracle.
    pub(super) differences: u64,
    /// Sentences about what did not hold.
    pub(super) broken: Vec<String>,
}

/// The processes of a round with what is known of them.
struct Pair<'a> {
    stage: &'a Stage<'a>,
    plan: &'a Plan,
    database: &'a str,
    zombie: Role,
    successor: Role,
    /// The marks while the first process stood still and had no successor.
    at_stop: Marks,
    /// The partitions that it owned by then.
    owned: Vec<i32>,
    /// How much it had said by then, in bytes.
    said: usize,
}

impl Stage<'_> {
    /// Plays a round in a database of its own.
    ///
    /// # Errors
    /// What kept it from being played to its end; that something did not hold is an answer.
    pub(super) async fn round(&self, plan: &Plan) -> Result<Round, Failure> {
        let template = match plan.cell.path {
            super::plan::Path::Bulk => &self.empty,
            super::plan::Path::Apply => &self.loaded,
        };
        let before = self.marks(template)?;
        let database = self.site.copy_database(template)?;
        let dir = self.site.dir().join(format!("round-{}", plan.number));
        std::fs::create_dir_all(&dir)
            .map_err(|error| Failure::error(&format!("create {}", dir.display()), error))?;
        let mut round = self.play(plan, &database, (&before, &dir)).await?;
        let mut figures = json!({});
        self.site.compare(self.log, &database, &mut figures).await?;
        round.differences = figures["differences_oracle"].as_u64().unwrap_or(u64::MAX);
        if round.differences > 0 {
            let sentence = format!("{} rows differ from the oracle", round.differences);
            round.broken.push(sentence);
        }
        // What is told of a round that broke the promise stays, to be looked at.
        if round.broken.is_empty() {
            self.site.drop_database(&database)?;
            let removed = std::fs::remove_dir_all(&dir);
            removed.map_err(|error| Failure::error(&format!("remove {}", dir.display()), error))?;
        }
        Ok(round)
    }

    async fn play(
        &self,
        plan: &Plan,
        database: &str,
        (before, dir): (&Marks, &FilePath),
    ) -> Result<Round, Failure> {
        let mut zombie = self.start("zombie", plan, database, dir)?;
        wait_stopped(&mut zombie, &dir.join(FIRED)).await?;
        let (stood, at_stop) = (Instant::now(), self.marks(database)?);
        let epoch = |marks: &Marks, p: i32| marks.get(&p).map_or(0, |mark| mark.epoch);
        let partitions = 0..self.log.stream.partitions;
        let owned = partitions.filter(|p| epoch(&at_stop, *p) > epoch(before, *p));
        let owned: Vec<i32> = owned.collect();
        let said = zombie.said().len();
        let started = Instant::now();
        let successor = self.start("successor", plan, database, dir)?;
        let mut pair = Pair {
            stage: self,
            plan,
            database,
            zombie,
            successor,
            at_stop,
            owned,
            said,
        };
        pair.wait_taken_over(started).await?;
        let take_over = started.elapsed().as_secs_f64();
        pair.wait_moment().await?;
        let stopped = stood.elapsed().as_secs_f64();
        let woken = Instant::now();
        pair.zombie.resume()?;
        let end = pair.end_both(woken).await?;
        pair.judge((take_over, stopped, end))
    }

    fn marks(&self, database: &str) -> Result<Marks, Failure> {
        let answer = self.site.query(database, history::MARKS)?;
        Ok(history::read(&answer)?.into_iter().collect())
    }

    fn start(
        &self,
        name: &str,
        plan: &Plan,
        database: &str,
        dir: &FilePath,
    ) -> Result<Role, Failure> {
        let mut args = vec![
            "projector".to_owned(),
            format!("--mode={}", plan.cell.mode.word()),
            format!("--version={VERSION}"),
            format!("--batch={BATCH}"),
            format!("--postgres={database}"),
        ];
        args.extend(self.site.log_flags(self.log));
        let failpoint = PathBuf::from(plan.failpoint());
        let talkative = ("REFOLD_LOG", FilePath::new(TALKATIVE));
        let stops = [
            talkative,
            (VARIABLE, failpoint.as_path()),
            (DIRECTORY_VARIABLE, dir),
        ];
        match name {
            "zombie" => Role::start_in(name, dir, &args, &stops),
            _ => Role::start_in(name, dir, &args, &[talkative]),
        }
    }
}

/// Waits until a process has reached its point and stands still as a whole.
async fn wait_stopped(process: &mut Role, fired: &FilePath) -> Result<(), Failure> {
    let deadline = Instant::now() + BOUND;
    while !(fired.exists() && process.is_stopped()) {
        process.check()?;
        if Instant::now() > deadline {
            let sentence = format!("a projector did not stop at its point within {BOUND:?}");
            return Err(Failure::new(Kind::TimedOut, sentence));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

impl Pair<'_> {
    fn marks(&self) -> Result<Marks, Failure> {
        self.stage.marks(self.database)
    }

    fn has_whole_log(&self) -> Result<bool, Failure> {
        let events = self.stage.log.stream.events.0;
        Ok(history::applied(&self.marks()?).unsigned_abs() >= events)
    }

    fn partitions(&self) -> std::ops::Range<i32> {
        0..self.stage.log.stream.partitions
    }

    fn is_owned(&self, partition: i32) -> bool {
        self.owned.contains(&partition)
    }

    /// Whether each partition has been the first process's: one that was not may still be taken
    /// over by it, as by any process that comes later.
    fn all_owned(&self) -> bool {
        self.partitions().all(|p| self.is_owned(p))
    }

    /// Looks until `holds`. That the successor ended in good order is no failure: a replay may be
    /// done before it is looked at.
    async fn wait(
        &mut self,
        what: &str,
        bound: Duration,
        holds: impl Fn(&Self) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + bound;
        loop {
            let ended = self.successor.ended_within(Duration::ZERO).await?;
            if holds(self)? {
                return Ok(());
            }
            let failed = ended.is_some_and(|status| !status.success());
            if Instant::now() > deadline || (failed && self.all_owned()) {
                let sentence = format!(
                    "round {} ({}): not within {bound:?}: {what}; marks {:?}; the successor: {}",
                    self.plan.number,
                    self.plan.failpoint(),
                    self.marks()?,
                    reason(&self.successor.said()),
                );
                return Err(Failure::new(Kind::TimedOut, sentence));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the successor owns what stood still.
    async fn wait_taken_over(&mut self, started: Instant) -> Result<(), Failure> {
        let left = TAKE_OVER_PATIENCE.saturating_sub(started.elapsed());
        self.wait("the successor owns all partitions", left, |pair| {
            let marks = pair.marks()?;
            let epoch = |marks: &Marks, p| marks.get(&p).map_or(0, |mark: &Mark| mark.epoch);
            let taken = |p| epoch(&marks, p) > epoch(&pair.at_stop, p);
            Ok(pair.partitions().all(taken))
        })
        .await
    }

    /// Waits for what the plan says the first process is to find when it goes on.
    async fn wait_moment(&mut self) -> Result<(), Failure> {
        let from = history::applied(&self.marks()?);
        match self.plan.moment {
            Moment::AtOnce => Ok(()),
            Moment::BehindProgress => {
                self.wait("the successor makes progress", BOUND, |pair| {
                    Ok(history::applied(&pair.marks()?) > from || pair.has_whole_log()?)
                })
                .await
            }
            Moment::BehindTheEnd => {
                let whole = Self::has_whole_log;
                self.wait("the successor applies the whole log", BOUND, whole)
                    .await
            }
        }
    }

    /// Waits until the first process has noticed and everything is applied, and for the end of
    /// both; a live one that is in its rights is told to drain. Answers the seconds from `woken`
    /// to the end of the first.
    async fn end_both(&mut self, woken: Instant) -> Result<f64, Failure> {
        let mut end = None;
        if self.all_owned() {
            let ended = self.zombie.ended_within(END_WITHIN).await?;
            end = ended.map(|_| woken.elapsed());
        } else {
            let noticed = |pair: &Self| Ok(pair.has_noticed());
            self.wait("the first notices its successor", END_WITHIN, noticed)
                .await?;
        }
        let whole = Self::has_whole_log;
        self.wait("the whole log is applied", BOUND, whole).await?;
        let mode = self.plan.cell.mode;
        for process in [&mut self.zombie, &mut self.successor] {
            // A replay ends by itself; what a live one is told may come behind its end.
            if mode == Mode::Live && process.ended_within(Duration::ZERO).await?.is_none() {
                process.terminate()?;
            }
            if process.ended_within(BOUND).await?.is_none() {
                let sentence = format!("{} did not end within {BOUND:?}", process.name());
                return Err(Failure::new(Kind::TimedOut, sentence));
            }
            end = end.or_else(|| Some(woken.elapsed()));
        }
        Ok(end.unwrap_or_default().as_secs_f64())
    }

    /// Whether the first process has given up what it owned, and has taken over what it had not.
    fn has_noticed(&self) -> bool {
        let text = self.zombie.said();
        self.partitions().all(|p| {
            let of_partition = format!("partition=p{p} ");
            let mut own = text.lines().filter(|line| line.contains(&of_partition));
            match self.is_owned(p) {
                true => own.any(|line| line.contains("projector ended")),
                false => own.any(|line| line.contains("took partition over")),
            }
        })
    }

    fn judge(mut self, (take_over, stopped, end): (f64, f64, f64)) -> Result<Round, Failure> {
        let answer = self.stage.site.query(self.database, history::ASK)?;
        let history = history::read(&answer)?;
        let audit = history::audit(&history);
        let last = self.marks()?;
        let mut broken = Vec::new();
        let mut nothing_left = true;
        for partition in self.owned.clone() {
            let epoch = self.at_stop[&partition].epoch;
            let taken = history::taken_over(&history, partition, epoch);
            let (Some(taken), Some(last)) = (taken, last.get(&partition)) else {
                broken.push(format!("partition {partition} has no mark of a successor"));
                continue;
            };
            nothing_left &= taken.next == last.next;
            if last.epoch != taken.epoch {
                broken.push(format!(
                    "partition {partition} went from epoch {} to {} behind its successor's take-over",
                    taken.epoch, last.epoch
                ));
            }
        }
        if take_over > super::TAKE_OVER_BOUND.as_secs_f64() {
            broken.push(format!("the take-over lasted {take_over:.1} s"));
        }
        if audit != Audit::default() {
            broken.push(format!("{audit:?}"));
        }
        let (code, said) = (self.zombie.exit_code().unwrap_or(-1), self.zombie.said());
        let after = said.get(self.said..).unwrap_or_default();
        // One that lost nothing has nothing to say: all that was its own was in before.
        let may_succeed = self.owned.is_empty() || nothing_left;
        if !(was_fenced_off(code, &said) || (code == 0 && may_succeed)) {
            broken.push(format!("the first ended with {code}: {}", reason(&said)));
        }
        let (second, words) = (
            self.successor.exit_code().unwrap_or(-1),
            self.successor.said(),
        );
        let gave_way = was_fenced_off(second, &words) && !self.all_owned();
        if !(second == 0 || gave_way) {
            broken.push(format!(
                "the successor ended with {second}: {}",
                reason(&words)
            ));
        }
        let ending = match self.is_owned(self.plan.partition) {
            true => ended_by(after, self.plan.partition),
            false => Ending::Later,
        };
        if ending == Ending::Unknown {
            broken.push("nothing in its log says what ended the first".to_owned());
        }
        Ok(Round {
            plan: *self.plan,
            take_over,
            stopped,
            end,
            ending,
            code,
            audit,
            differences: 0,
            broken,
        })
    }
}

/// Whether a process ended because its partitions are another one's, and says so.
fn was_fenced_off(code: i32, said: &str) -> bool {
    code == 1 && last_words(said).is_some_and(|words| words.contains("fenced off"))
}

/// Why a process ended; what it said last, when it gave no reason.
fn reason(said: &str) -> &str {
    let last = said.lines().last().unwrap_or_default();
    last_words(said).unwrap_or(last)
}
