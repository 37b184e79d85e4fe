//! Point reads over a pool against point reads over a few shared connections.
//!
//! `cargo run --release -p refold-store-postgres --example read_paths -- [SECONDS]`
//! prints one JSON object per way: requests per second and latencies in
//! microseconds. Both ways send the same prepared statement over the same rows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use bb8::ManageConnection;
use bb8::Pool;
use refold_domain::partitioner::partition_of;
use refold_local::testing;
use refold_ports::Registry;
use refold_ports::conformance::store::fixtures::PARTITIONS;
use refold_ports::conformance::store::fixtures::WIDE_V1;
use refold_ports::conformance::store::fixtures::WIDE_V2;
use refold_ports::conformance::store::fixtures::log;
use refold_ports::registry::ReadModel;
use refold_store_postgres::PgReadModel;
use refold_store_postgres::PgRegistry;
use refold_store_postgres::ReadOptions;
use refold_store_postgres::SessionOptions;
use refold_store_postgres::migrate;
use tokio_postgres::Client;
use tokio_postgres::Config;
use tokio_postgres::NoTls;
use tokio_postgres::Statement;

type Anything = Box<dyn std::error::Error + Send + Sync>;

/// Aggregates; every leaf holds all of them.
const KEYS: i64 = 50_000;
/// Requests in flight.
const CALLERS: usize = 16;

#[tokio::main]
async fn main() -> Result<(), Anything> {
    let seconds = std::env::args().nth(1).map_or(Ok(3), |s| s.parse())?;
    let time = Duration::from_secs(seconds);
    let dsn = testing::fresh_database("readpaths")?;
    let options = SessionOptions::parse(&dsn)?;
    migrate(&options).await?;
    let ids = fill(&options).await?;
    for size in [2, 4, 16] {
        let manager = Prepared {
            config: options.config.clone(),
            ids,
        };
        let pool = Pool::builder().max_size(size).min_idle(size);
        let pool = pool.test_on_check_out(false).build(manager).await?;
        let pool = Arc::new(pool);
        let way = format!("bb8 pool of {size}");
        run(&way, time, move |key| pooled(Arc::clone(&pool), key)).await?;
    }
    for clients in [1, 2, 3, 4] {
        let reads = ReadOptions {
            clients,
            ..ReadOptions::default()
        };
        let reads = Arc::new(PgReadModel::new(&options, reads));
        let way = format!("{clients} shared connections");
        run(&way, time, move |key| shared(Arc::clone(&reads), key)).await?;
    }
    Ok(())
}

async fn pooled(pool: Arc<Pool<Prepared>>, key: i64) -> Result<(), Anything> {
    let connection = pool.get().await?;
    let partition = partition_of(key.to_string().as_bytes(), PARTITIONS).0;
    let statement = &connection.statements[&partition];
    let row = connection
        .client
        .query_one(statement, &[&key, &"wide"])
        .await?;
    let found: Option<String> = row.try_get(2)?;
    found.map(drop).ok_or_else(|| "no row".into())
}

async fn shared(reads: Arc<PgReadModel>, key: i64) -> Result<(), Anything> {
    let answer = reads.read("wide", &key.to_string()).await?;
    answer.row.map(drop).ok_or_else(|| "no row".into())
}

/// Keeps [`CALLERS`] requests in flight for `time` and prints what came of it.
async fn run<F>(
    way: &str,
    time: Duration,
    read: impl Fn(i64) -> F + Clone + Send + 'static,
) -> Result<(), Anything>
where
    F: Future<Output = Result<(), Anything>> + Send,
{
    let begun = Instant::now();
    let callers: Vec<_> = (0..CALLERS as i64)
        .map(|caller| {
            let read = read.clone();
            tokio::spawn(async move {
                let mut micros = Vec::new();
                let mut key = caller;
                while begun.elapsed() < time {
                    // A step that is coprime to the number of keys visits all of them.
                    key = (key + 7_919) % KEYS;
                    let sent = Instant::now();
                    read(key).await?;
                    micros.push(sent.elapsed().as_micros());
                }
                Ok::<_, Anything>(micros)
            })
        })
        .collect();
    let (mut micros, mut fewest) = (Vec::new(), usize::MAX);
    for caller in callers {
        let of_caller = caller.await??;
        fewest = fewest.min(of_caller.len());
        micros.extend(of_caller);
    }
    let per_second = micros.len() as f64 / begun.elapsed().as_secs_f64();
    micros.sort_unstable();
    let at = |share: f64| micros[((micros.len() - 1) as f64 * share) as usize];
    let line = serde_json::json!({
        "way": way,
        "callers": CALLERS,
        "requests_per_second": per_second.round(),
        "p50_us": at(0.5) as u64,
        "p99_us": at(0.99) as u64,
        "max_us": at(1.0) as u64,
        // A caller that is passed over again and again shows here and in no percentile.
        "fewest_of_a_caller": fewest,
    });
    println!("{line}");
    Ok(())
}

/// Opens connections with the statement of every partition prepared.
struct Prepared {
    config: Config,
    ids: [i64; 2],
}

struct PreparedClient {
    client: Client,
    statements: HashMap<i32, Statement>,
}

impl ManageConnection for Prepared {
    type Connection = PreparedClient;
    type Error = tokio_postgres::Error;

    async fn connect(&self) -> Result<PreparedClient, tokio_postgres::Error> {
        let (client, connection) = self.config.connect(NoTls).await?;
        tokio::spawn(connection);
        let set_up = "set plan_cache_mode = force_generic_plan; set enable_seqscan = off";
        client.batch_execute(set_up).await?;
        let mut statements = HashMap::new();
        for partition in 0..PARTITIONS {
            let prepared = client.prepare(&statement(self.ids, partition)).await?;
            statements.insert(partition, prepared);
        }
        Ok(PreparedClient { client, statements })
    }

    async fn is_valid(&self, pooled: &mut PreparedClient) -> Result<(), tokio_postgres::Error> {
        pooled.client.batch_execute("").await
    }

    fn has_broken(&self, pooled: &mut PreparedClient) -> bool {
        pooled.client.is_closed()
    }
}

/// The statement of the read model, written once more for the pool.
fn statement(ids: [i64; 2], partition: i32) -> String {
    let columns: Vec<_> = WIDE_V1
        .columns
        .iter()
        .map(|c| format!("\"{}\"", c.name))
        .collect();
    let columns = columns.join(", ");
    let branches = ids.map(|id| {
        format!(
            " when {id} then (select row_to_json(found)::text from (select {columns}, \
             agg_version as applied_seq, off as applied_offset \
             from rm.v{id}_p{partition} where key = $1 and not deleted) found)"
        )
    });
    format!(
        "select a.version, a.generation, case a.version{} end \
         from refold.active a where a.name = $2",
        branches.concat()
    )
}

/// An active version and a ready one, with every key in every leaf.
async fn fill(options: &SessionOptions) -> Result<[i64; 2], Anything> {
    let registry = PgRegistry::new(options);
    let (client, connection) = options.config.connect(NoTls).await?;
    tokio::spawn(connection);
    let mut ids = [0; 2];
    for (spec, id) in [&WIDE_V1, &WIDE_V2].into_iter().zip(&mut ids) {
        *id = registry.register(spec, &log()).await?.id.0;
        let columns = spec.columns.iter();
        let columns: Vec<_> = columns
            .map(|c| format!("null::{} as \"{}\"", c.ty.sql(), c.name))
            .collect();
        for partition in 0..PARTITIONS {
            let leaf = format!("rm.v{id}_p{partition}");
            let sql = format!(
                "create table {leaf} as select n as key, {},
                    1::bigint as agg_version, n as off, false as deleted
                    from generate_series(0::bigint, {KEYS} - 1) n;
                 update {leaf} set total = key * 100, title = 'row ' || key;
                 alter table {leaf} add primary key (key);
                 vacuum analyze {leaf};
                 insert into refold.offsets (version, partition, epoch, next_offset, sums,
                     has_leaf, reached_log_end)
                     values ({id}, {partition}, 1, {KEYS}, '', true, true)",
                columns.join(", ")
            );
            for statement in sql.split(';') {
                client.batch_execute(statement).await?;
            }
        }
        registry
            .make_ready(refold_domain::version::VersionId(*id))
            .await?;
    }
    let first = refold_domain::version::VersionId(ids[0]);
    registry.activate_first(first, "read_paths", None).await?;
    Ok(ids)
}
