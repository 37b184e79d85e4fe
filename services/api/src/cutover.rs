//! How a promotion is asked for, and who carries it out.

use std::time::Duration;

use async_trait::async_trait;
use refold_domain::cutover::Forced;
use refold_ports::registry::Promotion;
use refold_ports::registry::RegistryError;

/// How a promotion is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutoverOptions {
    /// Judge every gate, change nothing.
    pub dry_run: bool,
    /// The generation that the caller insists on.
    pub if_generation: Option<i64>,
    /// Largest distance in events that a partition of the candidate may be behind.
    pub allowed_lag: u64,
    /// How old the last scan of both tables may be; `None` when none is asked for.
    pub max_scan_age: Option<Duration>,
    /// The gate that whoever asks answers for.
    pub forced: Option<Forced>,
    /// How long both versions may take to reach the switch vector.
    pub barrier_deadline: Duration,
    /// Who asks, for the audit.
    pub actor: String,
}

impl Default for CutoverOptions {
    /// 100,000 events: at most some seconds of a busy topic, so that no reader
    /// sees time go back by more than that; 30 s for the barrier.
    fn default() -> Self {
        Self {
            dry_run: false,
            if_generation: None,
            allowed_lag: 100_000,
            max_scan_age: None,
            forced: None,
            barrier_deadline: Duration::from_secs(30),
            actor: "api".to_owned(),
        }
    }
}

/// Whoever carries promotions out: in a server, the barrier actor.
#[async_trait]
pub trait Promoter: Send + Sync {
    /// Switches reads to the version of this label, or says why not. A version
    /// that is active already is answered with the promotion that made it so, and with who
    /// has it by now.
    ///
    /// # Errors
    /// [`RegistryError`]; nothing has changed then.
    async fn promote(
        &self,
        label: &str,
        options: &CutoverOptions,
    ) -> Result<Promotion, RegistryError>;
}
