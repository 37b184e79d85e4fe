//! What one way of writing changed rows costs: `upsert_cost DSN SHAPE BATCH ROWS SECONDS FILLFACTOR [NAME=VALUE ...]`.
//!
//! Fills a table with the columns of the built-in accounts, version 4, and changes rows of it in
//! batches of distinct keys, drawn evenly, a transaction a batch, until the time is over. The
//! settings are set in the session that writes. Every row is compared with what was written last;
//! figures are printed as one JSON object. The database must be empty.

mod batch;
mod shape;

use std::error::Error;
use std::str::FromStr as _;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;
use tokio_postgres::Client;
use tokio_postgres::NoTls;
use tokio_postgres::SimpleQueryMessage;

use batch::Batch;
use shape::Shape;
use shape::Writer;

pub(crate) type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// A run has as many batches at least, however long they take.
const FEWEST: u64 = 3;

/// What is asked for.
struct Order {
    dsn: String,
    shape: Shape,
    batch: usize,
    rows: i64,
    time: Duration,
    fillfactor: u32,
    settings: Vec<(String, String)>,
}

impl Order {
    fn parse() -> Outcome<Self> {
        const USAGE: &str =
            "usage: upsert_cost DSN SHAPE BATCH ROWS SECONDS FILLFACTOR [NAME=VALUE ...]";
        let mut args = std::env::args().skip(1);
        let mut next = || args.next().ok_or(USAGE);
        let order = Self {
            dsn: next()?,
            shape: Shape::from_str(&next()?)?,
            batch: next()?.parse()?,
            rows: next()?.parse()?,
            time: Duration::from_secs_f64(next()?.parse()?),
            fillfactor: next()?.parse()?,
            settings: Vec::new(),
        };
        let pair = |text: String| {
            let (name, value) = text.split_once('=').ok_or(USAGE)?;
            Ok::<_, Box<dyn Error + Send + Sync>>((name.to_owned(), value.to_owned()))
        };
        let settings = args.map(pair).collect::<Outcome<_>>()?;
        if order.batch == 0 || order.rows < order.batch as i64 {
            return Err(format!("{} rows, {} in a batch", order.rows, order.batch).into());
        }
        Ok(Self { settings, ..order })
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let order = Order::parse()?;
    let (client, connection) = tokio_postgres::connect(&order.dsn, NoTls).await?;
    tokio::spawn(connection);
    for (name, value) in &order.settings {
        let set = "select set_config($1, $2, false)";
        client.execute(set, &[name, value]).await?;
    }
    fill(&client, &order).await?;
    let mut table = Known::new(order.rows);
    let mut writer = Writer::prepare(client, order.shape, order.batch).await?;
    let before = Reading::take(&writer.client).await?;
    let (mut batches, mut took) = (0, Duration::ZERO);
    while batches < FEWEST || took < order.time {
        let batch = table.change(order.batch);
        let begun = Instant::now();
        writer.write(&batch).await?;
        took += begun.elapsed();
        batches += 1;
    }
    let spent = before.until(&Reading::take(&writer.client).await?);
    let differences = table.differences(&writer.client).await?;
    println!("{}", tell(&order, batches, took, &spent, differences));
    Ok(())
}

/// Makes the table as a rebuild leaves it: in key order, with its key, known to the planner, and
/// with every page on the disk, so that no run begins with the writing of the one before.
async fn fill(client: &Client, order: &Order) -> Outcome<()> {
    let share = order.fillfactor.to_string();
    let set = "select set_config('bench.fillfactor', $1, false)";
    client.execute(set, &[&share]).await?;
    client.batch_execute(include_str!("create.sql")).await?;
    client
        .execute(include_str!("fill.sql"), &[&order.rows])
        .await?;
    for statement in [
        "alter table account add primary key (key)",
        "vacuum (freeze, analyze) account",
        "checkpoint",
    ] {
        client.batch_execute(statement).await?;
    }
    Ok(())
}

/// What the server had done at one moment.
struct Reading {
    lsn: i64,
    images: i64,
    backend_seconds: f64,
    hot: i64,
    updated: i64,
}

/// What it did between two.
struct Spent {
    wal_bytes: i64,
    images: i64,
    backend_seconds: f64,
    hot_share: f64,
}

impl Reading {
    async fn take(client: &Client) -> Outcome<Self> {
        // Statistics of a session are handed in when it is told to, or at the latest when it ends.
        client
            .batch_execute("select pg_stat_force_next_flush()")
            .await?;
        let row = client.query_one(include_str!("reading.sql"), &[]).await?;
        Ok(Self {
            lsn: row.try_get("lsn")?,
            images: row.try_get("images")?,
            backend_seconds: backend_seconds(row.try_get("pid")?)?,
            hot: row.try_get("hot")?,
            updated: row.try_get("updated")?,
        })
    }

    fn until(&self, later: &Self) -> Spent {
        let updated = (later.updated - self.updated).max(1);
        Spent {
            wal_bytes: later.lsn - self.lsn,
            images: later.images - self.images,
            backend_seconds: later.backend_seconds - self.backend_seconds,
            hot_share: (later.hot - self.hot) as f64 / updated as f64,
        }
    }
}

/// Processor time of the backend so far: `utime` and `stime` of proc(5), in hundredths.
fn backend_seconds(pid: i32) -> Outcome<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold blanks; it ends with the last parenthesis.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let mut ticks = fields.split_whitespace().skip(11);
    let mut next = || ticks.next().ok_or("a short /proc/PID/stat");
    let (user, system): (f64, f64) = (next()?.parse()?, next()?.parse()?);
    Ok((user + system) / 100.0)
}

/// What was written last to each row.
struct Known {
    /// By key, from 0: the offset, 0 for a row that was only filled in.
    offsets: Vec<i64>,
    /// By key: how often it was written.
    versions: Vec<i64>,
    next: i64,
    dice: fastrand::Rng,
    /// All keys, of which the front ones are drawn by exchange.
    keys: Vec<i64>,
}

impl Known {
    fn new(rows: i64) -> Self {
        Self {
            offsets: vec![0; rows as usize],
            versions: vec![0; rows as usize],
            next: 1,
            dice: fastrand::Rng::with_seed(42),
            keys: (0..rows).collect(),
        }
    }

    /// Draws a batch and takes it for written.
    fn change(&mut self, size: usize) -> Batch {
        let mut batch = Batch::default();
        for at in 0..size {
            let drawn = self.dice.usize(at..self.keys.len());
            self.keys.swap(at, drawn);
            let place = self.keys[at] as usize;
            self.versions[place] += 1;
            self.offsets[place] = self.next;
            batch.push(self.keys[at], self.versions[place], self.next);
            self.next += 1;
        }
        batch
    }

    /// Rows that are not as they were written last, missing ones and strangers included.
    async fn differences(&self, client: &Client) -> Outcome<u64> {
        let answer = client.simple_query(include_str!("rows.sql")).await?;
        let (mut found, mut different) = (0_u64, 0_u64);
        for message in &answer {
            let SimpleQueryMessage::Row(row) = message else {
                continue;
            };
            found += 1;
            let number = |name: &str| row.get(name).and_then(|text| text.parse::<i64>().ok());
            let (offset, version) = (number("off"), number("agg_version"));
            let balance = number("balance");
            let place = number("key").and_then(|key| usize::try_from(key).ok());
            let known = place.filter(|place| *place < self.offsets.len());
            let same = known.is_some_and(|place| {
                let written = self.offsets[place];
                offset == Some(written)
                    && version == Some(self.versions[place])
                    && balance == Some(batch::balance(place as i64, written))
            });
            different += u64::from(!same);
        }
        Ok(different + (self.offsets.len() as u64).abs_diff(found))
    }
}

fn tell(order: &Order, batches: u64, took: Duration, spent: &Spent, differences: u64) -> Value {
    let written = batches * order.batch as u64;
    let each = |sum: f64| sum / written as f64;
    let seconds = took.as_secs_f64();
    json!({
        "events": written,
        "rows": written,
        "commits": batches,
        "seconds": seconds,
        "events_per_second": written as f64 / seconds,
        "backend_cpu_us_per_row": each(spent.backend_seconds * 1e6),
        "wal_bytes_per_row": each(spent.wal_bytes as f64),
        "full_page_images_per_row": each(spent.images as f64),
        "hot_share": spent.hot_share,
        "rows_compared": order.rows,
        "differences_oracle": differences,
    })
}
