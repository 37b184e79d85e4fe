//! A projector process from its first look at the registry to its exit code.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ractor::Actor;
use ractor::ActorRef;
use refold_domain::cutover;
use refold_domain::log::TopicIdentity;
use refold_domain::observe::Board;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::registry::MarkRow;
use refold_ports::registry::RegistryError;
use refold_ports::registry::VersionRow;
use refold_ports::source::SourceError;
use tokio::sync::Notify;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::context::Context;
use crate::context::Shared;
use crate::gate::Gate;
use crate::governor::Governor;
use crate::member::Member;
use crate::options::Mode;
use crate::options::PartitionSelection;
use crate::options::ProjectorOptions;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::plan;
use crate::plugs::Plugs;
use crate::shared_pace::SharedPace;
use crate::supervisor::Status;
use crate::supervisor::Supervisor;
use crate::supervisor::SupervisorArgs;
use crate::supervisor::SupervisorMsg;

/// Pause between two tries of a first contact, and between two looks at readiness.
const TRY_EVERY: Duration = Duration::from_millis(200);

/// Runs a projector process until it ends by itself or `shutdown` turns true,
/// and drains it then.
///
/// # Errors
/// [`Failure`], with one sentence and an exit code.
pub async fn run_projector(
    plugs: Plugs,
    board: Board,
    options: ProjectorOptions,
    mut shutdown: watch::Receiver<bool>,
) -> Result<Outcome, Failure> {
    let mut handle = tokio::select! {
        started = start_projector(plugs, board, options) => started?,
        () = turned_true(&mut shutdown) => return Ok(Outcome::Drained),
    };
    tokio::select! {
        ended = handle.finished() => return ended,
        () = turned_true(&mut shutdown) => {}
    }
    handle.drain().await
}

/// Completes when `shutdown` turns true; a sender that is gone never shuts down.
async fn turned_true(shutdown: &mut watch::Receiver<bool>) {
    if shutdown.wait_for(|down| *down).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A running projector process.
pub struct ProjectorHandle {
    supervisor: ActorRef<SupervisorMsg>,
    status: watch::Receiver<Status>,
    readiness: JoinHandle<()>,
    /// Holds a rebuild back; ends with the process.
    _governor: Option<Governor>,
    shared: Shared,
    /// The place in the group, where one shares the partitions out.
    member: Option<Member>,
}

/// Registers the version, checks the log against it and starts one projector per partition.
///
/// # Errors
/// [`Failure::Refused`] and [`Failure::Unreachable`]; nothing runs then.
pub async fn start_projector(
    plugs: Plugs,
    board: Board,
    options: ProjectorOptions,
) -> Result<ProjectorHandle, Failure> {
    options.validate().map_err(Failure::Refused)?;
    let (version, log) = admit(&plugs, &options).await?;
    let partitions = options.partitions.of(log.partitions);
    let partitions = partitions.map_err(Failure::Refused)?;
    let by_group = options.partitions == PartitionSelection::ByGroup;
    let shared = Shared::new(Context {
        version: version.id,
        label: version.label,
        // The others of a group may all go: memory has to do for every partition then.
        partitions: match by_group {
            true => usize::try_from(log.partitions).unwrap_or_default(),
            false => partitions.len(),
        },
        gate: Gate::new(options.workers, options.bulk_bytes()),
        pace: SharedPace::new(options.rate_limit),
        transactions: Arc::new(Semaphore::new(
            options.transactions.min(Semaphore::MAX_PERMITS),
        )),
        plugs,
        options,
        board,
    });
    let order = largest_first(&shared, &partitions).await?;
    let governor = Governor::start(&shared).await;
    let (sender, status) = watch::channel(Status::default());
    // Not the status: two who wait for one watch are woken in an order that nobody decides.
    let all_reached_end = Arc::new(Notify::new());
    let reached = Arc::clone(&all_reached_end);
    let readiness = tokio::spawn(watch_readiness(shared.clone(), reached, sender.clone()));
    let args = SupervisorArgs {
        shared: shared.clone(),
        order,
        status: sender,
        all_reached_end,
        by_group,
    };
    let spawned = Supervisor::spawn(None, Supervisor, args).await;
    let (supervisor, _) = spawned.map_err(|error| Failure::Broken {
        partition: None,
        reason: format!("the supervisor cannot be started: {error}"),
    })?;
    let member = match shared.plugs.group.clone().filter(|_| by_group) {
        Some(group) => Some(Member::join(group, &shared, &supervisor).await?),
        None => None,
    };
    Ok(ProjectorHandle {
        supervisor,
        status,
        readiness,
        _governor: governor,
        shared,
        member,
    })
}

impl ProjectorHandle {
    /// How the process is, to be awaited.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Completes when all projectors have ended.
    ///
    /// # Errors
    /// [`Failure`], the gravest of all partitions.
    pub async fn finished(&mut self) -> Result<Outcome, Failure> {
        let stopped = || Failure::Broken {
            partition: None,
            reason: "the supervisor ended without a result".to_owned(),
        };
        let mut supervisor_gone = std::pin::pin!(self.supervisor.wait(None));
        let ended = tokio::select! {
            biased;
            ended = self.status.wait_for(|s| s.ended.is_some()) => {
                ended.ok().and_then(|s| s.ended.clone())
            }
            _ = &mut supervisor_gone => None,
        };
        // The last word comes before the supervisor's end; both may be seen at once.
        let ended = ended.or_else(|| self.status.borrow().ended.clone());
        let ended = ended.unwrap_or_else(|| Err(stopped()));
        // Behind the last commit, so that whoever gets the partitions finds them free.
        if let Some(member) = self.member.take() {
            member.leave().await;
        }
        if ended == Ok(Outcome::Finished) && self.status.borrow().all_reached_end {
            // A replay that ends here must not leave its readiness to chance.
            announce_ready(&self.shared, &mut None).await;
        }
        ended
    }

    /// Lets every projector finish what it has in a transaction and ends them;
    /// bounded by [`ProjectorOptions::drain_bound`].
    ///
    /// # Errors
    /// As [`ProjectorHandle::finished`].
    pub async fn drain(&mut self) -> Result<Outcome, Failure> {
        // A supervisor that is gone has ended already.
        let _ = self.supervisor.cast(SupervisorMsg::Drain);
        self.finished().await
    }

    /// Ends everything where it stands, as a crash would. The next take-over finds out what is durable.
    pub fn kill(&self) {
        self.supervisor.get_cell().kill();
    }

    /// As [`ProjectorHandle::kill`], and completes when no actor is left, so that none of them
    /// takes a partition over behind whoever is started next.
    pub async fn kill_and_wait(&self) {
        let supervisor = self.supervisor.get_cell();
        let projectors = supervisor.get_children();
        supervisor.kill();
        for actor in projectors.iter().chain([&supervisor]) {
            // An endless wait cannot run out.
            let _ = actor.wait(None).await;
        }
    }
}

impl fmt::Debug for ProjectorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProjectorHandle")
            .field("version", &self.shared.label)
            .field("status", &*self.status.borrow())
            .finish_non_exhaustive()
    }
}

impl Drop for ProjectorHandle {
    fn drop(&mut self) {
        self.readiness.abort();
        self.kill();
    }
}

/// Repeats a first contact until it answers or the patience is over.
async fn with_patience<T, E, F>(
    patience: Duration,
    passes: impl Fn(&E) -> bool,
    mut contact: impl FnMut() -> F,
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let started = Instant::now();
    loop {
        match contact().await {
            Err(error) if passes(&error) && started.elapsed() < patience => {
                tokio::time::sleep(TRY_EVERY).await;
            }
            answer => return answer,
        }
    }
}

fn of_source(error: SourceError) -> Failure {
    match error {
        SourceError::Unreachable(_) => Failure::Unreachable(error.to_string()),
        other => Failure::Refused(other.to_string()),
    }
}

fn of_registry(error: RegistryError) -> Failure {
    match error {
        RegistryError::Unreachable(_) => Failure::Unreachable(error.to_string()),
        other => Failure::Refused(other.to_string()),
    }
}

/// Registers the version and checks that it may be projected from this log.
async fn admit(
    plugs: &Plugs,
    options: &ProjectorOptions,
) -> Result<(VersionRow, TopicIdentity), Failure> {
    let patience = options.start_patience;
    let asked = with_patience(patience, SourceError::is_transient, || {
        plugs.source.identity()
    });
    let log = asked.await.map_err(of_source)?;
    let spec = plugs.projection.spec();
    let passes = |e: &RegistryError| matches!(e, RegistryError::Unreachable(_));
    let asked = with_patience(patience, passes, || plugs.registry.register(spec, &log));
    let version = asked.await.map_err(of_registry)?;
    plan::same_log(&version.log, &log)
        .map_err(|detail| Failure::Refused(format!("{}: {detail}", version.label)))?;
    if !version.state.is_projected() {
        let note = version.note.as_deref().unwrap_or("no reason is stored");
        return Err(Failure::Refused(format!(
            "version {} is {} ({note}) and is projected no more",
            version.label, version.state
        )));
    }
    Ok((version, log))
}

/// The partitions by work, largest first; announces those that have to be loaded in bulk.
pub(crate) async fn largest_first(
    shared: &Shared,
    partitions: &[Partition],
) -> Result<Vec<Partition>, Failure> {
    let marks = shared.plugs.registry.marks(shared.version).await;
    let marks = marks.map_err(of_registry)?;
    let mut sized = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let log = shared.plugs.source.watermarks(*partition).await;
        let log = log.map_err(of_source)?;
        let mark = marks.iter().find(|m| m.partition == *partition);
        let next = mark.map_or(log.low, |m| m.next);
        refuse_gap(shared, *partition, next)?;
        let events = next.lag_to(log.high);
        if !mark.is_some_and(has_rows) {
            shared.gate.expect(*partition, events);
        }
        sized.push((events, *partition));
    }
    // Largest first; equal ones by number, so that the order can be told.
    sized.sort_by_key(|(events, partition)| (std::cmp::Reverse(*events), *partition));
    Ok(sized.into_iter().map(|(_, partition)| partition).collect())
}

fn has_rows(mark: &MarkRow) -> bool {
    mark.has_leaf
}

/// Refuses a start above a mark before any partition is touched.
fn refuse_gap(shared: &Shared, partition: Partition, next: Offset) -> Result<(), Failure> {
    match shared.options.from_offset {
        Some(from) if from > next => Err(Failure::Refused(plan::gap(partition, next, from))),
        _ => Ok(()),
    }
}

/// Waits until all partitions of this process reached the end, makes the version
/// ready, and activates it if it is a live one and the first of its name.
async fn watch_readiness(shared: Shared, reached: Arc<Notify>, status: watch::Sender<Status>) {
    reached.notified().await;
    let mut told = None;
    while !announce_ready(&shared, &mut told).await {
        // Other processes may own the other partitions.
        tokio::time::sleep(TRY_EVERY).await;
    }
    status.send_modify(|s| s.ready = true);
}

/// One try to make the version ready; `true` when nothing is left to do. `told` is the gate that
/// was told last to hold it back.
async fn announce_ready(shared: &Shared, told: &mut Option<cutover::Gate>) -> bool {
    match shared.plugs.registry.make_ready(shared.version).await {
        Ok(false) | Err(RegistryError::Unreachable(_)) => false,
        Ok(true) => shared.options.mode != Mode::Live || activate_first(shared, told).await,
        Err(error) => {
            tracing::warn!(version = shared.label, %error, "version cannot become ready");
            true
        }
    }
}

async fn activate_first(shared: &Shared, told: &mut Option<cutover::Gate>) -> bool {
    let registry = &shared.plugs.registry;
    let name = shared.plugs.projection.spec().name;
    match registry.active(name).await {
        Ok(Some(_)) => return true,
        Ok(None) => {}
        Err(_) => return false,
    }
    let actor = &shared.options.actor;
    match registry.activate_first(shared.version, actor, None).await {
        Ok(first) => {
            tracing::info!(
                version = shared.label,
                generation = first.active.generation,
                durability = first.durability.word(),
                "first version activated"
            );
            true
        }
        // Another process was quicker, with this version or another one.
        Err(RegistryError::Conflict(why)) => {
            tracing::info!(version = shared.label, why, "not activated");
            true
        }
        Err(RegistryError::GateRefused(gates)) => {
            if let Some(holds) = gates.iter().find(|gate| !gate.passes())
                && told.replace(holds.gate) != Some(holds.gate)
            {
                let (gate, why) = (holds.gate.word(), &holds.detail);
                tracing::warn!(
                    version = shared.label,
                    gate,
                    why,
                    "the first version is not activated; where that is known and meant, force the \
                     gate with refold cutover -force and -reason"
                );
            }
            false
        }
        Err(_) => false,
    }
}
