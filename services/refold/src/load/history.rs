//! Sessions whose answers are held against the history of the registry: no answer may show an
//! earlier generation than one that was complete before its read began, and none may name a
//! version that did not serve in the generation that it names.
//!
//! Sessions with a rate read on a schedule that is made before the run (open loop), and a read
//! counts from the moment when it was due, so that a stall is not hidden by the reads that it
//! kept from starting (coordinated omission). Without one, each reads again as soon as it has an
//! answer (closed loop), which measures what a server that is never idle takes.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinSet;

use super::HttpClient;
use super::check::Seen;
use super::number;
use super::overlap::micros;
use super::read;
use super::report::FailedRead;
use crate::cli::Failure;

/// Failed reads that are kept with their reasons; all are counted.
const KEPT_FAILURES: usize = 1_000;

/// After a failed read: a server that is gone must not make a session spin.
const PAUSE: Duration = Duration::from_millis(10);

/// What the sessions read.
#[derive(Debug, Clone)]
pub(crate) struct SessionsPlan {
    /// `http://host:port`.
    pub(crate) api: String,
    /// Sessions, each with one read at a time over a connection of its own.
    pub(crate) sessions: usize,
    /// Ids `1..=aggregates` exist, and no others are read.
    pub(crate) aggregates: u64,
    /// Decides which ids are read.
    pub(crate) seed: u64,
    /// Reads per second of all sessions together; `None` is a closed loop.
    pub(crate) rate: Option<NonZeroU64>,
}

impl SessionsPlan {
    /// When a session's read is due, counted from the start: the sessions take turns.
    fn due(&self, session: u64, read: u64) -> Option<Duration> {
        let rate = self.rate?.get() as f64;
        let before = read * self.sessions as u64 + session;
        Some(Duration::from_secs_f64(before as f64 / rate))
    }
}

/// What answers said of their origin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// How often each generation was named with each version.
    pairs: BTreeMap<(i64, String), u64>,
    /// Answers of an earlier generation than had been shown before their reads began.
    backward: u64,
}

impl Told {
    /// Notes an answer; `floor` is the highest generation shown when its read began.
    fn note(&mut self, floor: i64, generation: i64, version: String) {
        if generation < floor {
            self.backward += 1;
        }
        *self.pairs.entry((generation, version)).or_default() += 1;
    }

    fn add(&mut self, other: Self) {
        self.backward += other.backward;
        for (pair, count) in other.pairs {
            *self.pairs.entry(pair).or_default() += count;
        }
    }

    /// Answers that went back.
    pub(crate) fn backward(&self) -> u64 {
        self.backward
    }

    /// Generations with their versions that were named, each once.
    pub(crate) fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// Answers whose version did not serve in the generation that they name. `history` is which
    /// one did.
    pub(crate) fn torn(&self, history: &BTreeMap<i64, String>) -> u64 {
        let pairs = self.pairs.iter();
        let torn = pairs.filter(|((generation, version), _)| {
            history
                .get(generation)
                .is_none_or(|serves| serves != version)
        });
        torn.map(|(_, count)| count).sum()
    }
}

/// The outcome of all sessions.
#[derive(Debug, Clone)]
pub(crate) struct SessionsReport {
    /// By session: when each read began, or was due, and how long it took from then, in
    /// microseconds.
    pub(crate) reads: Vec<Vec<(u64, u32)>>,
    /// Reads that failed.
    pub(crate) failed: u64,
    /// The first of them.
    pub(crate) failures: Vec<FailedRead>,
    /// What the answers of the others said.
    pub(crate) told: Told,
}

/// What the sessions share.
struct Shared {
    began: Instant,
    stop: AtomicBool,
    /// The highest generation that a complete answer has shown.
    shown: AtomicI64,
    reads: AtomicU64,
    failed: AtomicU64,
    failures: Mutex<Vec<FailedRead>>,
}

impl Shared {
    fn note_failure(&self, failure: FailedRead) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < KEPT_FAILURES {
            failures.push(failure);
        }
    }
}

/// Sessions that read. They end when this is dropped.
pub(crate) struct Readers {
    shared: Arc<Shared>,
    sessions: JoinSet<Session>,
}

impl Readers {
    /// Starts reading. Times count from here.
    pub(crate) fn start(plan: SessionsPlan) -> Self {
        let shared = Arc::new(Shared {
            began: Instant::now(),
            stop: AtomicBool::new(false),
            shown: AtomicI64::new(i64::MIN),
            reads: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            failures: Mutex::default(),
        });
        let plan = Arc::new(plan);
        let mut sessions = JoinSet::new();
        for nth in 0..plan.sessions as u64 {
            sessions.spawn(session(Arc::clone(&plan), Arc::clone(&shared), nth));
        }
        Self { shared, sessions }
    }

    /// Time since reading began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.shared.began.elapsed()
    }

    /// Reads so far.
    pub(crate) fn reads(&self) -> u64 {
        self.shared.reads.load(Ordering::Relaxed)
    }

    /// Failed reads so far.
    pub(crate) fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Waits for the reads in flight and says what was seen.
    ///
    /// # Errors
    /// When a session broke off: what it saw is lost.
    pub(crate) async fn stop(mut self) -> Result<SessionsReport, Failure> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let (mut reads, mut told) = (Vec::new(), Told::default());
        while let Some(joined) = self.sessions.join_next().await {
            let session = joined.map_err(|error| Failure::error("read the api", error))?;
            reads.push(session.reads);
            told.add(session.told);
        }
        let shared = &self.shared;
        let mut failures = shared
            .failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Ok(SessionsReport {
            reads,
            failed: shared.failed.load(Ordering::Relaxed),
            failures: std::mem::take(&mut *failures),
            told,
        })
    }
}

/// What one session saw.
#[derive(Default)]
struct Session {
    reads: Vec<(u64, u32)>,
    told: Told,
}

async fn session(plan: Arc<SessionsPlan>, shared: Arc<Shared>, nth: u64) -> Session {
    let client: HttpClient = Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(1)
        .build_http();
    let seed = number(plan.seed, nth);
    let mut session = Session::default();
    let mut drawn = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let id = (1 + number(seed, drawn) % plan.aggregates.max(1)) as i64;
        drawn += 1;
        let uri = format!("{}/aggregate/{id}", plan.api);
        let due = plan.due(nth, drawn - 1);
        if let Some(due) = due {
            tokio::time::sleep_until((shared.began + due).into()).await;
        }
        // Before the read begins: what others show while it is under way binds it to nothing.
        let floor = shared.shown.load(Ordering::SeqCst);
        let at = due.unwrap_or_else(|| shared.began.elapsed());
        let outcome = read(&client, &uri, id, true).await.and_then(origin);
        let latency = shared.began.elapsed().saturating_sub(at);
        let latency = u32::try_from(micros(latency)).unwrap_or(u32::MAX);
        session.reads.push((micros(at), latency));
        shared.reads.fetch_add(1, Ordering::Relaxed);
        match outcome {
            Ok((generation, version)) => {
                shared.shown.fetch_max(generation, Ordering::SeqCst);
                session.told.note(floor, generation, version);
            }
            Err(reason) => {
                shared.note_failure(FailedRead { at, uri, reason });
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    session
}

/// Where an accepted answer comes from; one that does not say it proves nothing.
fn origin(seen: Seen) -> Result<(i64, String), String> {
    match (seen.generation, seen.version) {
        (Some(generation), Some(version)) => Ok((generation, version)),
        (generation, version) => Err(format!(
            "200 that does not say where it comes from: generation {generation:?}, \
             version {version:?}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> BTreeMap<i64, String> {
        let versions = [(1, "accounts_v3"), (2, "accounts_v4"), (3, "accounts_v3")];
        let versions = versions.map(|(generation, version)| (generation, version.to_owned()));
        BTreeMap::from(versions)
    }

    fn told(answers: &[(i64, i64, &str)]) -> Told {
        let mut told = Told::default();
        for (floor, generation, version) in answers {
            told.note(*floor, *generation, (*version).to_owned());
        }
        told
    }

    #[test]
    fn answers_that_follow_the_history_are_neither_torn_nor_backward() {
        let told = told(&[
            (i64::MIN, 1, "accounts_v3"),
            (1, 2, "accounts_v4"),
            (2, 2, "accounts_v4"),
            (2, 3, "accounts_v3"),
        ]);
        assert_eq!((told.backward(), told.torn(&history())), (0, 0));
        assert_eq!(told.pairs(), 3);
    }

    #[test]
    fn an_answer_below_what_was_shown_before_went_back() {
        let told = told(&[(2, 1, "accounts_v3"), (3, 3, "accounts_v3")]);
        assert_eq!(told.backward(), 1);
        assert_eq!(told.torn(&history()), 0);
    }

    #[test]
    fn an_answer_is_torn_when_its_version_did_not_serve_then() {
        let told = told(&[
            (1, 2, "accounts_v3"),
            (1, 2, "accounts_v3"),
            (1, 2, "accounts_v4"),
            (2, 4, "accounts_v4"),
        ]);
        assert_eq!(told.torn(&history()), 3);
    }

    #[test]
    fn sessions_take_turns_on_one_schedule() {
        let mut plan = SessionsPlan {
            api: String::new(),
            sessions: 4,
            aggregates: 1,
            seed: 1,
            rate: NonZeroU64::new(1_000),
        };
        let due = |session, read| plan.due(session, read).map(|due| due.as_millis());
        assert_eq!(
            [due(0, 0), due(3, 0), due(0, 1)],
            [Some(0), Some(3), Some(4)]
        );
        assert_eq!(due(1, 1_000), Some(4_001));
        plan.rate = None;
        assert_eq!(plan.due(0, 1), None);
    }

    #[test]
    fn what_sessions_saw_is_added_up() {
        let mut all = told(&[(2, 1, "accounts_v3"), (1, 2, "accounts_v3")]);
        all.add(told(&[(2, 1, "accounts_v3"), (2, 2, "accounts_v4")]));
        assert_eq!(all.backward(), 2);
        assert_eq!(all.pairs(), 3);
        assert_eq!(all.torn(&history()), 1);
    }

    #[test]
    fn an_answer_that_names_no_generation_is_a_failure() {
        let seen = |generation| Seen {
            version: Some("accounts_v3".to_owned()),
            generation,
        };
        assert_eq!(origin(seen(Some(4))), Ok((4, "accounts_v3".to_owned())));
        assert!(origin(seen(None)).is_err());
    }
}
