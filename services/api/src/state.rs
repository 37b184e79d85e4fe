//! What the routes share.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use refold_domain::spec::ProjectionSpec;
use refold_domain::version::VersionId;
use refold_ports::History;
use refold_ports::Registry;
use refold_ports::registry::ReadModel;
use refold_ports::registry::RegistryError;
use refold_ports::registry::VersionRow;
use refold_telemetry::VersionStates;

use crate::cutover::Promoter;
use crate::read_times::MeasuredReads;
use crate::retirement::Dropping;
use crate::shadow::Shadow;

/// The routes' state, one per server.
pub(crate) struct ApiState {
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) reads: Arc<dyn ReadModel>,
    pub(crate) promoter: Arc<dyn Promoter>,
    /// The past, when the server has a log to ask.
    pub(crate) history: Option<Arc<dyn History>>,
    /// Names of the linked projections; the first is the default.
    names: Vec<&'static str>,
    /// Labels by id. An id keeps its label for ever, so entries never go stale.
    labels: RwLock<HashMap<VersionId, Arc<str>>>,
    pub(crate) states: VersionStates,
    /// Where answered reads are compared with a candidate.
    pub(crate) shadow: Option<Shadow>,
    pub(crate) dropping: Dropping,
    /// What the reads took.
    pub(crate) measured: MeasuredReads,
    draining: AtomicBool,
}

impl ApiState {
    pub(crate) fn new(
        registry: Arc<dyn Registry>,
        reads: Arc<dyn ReadModel>,
        promoter: Arc<dyn Promoter>,
        specs: &[Arc<ProjectionSpec>],
        shadow: Option<Shadow>,
        history: Option<Arc<dyn History>>,
    ) -> Self {
        let mut names: Vec<&'static str> = Vec::new();
        for spec in specs {
            if !names.contains(&spec.name) {
                names.push(spec.name);
            }
        }
        Self {
            registry,
            reads,
            promoter,
            history,
            names,
            labels: RwLock::default(),
            states: VersionStates::new(),
            shadow,
            dropping: Dropping::default(),
            measured: MeasuredReads::default(),
            draining: AtomicBool::new(false),
        }
    }

    /// The projection that a request means: the one it names, or the first that is linked.
    pub(crate) fn projection(&self, wanted: Option<&str>) -> Option<&'static str> {
        match wanted {
            None => self.names.first().copied(),
            Some(wanted) => self.names.iter().copied().find(|n| *n == wanted),
        }
    }

    /// The projection that a label is a version of.
    pub(crate) fn projection_of(&self, label: &str) -> Option<&'static str> {
        let (name, _) = label.rsplit_once("_v")?;
        self.names.iter().copied().find(|known| *known == name)
    }

    /// Reads the versions from the registry, and remembers their labels and states.
    pub(crate) async fn versions(&self) -> Result<Vec<VersionRow>, RegistryError> {
        let versions = self.registry.versions().await?;
        let shown = versions.iter();
        let shown = shown.map(|v| (v.name.clone(), v.label.clone(), v.state));
        self.states.set(shown.collect());
        // A plain map: a panic elsewhere cannot leave it half-written.
        let mut labels = self.labels.write().unwrap_or_else(PoisonError::into_inner);
        for version in &versions {
            let label = || Arc::from(version.label.as_str());
            labels.entry(version.id).or_insert_with(label);
        }
        Ok(versions)
    }

    /// The label of a version.
    pub(crate) async fn label(&self, id: VersionId) -> Result<Arc<str>, RegistryError> {
        if let Some(label) = self.known_label(id) {
            return Ok(label);
        }
        self.versions().await?;
        self.known_label(id)
            .ok_or_else(|| RegistryError::Failed(format!("version {id} has no row")))
    }

    fn known_label(&self, id: VersionId) -> Option<Arc<str>> {
        let labels = self.labels.read().unwrap_or_else(PoisonError::into_inner);
        labels.get(&id).cloned()
    }

    pub(crate) fn start_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}
