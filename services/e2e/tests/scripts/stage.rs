//! A script played on a topic of its own into a database of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use refold_domain::decode::WireFormat;
use refold_domain::fold::FoldOptions;
use refold_domain::fold::erase;
use refold_domain::observe::Board;
use refold_domain::partitioner::partition_of;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_e2e::Record;
use refold_e2e::Topic;
use refold_local::testing;
use refold_ports::Registry;
use refold_ports::Sink;
use refold_ports::sink::TakeOver;
use refold_projection::Key;
use refold_projection::KeyRef;
use refold_projection::Projection;
use refold_projection::Row;
use refold_projection::cell::CellReader;
use refold_projection::harness::Form;
use refold_projection::harness::Script;
use refold_projection::harness::ScriptEvent;
use refold_proto::EnvelopeRef;
use refold_proto::IdRef;
use refold_source_kafka::KafkaConfig;
use refold_source_kafka::KafkaSource;
use refold_store_postgres::PgRegistry;
use refold_store_postgres::PostgresSink;
use refold_store_postgres::SessionOptions;
use refold_system::Mode;
use refold_system::Outcome;
use refold_system::Plugs;
use refold_system::ProjectorOptions;
use refold_system::run_projector;

const PARTITIONS: i32 = 3;

/// A row as the store has it: version and offset of the last event, and the row
/// unless it is deleted.
type Stored<R> = (i64, i64, Option<R>);

/// Plays the script: the first `cut` events are there when the version is built, the
/// rest comes afterwards, a few events a transaction. After both, the store
/// must hold exactly what the script says.
pub(crate) fn check<P: Projection + Clone>(script: Script<P>, format: WireFormat, cut: usize) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let stage = Stage::open(&script, format).await;
        stage.write(0, cut);
        stage.replay_and_compare(cut, "bulk").await;
        stage.write(cut, script.events().len());
        stage
            .replay_and_compare(script.events().len(), "apply")
            .await;
    });
}

struct Stage<'a, P: Projection> {
    script: &'a Script<P>,
    format: WireFormat,
    spec: ProjectionSpec,
    topic: Topic,
    source: KafkaSource,
    sink: PostgresSink,
    session: SessionOptions,
    registry: Arc<PgRegistry>,
}

impl<'a, P: Projection + Clone> Stage<'a, P> {
    async fn open(script: &'a Script<P>, format: WireFormat) -> Self {
        let brokers = &testing::stack().kafka;
        let topic = Topic::on(brokers, &testing::unique_topic("script"));
        topic.create(PARTITIONS);
        let dsn = testing::fresh_database("script").expect("a database");
        let session = SessionOptions::parse(&dsn).expect("an address");
        refold_store_postgres::migrate(&session)
            .await
            .expect("migrations");
        let registry = PgRegistry::new(&session);
        Self {
            script,
            format,
            spec: ProjectionSpec::of::<P>(),
            source: KafkaSource::new(KafkaConfig::new(brokers), topic.name()).expect("a topic"),
            sink: PostgresSink::new(session.clone()),
            topic,
            session,
            registry: Arc::new(registry),
        }
    }

    fn write(&self, from: usize, to: usize) {
        let records: Vec<_> = self.script.events()[from..to]
            .iter()
            .map(|event| Record {
                partition: home(event).0,
                key: event.key.borrow().to_string().into_bytes(),
                value: Some(encode(event, self.format)),
            })
            .collect();
        self.topic.write(&records);
    }

    async fn replay_and_compare(&self, events: usize, path: &str) {
        let plugs = Plugs::new(
            erase(self.script.projection.clone()),
            Arc::new(self.source.clone()),
            Arc::new(PostgresSink::new(self.session.clone())),
            Arc::clone(&self.registry) as Arc<dyn Registry>,
        );
        let options = ProjectorOptions {
            mode: Mode::Replay,
            batch: 3,
            fold: FoldOptions {
                wire: self.format,
                complete_log: true,
            },
            ..ProjectorOptions::default()
        };
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        let outcome = run_projector(plugs, Board::new(), options, stopped).await;
        assert_eq!(outcome, Ok(Outcome::Finished), "{path}");
        let found = self.stored().await;
        assert_eq!(found, self.expected(events), "{path}, {events} events");
    }

    /// Every aggregate of the first `events` events, deleted or not.
    fn expected(&self, events: usize) -> BTreeMap<P::Key, Stored<P::Row>> {
        let rows = self.script.rows_before(events as i64);
        let mut rows = rows.expect("a script that folds");
        let mut ends = [0; PARTITIONS as usize];
        let mut expected = BTreeMap::new();
        for event in &self.script.events()[..events] {
            let end: &mut i64 = &mut ends[home(event).0 as usize];
            expected.insert(event.key.clone(), (event.version as i64, *end, None));
            *end += 1;
        }
        for (key, row) in &mut expected {
            row.2 = rows.remove(key);
        }
        assert!(rows.is_empty(), "rows without events: {rows:?}");
        expected
    }

    /// What the store has for the script's aggregates; what else it has fails the test.
    async fn stored(&self) -> BTreeMap<P::Key, Stored<P::Row>> {
        let label = self.spec.label();
        let version = self.registry.version(&label).await.expect("registered");
        let marks = self.registry.marks(version.id).await.expect("marks");
        let rows: u64 = marks.iter().map(|mark| mark.rows).sum();
        let mut stored = BTreeMap::new();
        for partition in (0..PARTITIONS).map(Partition) {
            // Taking over is the one way to the rows' own bytes; the next run takes over again.
            let lease = self.sink.take_over(TakeOver::from_anyone(
                version.id,
                &self.spec,
                partition,
                Offset(0),
            ));
            let mut writer = lease.await.expect("a take-over");
            let of_partition = |event: &&ScriptEvent<P::Key>| home(*event) == partition;
            let events = self.script.events().iter().filter(of_partition);
            let mut keys: Vec<Vec<u8>> = events.map(|event| key_cell(event.key.borrow())).collect();
            keys.sort();
            keys.dedup();
            for cells in writer.fetch(&keys).await.expect("rows") {
                let (key, row) = self.read(&cells);
                assert_eq!(stored.insert(key.clone(), row), None, "{key:?} twice");
            }
        }
        let live = stored.values().filter(|row| row.2.is_some()).count() as u64;
        assert_eq!(live, rows, "the sums count other rows than there are");
        stored
    }

    fn read(&self, cells: &[u8]) -> (P::Key, Stored<P::Row>) {
        let mut reader = CellReader::new(cells);
        let key = reader.next_cell().expect("a key").expect("not null");
        let key = key_of::<P::Key>(key);
        let columns = reader.clone();
        for _ in P::Row::COLUMNS {
            reader.next_cell().expect("a column");
        }
        let mut engine = || reader.next_cell().expect("a cell").expect("not null");
        let number = |cell: &[u8]| i64::from_be_bytes(cell.try_into().expect("8 bytes"));
        let (version, offset) = (number(engine()), number(engine()));
        let deleted = engine() == [1];
        let row = (!deleted).then(|| P::Row::decode(&mut columns.clone()).expect("the row"));
        (key, (version, offset, row))
    }
}

fn home<K: Key>(event: &ScriptEvent<K>) -> Partition {
    partition_of(event.key.borrow().to_string().as_bytes(), PARTITIONS)
}

fn key_cell(key: KeyRef<'_>) -> Vec<u8> {
    let mut cell = Vec::new();
    key.write_cell(&mut cell);
    cell
}

fn key_of<K: Key>(bytes: &[u8]) -> K {
    use refold_projection::KeyType;
    use refold_projection::Uuid;
    let key = match K::TYPE {
        KeyType::Int8 => KeyRef::Int(i64::from_be_bytes(bytes.try_into().expect("8 bytes"))),
        KeyType::Uuid => KeyRef::Uuid(Uuid(bytes.try_into().expect("16 bytes"))),
        KeyType::Text => KeyRef::Text(std::str::from_utf8(bytes).expect("text")),
    };
    K::from_key(key).expect("a key of this type")
}

fn encode<K: Key>(event: &ScriptEvent<K>, format: WireFormat) -> Vec<u8> {
    let form = match format {
        WireFormat::Proto => Form::Proto,
        WireFormat::Json => Form::Json,
    };
    let payload = match event.payload(form).expect("the event has this form") {
        refold_projection::Payload::Proto(bytes) => refold_proto::Payload::Proto(bytes),
        refold_projection::Payload::Json(text) => refold_proto::Payload::Json(text),
    };
    let envelope = EnvelopeRef {
        id: match event.key.borrow() {
            KeyRef::Int(id) => IdRef::Int(id),
            KeyRef::Uuid(id) => IdRef::Uuid(id.0),
            KeyRef::Text(id) => IdRef::Text(id.into()),
        },
        version: event.version,
        kind: event.kind.as_str().into(),
        ts_micros: event.ts_micros,
        payload,
    };
    let mut value = Vec::new();
    envelope.encode_to(&mut value);
    value
}
