//! The promises of the store, as cases that every implementation runs.
//!
//! A case gets a store of its own. It says what it expected and what it found,
//! and the runner collects that of all cases before it fails.

pub(crate) mod barriers;
mod bulk;
mod checkpoints;
pub mod fixtures;
mod losses;
mod refusals;
mod writing;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use tokio::task::JoinSet;

use crate::registry::ReadModel;
use crate::registry::Registry;
use crate::registry::RegistryError;
use crate::sink::Sink;
use crate::sink::StoreError;

/// When a connection breaks around a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// Before the server sees it.
    Before,
    /// After the server made it durable, before the answer arrives.
    After,
}

/// One empty store under test.
pub trait StoreHarness: Send + Sync {
    /// Its writers' side.
    fn sink(&self) -> &dyn Sink;

    /// Its registry.
    fn registry(&self) -> &dyn Registry;

    /// Its readers' side, able to read every projection of [`fixtures`].
    fn read_model(&self) -> &dyn ReadModel;

    /// Breaks the connection of whichever writer commits next.
    fn break_next_commit(&self, moment: Break);
}

/// Why a case failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self(format!("the store answered: {error}"))
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self(format!("the registry answered: {error}"))
    }
}

/// What a case returns.
pub type CaseFuture<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

/// One promise.
#[derive(Clone, Copy)]
pub struct Case {
    /// A sentence.
    pub name: &'static str,
    /// Tries it on an empty store.
    pub run: for<'a> fn(&'a dyn StoreHarness) -> CaseFuture<'a>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A list of cases from async functions: each one's name is the case's.
#[macro_export]
macro_rules! store_cases {
    ($($name:ident),* $(,)?) => {
        vec![$($crate::conformance::store::Case {
            name: stringify!($name),
            run: |harness| Box::pin($name(harness)),
        }),*]
    };
}

/// All cases about writers.
pub fn cases() -> Vec<Case> {
    [
        writing::cases(),
        bulk::cases(),
        checkpoints::cases(),
        losses::cases(),
        barriers::cases(),
        refusals::cases(),
    ]
    .concat()
}

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Cases that ran.
    pub ran: usize,
    /// Name and reason of those that failed.
    pub failed: Vec<(&'static str, String)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cases, {} failed", self.ran, self.failed.len())?;
        self.failed
            .iter()
            .try_for_each(|(name, reason)| write!(f, "\n  {name}: {reason}"))
    }
}

/// Cases that run at the same time. Most of a case on a real server is waiting for its disk.
const AT_ONCE: usize = 4;

/// Runs every case on a fresh store from `fresh`, a few at a time.
///
/// # Panics
/// When a case panics.
pub async fn run<H, F>(cases: &[Case], mut fresh: impl FnMut(&'static str) -> F) -> Report
where
    H: StoreHarness + 'static,
    F: Future<Output = H> + Send + 'static,
{
    let mut failed = Vec::new();
    let mut running = JoinSet::new();
    for case in cases {
        while running.len() >= AT_ONCE {
            failed.extend(next_failure(&mut running).await);
        }
        let (case, harness) = (*case, fresh(case.name));
        running.spawn(async move {
            let harness = harness.await;
            (case.name, (case.run)(&harness).await)
        });
    }
    while !running.is_empty() {
        failed.extend(next_failure(&mut running).await);
    }
    Report {
        ran: cases.len(),
        failed,
    }
}

/// Waits for a case to end.
async fn next_failure(
    running: &mut JoinSet<(&'static str, Result<(), Failure>)>,
) -> Option<(&'static str, String)> {
    match running.join_next().await? {
        Ok((_, Ok(()))) => None,
        Ok((name, Err(failure))) => Some((name, failure.0)),
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

/// Fails with a sentence unless `found` is what was wanted.
pub(crate) fn expect_equal<T: PartialEq + fmt::Debug>(
    what: &str,
    found: &T,
    wanted: &T,
) -> Result<(), Failure> {
    if found == wanted {
        return Ok(());
    }
    Err(Failure(format!(
        "{what}: found {found:?}, wanted {wanted:?}"
    )))
}

/// Fails with a sentence unless the condition holds.
pub(crate) fn expect(what: &str, holds: bool) -> Result<(), Failure> {
    if holds {
        Ok(())
    } else {
        Err(Failure(what.to_owned()))
    }
}

/// Fails unless the call was refused in the way that `accept` names.
pub(crate) fn expect_error<T: fmt::Debug, E: fmt::Debug>(
    what: &str,
    result: Result<T, E>,
    accept: impl FnOnce(&E) -> bool,
) -> Result<(), Failure> {
    match result {
        Err(error) if accept(&error) => Ok(()),
        Err(error) => Err(Failure(format!("{what}: the wrong error, {error:?}"))),
        Ok(value) => Err(Failure(format!("{what}: accepted, {value:?}"))),
    }
}
