//! Many writers at once, whose transactions end in another order than their positions are in,
//! and readers that follow meanwhile.

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use futures::SinkExt as _;
use refold_domain::log::Chunk;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_local::PostgresOptions;
use refold_local::PostgresServer;
use refold_local::testing::ScratchDir;
use refold_ports::source::LogSource;
use refold_ports::source::ReadLimit;
use refold_ports::source::ReadMode;
use refold_source_postgres as events;
use refold_source_postgres::EventStoreOptions;
use refold_source_postgres::EventTable;
use tokio_postgres::Client;
use tokio_postgres::NoTls;

use crate::stage::PATIENCE;

const WRITERS: u64 = 50;
const PARTITIONS: i32 = 8;
const TABLE: &str = "many";

/// How many rows are written, committed or not; `REFOLD_EVENTS` asks for another number.
fn wanted() -> u64 {
    let asked = env::var("REFOLD_EVENTS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(20_000)
}

/// What a reader delivered, or a table holds: position and key, in order.
type Rows = Vec<(i64, Vec<u8>)>;

async fn connect(dsn: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(dsn, NoTls)
        .await
        .expect("the server is there");
    tokio::spawn(connection);
    client
}

/// One of the writers.
struct Writer {
    client: Client,
    rng: fastrand::Rng,
    name: u64,
    /// Rows that it wrote, for good or not.
    written: u64,
    transactions: u64,
}

impl Writer {
    async fn run(&self, sql: &str) {
        let done = self.client.batch_execute(sql).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// The next rows as text: partition and key.
    fn rows(&mut self, count: u64) -> Vec<(i32, String)> {
        let next = |_| {
            self.written += 1;
            let key = format!("w{}-{}", self.name, self.written);
            (self.rng.i32(0..PARTITIONS), key)
        };
        (0..count).map(next).collect()
    }

    async fn insert(&mut self, count: u64) {
        let rows = self.rows(count);
        let values = rows.iter().map(|(p, key)| format!("({p}, '{key}', 'x')"));
        let values = values.collect::<Vec<_>>().join(", ");
        let sql = format!("insert into refold_events.many (partition, key, value) values {values}");
        self.run(&sql).await;
    }

    async fn copy(&mut self, count: u64) {
        let rows = self.rows(count);
        let lines: String = rows
            .iter()
            .map(|(p, key)| format!("{p}\t{key}\tx\n"))
            .collect();
        let sql = "copy refold_events.many (partition, key, value) from stdin";
        let sink = self.client.copy_in(sql).await.expect("a COPY");
        let mut sink = std::pin::pin!(sink);
        sink.send(Bytes::from(lines)).await.expect("rows are taken");
        sink.finish().await.expect("the COPY ends");
    }

    /// Work that a transaction does while it is open.
    async fn dawdle(&mut self) {
        let millis = match self.rng.u8(..20) {
            0 => self.rng.u64(20..60),
            _ => self.rng.u64(0..6),
        };
        self.run(&format!("select pg_sleep({})", millis as f64 / 1_000.0))
            .await;
    }

    async fn transaction(&mut self) {
        self.transactions += 1;
        let kind = self.rng.u8(..100);
        if kind < 20 {
            return self.insert(1).await;
        }
        self.run("begin").await;
        match kind {
            20..60 => {
                for _ in 0..self.rng.u8(1..4) {
                    let count = self.rng.u64(1..5);
                    self.insert(count).await;
                    self.dawdle().await;
                }
            }
            60..75 => {
                let count = self.rng.u64(1..30);
                self.copy(count).await;
                self.dawdle().await;
            }
            _ => {
                if self.rng.bool() {
                    self.insert(1).await;
                }
                self.run("savepoint s").await;
                self.insert(2).await;
                self.dawdle().await;
                if self.rng.bool() {
                    self.run("rollback to s").await;
                }
                self.dawdle().await;
                self.insert(1).await;
            }
        }
        let commits = self.rng.u8(..10) > 0;
        if self.rng.u8(..20) == 0 {
            let id = format!("'p{}-{}'", self.name, self.transactions);
            self.run(&format!("prepare transaction {id}")).await;
            self.dawdle().await;
            let end = if commits { "commit" } else { "rollback" };
            return self.run(&format!("{end} prepared {id}")).await;
        }
        self.run(if commits { "commit" } else { "rollback" }).await;
    }

    /// Every third one waits for no disk.
    async fn write(mut self, rows: u64) -> u64 {
        if self.name.is_multiple_of(3) {
            self.run("set synchronous_commit = off").await;
        }
        while self.written < rows {
            self.transaction().await;
        }
        self.written
    }
}

/// Follows a partition until `ended` is the end that it has to reach.
async fn follow(
    source: EventTable,
    partition: Partition,
    (writing, ended): (Arc<AtomicBool>, Arc<AtomicU64>),
) -> Rows {
    let reader = source.open(partition, Offset(0), ReadMode::Tail).await;
    let mut reader = reader.expect("the table is there");
    let following = tokio::task::spawn_blocking(move || {
        let limit = ReadLimit {
            records: 500,
            bytes: 1 << 20,
        };
        let mut chunk = Chunk::new(partition, Offset(0));
        let mut delivered = Rows::new();
        let begun = Instant::now();
        let mut quiet = begun;
        loop {
            let read = reader.read(&mut chunk, limit, Duration::from_millis(50));
            read.unwrap_or_else(|error| panic!("{partition}: {error}"));
            delivered.extend(chunk.records().map(|r| (r.offset.0, r.key.to_vec())));
            if writing.load(Ordering::Acquire) {
                quiet = Instant::now();
                continue;
            }
            let reached = chunk.log_end().map_or(0, |end| end.0 as u64);
            if reached >= ended.load(Ordering::Acquire) {
                return delivered;
            }
            assert!(quiet.elapsed() < PATIENCE, "{partition} stays at {reached}");
        }
    });
    following.await.expect("the reader does not panic")
}

/// What the table holds in the end, by partition.
async fn truth(client: &Client) -> BTreeMap<i32, Rows> {
    let sql = "select partition, position, key from refold_events.many order by 1, 2";
    let rows = client.query(sql, &[]).await.expect("the rows");
    let mut all: BTreeMap<i32, Rows> = (0..PARTITIONS).map(|p| (p, Rows::new())).collect();
    for row in rows {
        let of = all.entry(row.get(0)).or_default();
        of.push((row.get(1), row.get(2)));
    }
    all
}

/// The first difference of two lists, told short.
fn compare(partition: i32, delivered: &Rows, there: &Rows) -> Option<String> {
    let missed = there
        .iter()
        .filter(|row| delivered.binary_search(row).is_err());
    let missed: Vec<i64> = missed.map(|row| row.0).collect();
    (delivered != there).then(|| {
        format!(
            "p{partition}: {} delivered of {}, missed at {:?}",
            delivered.len(),
            there.len(),
            &missed[..missed.len().min(10)]
        )
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_writers_at_once_every_committed_event_is_delivered_once_and_in_order() {
    let scratch = ScratchDir::new("refold-many").expect("a directory");
    let options = PostgresOptions {
        settings: vec![("max_prepared_transactions".to_owned(), "64".to_owned())],
        ..PostgresOptions::default()
    };
    let server = PostgresServer::start(scratch.path(), options).expect("a server");
    let dsn = server.dsn();
    let store = EventStoreOptions::parse(&dsn).expect("a connection string");
    let created = events::create(&store, TABLE, PARTITIONS).await;
    created.expect("the table is created");
    let source = EventTable::new(store, TABLE).expect("a legal name");

    let begun = Instant::now();
    let (writing, ended) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let followers: Vec<_> = (0..PARTITIONS)
        .map(|p| {
            let signals = (Arc::clone(&writing), Arc::clone(&ended));
            tokio::spawn(follow(source.clone(), Partition(p), signals))
        })
        .collect();
    let mut writers = Vec::new();
    for name in 0..WRITERS {
        let writer = Writer {
            client: connect(&dsn).await,
            rng: fastrand::Rng::with_seed(name),
            name,
            written: 0,
            transactions: 0,
        };
        writers.push(tokio::spawn(writer.write(wanted() / WRITERS)));
    }
    let mut written = 0;
    for writer in writers {
        written += writer.await.expect("the writer does not panic");
    }
    let client = connect(&dsn).await;
    let last = client.query_one("select last_value from refold_events.many_position", &[]);
    let last: i64 = last.await.expect("the sequence").get(0);
    ended.store(last as u64 + 1, Ordering::Release);
    writing.store(false, Ordering::Release);
    let wrote = begun.elapsed();

    let truth = truth(&client).await;
    let (mut wrong, mut delivered) = (Vec::new(), 0);
    for (partition, follower) in (0..).zip(followers) {
        let rows = follower.await.expect("the follower does not panic");
        delivered += rows.len() as u64;
        wrong.extend(compare(partition, &rows, &truth[&partition]));
    }
    assert_eq!(wrong, Vec::<String>::new());
    // Positions that were passed without an event: no event is at any of them.
    let gaps = last as u64 + 1 - delivered;
    assert!(gaps > written / 50, "{gaps} gaps of {written} rows are few");
    println!(
        "{{\"schema\":\"refold.event-table/1\",\"writers\":{WRITERS},\"partitions\":{PARTITIONS},\
         \"rows\":{written},\"delivered\":{delivered},\"differences\":{},\"gaps\":{gaps},\
         \"seconds\":{:.1}}}",
        wrong.len(),
        wrote.as_secs_f64()
    );
}
