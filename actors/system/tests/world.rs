//! A log, a store and a projection that every test of the system starts from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use refold_domain::decode::WireFormat;
use refold_domain::fold::AnyProjection;
use refold_domain::fold::FoldOptions;
use refold_domain::fold::erase;
use refold_domain::observe::ActorId;
use refold_domain::observe::Board;
use refold_domain::observe::Observed;
use refold_domain::observe::Phase;
use refold_domain::partitioner::partition_of;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::restart::RestartPolicy;
use refold_domain::version::VersionId;
use refold_ports::memory::log::MemoryLog;
use refold_ports::memory::log::NewRecord;
use refold_ports::memory::store::MemoryStore;
use refold_ports::probe::Probe;
use refold_ports::source::ReadLimit;
use refold_projection::Change;
use refold_projection::Column;
use refold_projection::ColumnType;
use refold_projection::Compare;
use refold_projection::DecodeError;
use refold_projection::Envelope;
use refold_projection::Fingerprint;
use refold_projection::Payload;
use refold_projection::Projection;
use refold_projection::Row;
use refold_projection::cell::CellError;
use refold_projection::cell::CellReader;
use refold_projection::cell::write_bytes;
use refold_system::Failure;
use refold_system::Mode;
use refold_system::Plugs;
use refold_system::ProjectorHandle;
use refold_system::ProjectorOptions;
use refold_system::dice::SeededDice;
use refold_system::options::RetryDelays;
use refold_system::start_projector;

/// Partitions of every test's topic.
pub(crate) const PARTITIONS: i32 = 3;

/// Multiplies and adds: a lost, doubled or reordered event always shows.
pub(crate) struct Ledger<const VERSION: u32, const CODE: u128 = 1>;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Total(pub(crate) i64);

impl Row for Total {
    const COLUMNS: &'static [Column] = &[Column {
        name: "total",
        ty: ColumnType::Int8,
        nullable: false,
        compare: Compare::Same,
    }];

    fn encode(&self, out: &mut Vec<u8>) {
        write_bytes(out, &self.0.to_be_bytes());
    }

    fn decode(cells: &mut CellReader<'_>) -> Result<Self, CellError> {
        let total = cells.next_cell()?.and_then(|b| b.try_into().ok());
        let total = total.ok_or_else(|| cells.error("total"))?;
        Ok(Self(i64::from_be_bytes(total)))
    }
}

pub(crate) fn add(total: i64, amount: i64) -> i64 {
    (total * 31 + amount) % 1_000_003
}

impl<const VERSION: u32, const CODE: u128> Projection for Ledger<VERSION, CODE> {
    type Key = i64;
    type Event<'a> = i64;
    type Row = Total;
    const NAME: &'static str = "ledger";
    const VERSION: u32 = VERSION;
    const REPLACES: Option<u32> = if VERSION > 1 { Some(VERSION - 1) } else { None };
    const HANDLES: &'static [&'static str] = &["Added"];
    const CODE: Fingerprint = Fingerprint(CODE as _);

    fn decode<'a>(_kind: &'a str, payload: Payload<'a>) -> Result<i64, DecodeError> {
        match payload {
            Payload::Json(text) => text.parse().map_err(DecodeError::new),
            Payload::Proto(_) => Err(DecodeError::new("this test writes JSON")),
        }
    }

    fn fold(&self, row: Option<Total>, event: &Envelope<'_, i64>) -> Change<Total> {
        Change::Put(Total(add(row.map_or(0, |r| r.0), event.event)))
    }
}

/// One row as a test sees it: key, total, version in the aggregate, offset.
pub(crate) type SeenRow = (i64, i64, i64, i64);

#[derive(Default)]
struct Truth {
    rows: BTreeMap<(Partition, i64), (i64, i64, i64)>,
}

/// The log, the store and what the rows must be.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) log: MemoryLog,
    pub(crate) store: MemoryStore,
    truth: Arc<Mutex<Truth>>,
}

impl World {
    pub(crate) fn empty() -> Self {
        Self {
            log: MemoryLog::new("events", PARTITIONS),
            store: MemoryStore::new(),
            truth: Arc::default(),
        }
    }

    /// A log with `events` events over 20 aggregates.
    pub(crate) fn with_events(events: i64) -> Self {
        let world = Self::empty();
        world.append(events);
        world
    }

    /// Appends `events` events over 20 aggregates, a third of them to one.
    pub(crate) fn append(&self, events: i64) {
        for i in 0..events {
            let id = if i % 3 == 0 { 1 } else { i % 20 };
            self.add(id, i);
        }
    }

    /// The partition of an aggregate.
    pub(crate) fn home(id: i64) -> Partition {
        partition_of(id.to_string().as_bytes(), PARTITIONS)
    }

    /// Appends one event.
    pub(crate) fn add(&self, id: i64, amount: i64) {
        let partition = Self::home(id);
        let mut truth = self.truth.lock().expect("no test panics in here");
        let (total, version, off) = truth.rows.entry((partition, id)).or_default();
        *version += 1;
        *total = add(*total, amount);
        *off = self.log.append(partition, added(id, *version, amount)).0;
    }

    /// Appends the next event of an aggregate, of which its row must know nothing.
    pub(crate) fn add_unseen(&self, id: i64) -> Offset {
        let partition = Self::home(id);
        let truth = self.truth.lock().expect("no test panics in here");
        let version = truth.rows.get(&(partition, id)).map_or(0, |row| row.1);
        self.log.append(partition, added(id, version + 1, 1_000))
    }

    /// Appends a record that cannot be decoded and tells where.
    pub(crate) fn add_poison(&self, partition: Partition) -> Offset {
        self.log.append(partition, NewRecord::new("1", "poison"))
    }

    /// What the rows of a partition must be.
    pub(crate) fn expected(&self, partition: Partition) -> Vec<SeenRow> {
        let truth = self.truth.lock().expect("no test panics in here");
        let own = truth.rows.iter().filter(|((p, _), _)| *p == partition);
        own.map(|((_, id), (total, version, off))| (*id, *total, *version, *off))
            .collect()
    }

    /// What the rows of a partition are.
    pub(crate) fn rows(&self, version: VersionId, partition: Partition) -> Vec<SeenRow> {
        let rows = self.store.rows(version, partition);
        let mut rows: Vec<_> = rows.iter().map(|cells| see(cells)).collect();
        rows.sort_unstable();
        rows
    }

    /// Whether every row of a version is what it must be.
    pub(crate) fn is_equal(&self, version: VersionId) -> bool {
        let mut partitions = (0..PARTITIONS).map(Partition);
        partitions.all(|p| self.rows(version, p) == self.expected(p))
    }

    #[track_caller]
    pub(crate) fn assert_equal(&self, version: VersionId) {
        for partition in (0..PARTITIONS).map(Partition) {
            let rows = self.rows(version, partition);
            assert_eq!(rows, self.expected(partition), "{partition}");
        }
    }

    pub(crate) fn plugs(&self, projection: Arc<dyn AnyProjection>) -> Plugs {
        let (log, store) = (self.log.clone(), self.store.clone());
        let store = Arc::new(store);
        Plugs::new(projection, Arc::new(log), store.clone(), store)
            .with_dice(Arc::new(SeededDice::new(7)))
    }

    /// Starts version 1.
    pub(crate) async fn start(&self, options: ProjectorOptions) -> Process {
        Process::start(self.plugs(v1()), options).await
    }

    /// Starts version 1 with a probe.
    pub(crate) async fn start_probed(
        &self,
        options: ProjectorOptions,
        probe: impl Probe + 'static,
    ) -> Process {
        let plugs = self.plugs(v1()).with_probe(Arc::new(probe));
        Process::start(plugs, options).await
    }

    /// Starts version 1 and waits until all events are in and it serves.
    pub(crate) async fn start_caught_up(&self, options: ProjectorOptions) -> Process {
        let process = self.start(options).await;
        process.ready().await;
        self.caught_up(V1).await;
        process
    }

    /// Waits until a version holds every event.
    pub(crate) async fn caught_up(&self, version: VersionId) {
        until("the version holds every event", || self.is_equal(version)).await;
    }
}

fn added(id: i64, version: i64, amount: i64) -> NewRecord {
    let value = format!(
        r#"{{"format":1,"aggregate_id":{id},"version":{version},"type":"Added","ts":"2024-02-29T12:00:00Z","payload":{amount}}}"#
    );
    NewRecord::new(id.to_string(), value)
}

fn see(cells: &[u8]) -> SeenRow {
    let mut reader = CellReader::new(cells);
    let mut next = || {
        let cell = reader.next_cell().expect("a whole row");
        let cell = cell.expect("no null").try_into().expect("eight bytes");
        i64::from_be_bytes(cell)
    };
    (next(), next(), next(), next())
}

pub(crate) const V1: VersionId = VersionId(1);
pub(crate) const V2: VersionId = VersionId(2);

pub(crate) fn v1() -> Arc<dyn AnyProjection> {
    erase(Ledger::<1>)
}

pub(crate) fn v2() -> Arc<dyn AnyProjection> {
    erase(Ledger::<2>)
}

/// Small batches, short waits.
pub(crate) fn live() -> ProjectorOptions {
    ProjectorOptions {
        mode: Mode::Live,
        batch: 20,
        batch_age: Duration::from_millis(2),
        workers: 2,
        fold: FoldOptions {
            wire: WireFormat::Json,
            complete_log: true,
        },
        bulk_read: ReadLimit {
            records: 16,
            bytes: 1 << 20,
        },
        read_wait: Duration::from_millis(10),
        copy_frame_bytes: 64,
        restart: RestartPolicy {
            first_delay: Duration::from_millis(1),
            max_delay: Duration::from_millis(4),
            intensity: 8,
            window: Duration::from_secs(60),
        },
        retry: RetryDelays {
            first: Duration::from_millis(1),
            longest: Duration::from_millis(5),
        },
        lookout_every: Duration::from_millis(20),
        start_patience: Duration::ZERO,
        ..ProjectorOptions::default()
    }
}

pub(crate) fn replay() -> ProjectorOptions {
    ProjectorOptions {
        mode: Mode::Replay,
        ..live()
    }
}

pub(crate) fn replay_and_catch_up() -> ProjectorOptions {
    ProjectorOptions {
        catch_up: true,
        ..replay()
    }
}

/// A running projector process and its board.
pub(crate) struct Process {
    pub(crate) handle: ProjectorHandle,
    pub(crate) board: Board,
    label: String,
}

impl Process {
    pub(crate) async fn try_start(
        plugs: Plugs,
        label: String,
        options: ProjectorOptions,
    ) -> Result<Self, Failure> {
        let board = Board::new();
        let handle = start_projector(plugs, board.clone(), options).await?;
        Ok(Self {
            handle,
            board,
            label,
        })
    }

    pub(crate) async fn start(plugs: Plugs, options: ProjectorOptions) -> Self {
        let label = "ledger_v1".to_owned();
        let started = Self::try_start(plugs, label, options).await;
        started.expect("the process starts")
    }

    pub(crate) async fn start_v2(world: &World, options: ProjectorOptions) -> Self {
        let plugs = world.plugs(v2());
        let started = Self::try_start(plugs, "ledger_v2".to_owned(), options).await;
        started.expect("the process starts")
    }

    pub(crate) fn seen(&self, partition: Partition) -> Observed {
        let id = ActorId {
            version: self.label.clone(),
            partition,
        };
        self.board.get(&id).expect("the projector is on the board")
    }

    /// The states of all projectors of the process.
    pub(crate) fn all(&self) -> Vec<Observed> {
        self.board.all().into_iter().map(|(_, o)| o).collect()
    }

    pub(crate) async fn in_phase(&self, partition: Partition, phase: Phase) {
        let what = format!("{partition} is {phase}");
        until(&what, || self.seen(partition).phase == phase).await;
    }

    pub(crate) async fn ready(&self) {
        let mut status = self.handle.status();
        let ready = status.wait_for(|s| s.ready);
        let waited = tokio::time::timeout(PATIENCE, ready).await;
        waited
            .unwrap_or_else(|_| panic!("not ready: {:#?}", self.all()))
            .expect("the process lives");
    }

    pub(crate) async fn ended(&mut self) -> Result<refold_system::Outcome, Failure> {
        let ended = tokio::time::timeout(PATIENCE, self.handle.finished()).await;
        ended.unwrap_or_else(|_| panic!("not ended: {:#?}", self.all()))
    }
}

/// Longer than any condition takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a condition.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    waited
        .await
        .unwrap_or_else(|_| panic!("waited in vain: {what}"));
}
