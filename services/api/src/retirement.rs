//! The end of a version: asked for over HTTP, carried out in the background.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use poem::http::StatusCode;
use poem_openapi::Object;
use refold_domain::version::VersionId;
use refold_domain::version::VersionState;
use refold_ports::Registry;
use refold_ports::registry::RegistryError;
use refold_ports::registry::RetireRequest;
use refold_ports::registry::VersionRow;
use tokio::time::Instant;

use crate::problem::Problem;
use crate::promotion;
use crate::state::ApiState;

/// Between two attempts to drop what may still be read.
const LOOK: Duration = Duration::from_millis(500);

/// How the tables of retired versions go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetireOptions {
    /// How long the tables of a version that was readable stay after it was retired.
    pub grace: Duration,
    /// How much longer to wait for transactions that may still read them.
    pub patience: Duration,
}

impl Default for RetireOptions {
    /// A minute of grace, ten of patience.
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(60),
            patience: Duration::from_secs(600),
        }
    }
}

impl RetireOptions {
    /// The grace of a version in this state: nobody reads a build whose history is not in.
    pub fn grace_of(&self, state: VersionState) -> Duration {
        match state {
            VersionState::Building => Duration::ZERO,
            _ => self.grace,
        }
    }
}

/// A version's end has begun.
#[derive(Debug, Clone, Object)]
pub(crate) struct RetireAnswer {
    /// The version's label.
    version: String,
    /// The state that it was in.
    was: String,
    /// retired, or dropped when its tables are gone already.
    state: String,
    /// Seconds for which its tables stay, at least.
    grace_seconds: f64,
}

/// What a request says.
pub(crate) struct Asked<'a> {
    pub(crate) label: &'a str,
    pub(crate) confirm: Option<&'a str>,
    pub(crate) if_match: Option<&'a str>,
    pub(crate) actor: String,
}

/// Retires a version and sees to it that its tables are dropped once nobody reads them.
pub(crate) async fn retire(
    state: &ApiState,
    asked: Asked<'_>,
    options: RetireOptions,
) -> Result<RetireAnswer, Problem> {
    let label = asked.label;
    let if_generation = insisted(asked.if_match)?;
    let version = state.registry.version(label).await?;
    if asked.confirm != Some(label) {
        return Err(not_confirmed(&version));
    }
    let grace = options.grace_of(version.state);
    let answer = |now: VersionState| RetireAnswer {
        version: version.label.clone(),
        was: version.state.word().to_owned(),
        state: now.word().to_owned(),
        grace_seconds: grace.as_secs_f64(),
    };
    if version.state == VersionState::Dropped {
        return Ok(answer(VersionState::Dropped));
    }
    let request = RetireRequest {
        version: version.id,
        abort: false,
        if_generation,
        reason: format!("retired over HTTP by {}", asked.actor),
        actor: asked.actor,
    };
    state.registry.retire_as(&request).await?;
    state
        .dropping
        .begin(&state.registry, &version, grace, options.patience);
    // The board shows it at once, not with the next refresh.
    if let Err(error) = state.versions().await {
        tracing::warn!(%error, "the versions could not be read after one was retired");
    }
    Ok(answer(VersionState::Retired))
}

/// The generation that the request insists on; a header has to be there.
fn insisted(if_match: Option<&str>) -> Result<Option<i64>, Box<Problem>> {
    if if_match.is_none() {
        let detail = "send If-Match with the ETag of GET /projections, or * for any";
        let title = "Say which registry you saw";
        let status = StatusCode::PRECONDITION_REQUIRED;
        return Err(Problem::new(status, "if-match-required", title, detail).into());
    }
    Ok(promotion::if_match(if_match).map_err(Problem::unreadable)?)
}

fn not_confirmed(version: &VersionRow) -> Problem {
    let (label, state) = (&version.label, version.state);
    let detail = format!(
        "{label} is {state}; what is dropped comes back by a rebuild only. To go on: ?confirm={label}"
    );
    let title = "Say its name once more";
    Problem::new(StatusCode::CONFLICT, "not-confirmed", title, detail)
}

/// The versions that this server is dropping.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dropping(Arc<Mutex<HashSet<VersionId>>>);

impl Dropping {
    /// Drops a retired version in the background. If the server ends before, it stays retired,
    /// and asking once more goes on.
    fn begin(
        &self,
        registry: &Arc<dyn Registry>,
        version: &VersionRow,
        grace: Duration,
        patience: Duration,
    ) {
        let (id, label) = (version.id, version.label.clone());
        if !self.set().insert(id) {
            return;
        }
        let (all, registry) = (self.clone(), Arc::clone(registry));
        tokio::spawn(async move {
            let dropped = drop_when_unread(&*registry, id, grace, patience, "api").await;
            match dropped {
                Ok(()) => tracing::info!(version = %label, "dropped"),
                Err(error) => tracing::warn!(version = %label, %error, "it stays retired"),
            }
            all.set().remove(&id);
        });
    }

    fn set(&self) -> MutexGuard<'_, HashSet<VersionId>> {
        // A plain set: a panic elsewhere cannot leave it half-written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops a retired version once its grace is over and nobody can read it any more.
///
/// # Errors
/// What still stood in the way when grace and patience were over, or what is no matter of time.
pub async fn drop_when_unread(
    registry: &dyn Registry,
    version: VersionId,
    grace: Duration,
    patience: Duration,
    actor: &str,
) -> Result<(), RegistryError> {
    let deadline = Instant::now() + grace + patience;
    loop {
        let outcome = registry.drop_retired(version, grace, actor).await;
        if !may_pass(&outcome, deadline).await {
            return outcome;
        }
    }
}

/// Whether what stands in the way of a step (a grace, a reader, a lock) may pass before the
/// deadline. Answers when it is time to try again.
pub async fn may_pass(outcome: &Result<(), RegistryError>, deadline: Instant) -> bool {
    let passes = matches!(
        outcome,
        Err(RegistryError::Conflict(_) | RegistryError::Unreachable(_))
    );
    if !passes || Instant::now() >= deadline {
        return false;
    }
    tokio::time::sleep(LOOK).await;
    true
}
