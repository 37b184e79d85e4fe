//! Times the two write paths against a server: `write_cost DSN [ROWS] [BATCH]`.
//!
//! One partition, five columns. Prints the seconds of each stage of a bulk load
//! and the rows per second of upserts in batches, with and without waiting for
//! the disk. The database must be empty.

use std::error::Error;
use std::time::Instant;

use refold_domain::batch::BulkSeal;
use refold_domain::batch::WriteBatch;
use refold_domain::position::Offset;
use refold_domain::position::OffsetRange;
use refold_domain::position::Partition;
use refold_domain::rows::EncodedRows;
use refold_domain::spec::ProjectionSpec;
use refold_domain::sums::Sums;
use refold_domain::version::VersionId;
use refold_ports::sink::BulkTarget;
use refold_ports::sink::PartitionWriter;
use refold_ports::sink::Sink;
use refold_ports::sink::TakeOver;
use refold_projection::CellValue;
use refold_projection::Column;
use refold_projection::ColumnType;
use refold_projection::Compare;
use refold_projection::Fingerprint;
use refold_projection::KeyType;
use refold_projection::Merge;
use refold_store_postgres::PostgresSink;
use refold_store_postgres::SessionOptions;
use refold_store_postgres::migrate;

const fn column(name: &'static str, ty: ColumnType) -> Column {
    Column {
        name,
        ty,
        nullable: false,
        compare: Compare::Same,
    }
}

const COLUMNS: [Column; 5] = [
    column("balance", ColumnType::Int8),
    column("status", ColumnType::Text),
    column("deposits", ColumnType::Int8),
    column("largest", ColumnType::Int8),
    column("opened_at", ColumnType::Timestamptz),
];

const SPEC: ProjectionSpec = ProjectionSpec {
    name: "timing",
    number: 1,
    replaces: None,
    key_type: KeyType::Int8,
    columns: &COLUMNS,
    handles: &[],
    differences: None,
    merge: Merge::Ordered,
    code: Fingerprint(1),
};

fn push_row(rows: &mut EncodedRows, key: i64, value: i64, offset: i64) {
    rows.push_with(9, |out| {
        key.write(out);
        value.write(out);
        "open".to_owned().write(out);
        value.write(out);
        value.write(out);
        refold_projection::Timestamp(1_700_000_000_000_000 + value).write(out);
        (value + 1).write(out);
        offset.write(out);
        false.write(out);
    });
}

type Outcome<T> = Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let dsn = arguments.next().ok_or("usage: timing DSN [ROWS] [BATCH]")?;
    let rows = arguments.next().map_or(Ok(1_000_000), |a| a.parse())?;
    let batch = arguments.next().map_or(Ok(10_000), |a| a.parse())?;
    let mut options = SessionOptions::parse(&dsn)?;
    migrate(&options).await?;
    let (client, connection) = options.config.connect(tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    client
        .execute(
            "insert into refold.versions (name, number, label, state, code_hash, key_type, columns,
             cluster_id, topic, partitions) values ('timing', 1, 'timing_v1', 'building', $1,
             'bigint', '[]', 'c', 't', 8)",
            &[&SPEC.code_hash()],
        )
        .await?;
    let mut from = bulk(&options, rows).await?;
    for synchronous in [true, false] {
        options.synchronous_commit = synchronous;
        from = apply(&options, rows, batch, from).await?;
        small(&options, from).await?;
    }
    Ok(())
}

async fn writer(options: &SessionOptions, partition: i32) -> Outcome<Box<dyn PartitionWriter>> {
    let sink = PostgresSink::new(options.clone());
    let partition = Partition(partition);
    Ok(sink
        .take_over(TakeOver::from_anyone(
            VersionId(1),
            &SPEC,
            partition,
            Offset(0),
        ))
        .await?)
}

fn range(from: i64, to: i64) -> Outcome<OffsetRange> {
    Ok(OffsetRange::new(Offset(from), Offset(to)).ok_or("a range that runs backwards")?)
}

async fn bulk(options: &SessionOptions, rows: i64) -> Outcome<i64> {
    let mut writer = writer(options, 0).await?;
    let mut encoded = EncodedRows::new();
    (0..rows).for_each(|key| push_row(&mut encoded, key * 16, key, key));
    let tuples = bytes::Bytes::from(encoded.into_bytes());
    let start = Instant::now();
    let mut lap = start;
    let mut stage = |name: &str| {
        println!("bulk {name}: {:.3} s", lap.elapsed().as_secs_f64());
        lap = Instant::now();
    };
    writer.begin_bulk(Offset(rows), BulkTarget::Leaf).await?;
    stage("begin");
    for at in (0..tuples.len()).step_by(1 << 20) {
        writer
            .copy(tuples.slice(at..tuples.len().min(at + (1 << 20))))
            .await?;
    }
    stage("copy");
    writer.index(rows.cast_unsigned()).await?;
    stage("index");
    let seal = BulkSeal {
        range: range(0, rows)?,
        rows: rows.cast_unsigned(),
        sums: Sums::zero(&SPEC.sum_layout()),
        last_record: None,
        gaps: vec![],
        parked: vec![],
        at_log_end: true,
    };
    writer.seal(&seal).await?;
    stage("seal");
    println!(
        "bulk of {rows} rows: {:.3} s",
        start.elapsed().as_secs_f64()
    );
    Ok(rows)
}

async fn apply(options: &SessionOptions, rows: i64, batch: i64, from: i64) -> Outcome<i64> {
    let mut writer = writer(options, 0).await?;
    let (batches, mut mark) = (20, from.max(writer.lease().next.0));
    let step = (rows / batch).max(1);
    let (mut fetching, mut writing) = (0.0, 0.0);
    for round in 0..batches {
        let keys: Vec<_> = (0..batch).map(|i| (i * step + round) * 16).collect();
        let mut encoded = EncodedRows::new();
        for key in &keys {
            push_row(&mut encoded, *key, round, mark + batch);
        }
        let cells: Vec<Vec<u8>> = keys
            .iter()
            .map(|key| {
                let mut cell = Vec::new();
                key.write(&mut cell);
                cell
            })
            .collect();
        let start = Instant::now();
        writer.fetch(&cells).await?;
        fetching += start.elapsed().as_secs_f64();
        let start = Instant::now();
        writer
            .commit(&changes(encoded, mark, mark + batch + 1)?)
            .await?;
        writing += start.elapsed().as_secs_f64();
        mark += batch + 1;
    }
    let total = (batch * batches) as f64;
    println!(
        "apply in batches of {batch}, synchronous_commit {}: fetch {:.0} rows/s, commit {:.0} rows/s",
        options.synchronous_commit,
        total / fetching,
        total / writing
    );
    Ok(mark)
}

async fn small(options: &SessionOptions, from: i64) -> Outcome<()> {
    let mut writer = writer(options, 0).await?;
    let from = from.max(writer.lease().next.0);
    let start = Instant::now();
    let batches = 500;
    for i in 0..batches {
        let mut encoded = EncodedRows::new();
        for key in 0..10 {
            push_row(&mut encoded, key * 16, i, from + i);
        }
        writer
            .commit(&changes(encoded, from + i, from + i + 1)?)
            .await?;
    }
    println!(
        "batches of 10, synchronous_commit {}: {:.3} ms each",
        options.synchronous_commit,
        start.elapsed().as_secs_f64() * 1000.0 / batches as f64
    );
    Ok(())
}

fn changes(rows: EncodedRows, from: i64, to: i64) -> Outcome<WriteBatch> {
    Ok(WriteBatch {
        range: range(from, to)?,
        rows,
        sums: Sums::zero(&SPEC.sum_layout()),
        last_record: None,
        gaps: vec![],
        parked: vec![],
        at_log_end: false,
    })
}
