//! Projections, rows and a picture of what a leaf should hold.

use std::collections::BTreeMap;

use bytes::Bytes;
use refold_domain::batch::BulkSeal;
use refold_domain::batch::EventGap;
use refold_domain::batch::WriteBatch;
use refold_domain::log::RecordFingerprint;
use refold_domain::log::TopicIdentity;
use refold_domain::parking::ParkedEvent;
use refold_domain::position::Offset;
use refold_domain::position::OffsetRange;
use refold_domain::position::Partition;
use refold_domain::rows::EncodedRows;
use refold_domain::spec::ProjectionSpec;
use refold_domain::sums::SumLayout;
use refold_domain::sums::Sums;
use refold_domain::version::VersionId;
use refold_projection::CellValue;
use refold_projection::Column;
use refold_projection::ColumnType;
use refold_projection::Compare;
use refold_projection::Fingerprint;
use refold_projection::Json;
use refold_projection::KeyRef;
use refold_projection::KeyType;
use refold_projection::Merge;
use refold_projection::Numeric;
use refold_projection::Timestamp;
use refold_projection::Uuid;
use refold_projection::cell::CellReader;
use refold_projection::cell::write_null;

use super::Failure;
use super::StoreHarness;
use crate::sink::BulkTarget;
use crate::sink::Committed;
use crate::sink::PartitionWriter;
use crate::sink::TakeOver;

const fn column(name: &'static str, ty: ColumnType, nullable: bool) -> Column {
    Column {
        name,
        ty,
        nullable,
        compare: Compare::Same,
    }
}

/// One column of each type that may be null, and one that may not.
const WIDE: [Column; 10] = [
    column("total", ColumnType::Int8, false),
    column("small", ColumnType::Int4, true),
    column("flag", ColumnType::Bool, true),
    column("title", ColumnType::Text, true),
    column("seen_at", ColumnType::Timestamptz, true),
    column("price", ColumnType::Numeric, true),
    column("document", ColumnType::Jsonb, true),
    column("blob", ColumnType::Bytea, true),
    column("tag", ColumnType::Uuid, true),
    // A reserved word is a name like any other.
    column("order", ColumnType::Int8, true),
];

/// `WIDE` with another last column.
const WIDE_NEW: [Column; 10] = {
    let mut columns = WIDE;
    columns[9] = Column {
        name: "extra",
        ty: ColumnType::Int8,
        nullable: true,
        compare: Compare::New,
    };
    columns
};

/// Partitions of the fixture's topic.
pub const PARTITIONS: i32 = 2;

const fn wide(number: u32, key_type: KeyType, columns: &'static [Column]) -> ProjectionSpec {
    ProjectionSpec {
        name: "wide",
        number,
        replaces: if number > 1 { Some(number - 1) } else { None },
        key_type,
        columns,
        handles: &["Changed"],
        differences: None,
        merge: Merge::Ordered,
        code: Fingerprint(number as u128),
    }
}

/// A projection with a column of every type and `bigint` keys.
pub const WIDE_V1: ProjectionSpec = wide(1, KeyType::Int8, &WIDE);
/// Its successor: the same rows under another number.
pub const WIDE_V2: ProjectionSpec = wide(2, KeyType::Int8, &WIDE);
/// Its second successor, with a column that the first two do not have.
pub const WIDE_V3: ProjectionSpec = wide(3, KeyType::Int8, &WIDE_NEW);
/// The first version's label with another fold.
pub const WIDE_V1_CHANGED: ProjectionSpec = ProjectionSpec {
    code: Fingerprint(99),
    ..WIDE_V1
};
/// The second version's label with another fold and another last column.
pub const WIDE_V2_CHANGED: ProjectionSpec = ProjectionSpec {
    code: Fingerprint(98),
    ..wide(2, KeyType::Int8, &WIDE_NEW)
};
/// A projection with `uuid` keys.
pub const BY_UUID: ProjectionSpec = ProjectionSpec {
    name: "by_uuid",
    ..wide(1, KeyType::Uuid, &WIDE)
};
/// A projection with `text` keys.
pub const BY_TEXT: ProjectionSpec = ProjectionSpec {
    name: "by_text",
    ..wide(1, KeyType::Text, &WIDE)
};

/// Every projection that a case may register.
pub const SPECS: [ProjectionSpec; 5] = [WIDE_V1, WIDE_V2, WIDE_V3, BY_UUID, BY_TEXT];

/// The log that they are built from.
pub fn log() -> TopicIdentity {
    TopicIdentity {
        cluster_id: "cluster".to_owned(),
        topic: "events".to_owned(),
        topic_id: None,
        partitions: PARTITIONS,
    }
}

/// The cells of a wide row that stands for `n`. Columns that may be null are
/// for every third `n`.
pub fn wide_cells(n: i64) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    n.wrapping_mul(1_000).write(&mut out);
    if n % 3 == 0 {
        (1..WIDE.len()).for_each(|_| write_null(&mut out));
        return Ok(out);
    }
    let document = format!("{{\"n\": {n}, \"names\": [\"a\\\"b\", null, true]}}");
    let document = Json::parse(&document).map_err(|e| Failure(e.to_string()))?;
    let price = Numeric {
        unscaled: i128::from(n) * 12_345_678_901_234 - 7,
        scale: 4,
    };
    (n as i32).wrapping_neg().write(&mut out);
    (n % 2 == 0).write(&mut out);
    format!("number {n}, \u{fc}ber \"all\"").write(&mut out);
    Timestamp(1_700_000_000_000_000 + n * 1_000_001).write(&mut out);
    price.write(&mut out);
    document.write(&mut out);
    vec![0, 255, n as u8].write(&mut out);
    Uuid([n as u8; 16]).write(&mut out);
    (n + 5).write(&mut out);
    Ok(out)
}

/// The cell of a key.
pub fn key_cell(key: KeyRef<'_>) -> Vec<u8> {
    let mut cell = Vec::new();
    key.write_cell(&mut cell);
    cell
}

/// The cell of an integer key.
pub fn int_cell(key: i64) -> Vec<u8> {
    key_cell(KeyRef::Int(key))
}

/// A row of the picture.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pictured {
    /// `None` for a tombstone.
    cells: Option<Vec<u8>>,
    seq: i64,
    off: i64,
}

/// What a leaf should hold, and the changes that were not written yet.
#[derive(Debug, Clone)]
pub struct Picture {
    layout: SumLayout,
    columns: usize,
    rows: BTreeMap<Vec<u8>, Pictured>,
    dirty: BTreeMap<Vec<u8>, Pictured>,
    sums: Sums,
    /// Gaps of the next batch.
    pub gaps: Vec<EventGap>,
    /// Events of the next batch that are put aside.
    pub parked: Vec<ParkedEvent>,
    /// Whether the next batch reaches the end of the log.
    pub at_log_end: bool,
}

impl Picture {
    /// An empty leaf of this projection.
    pub fn new(spec: &ProjectionSpec) -> Self {
        let layout = spec.sum_layout();
        Self {
            sums: Sums::zero(&layout),
            layout,
            columns: spec.columns.len(),
            rows: BTreeMap::new(),
            dirty: BTreeMap::new(),
            gaps: Vec::new(),
            parked: Vec::new(),
            at_log_end: false,
        }
    }

    /// Writes the row that stands for `n`, by the event at `off`.
    ///
    /// # Errors
    /// When the row cannot be encoded.
    pub fn put(&mut self, key: &[u8], n: i64, seq: i64, off: i64) -> Result<(), Failure> {
        let cells = Some(wide_cells(n)?);
        self.change(key, Pictured { cells, seq, off });
        Ok(())
    }

    /// Deletes a row by the event at `off`.
    pub fn delete(&mut self, key: &[u8], seq: i64, off: i64) {
        let cells = None;
        self.change(key, Pictured { cells, seq, off });
    }

    fn change(&mut self, key: &[u8], new: Pictured) {
        let old = self.rows.insert(key.to_vec(), new.clone());
        if let Some(Pictured {
            cells: Some(cells),
            seq,
            ..
        }) = old
        {
            self.sums
                .remove_row(&self.layout, key, &cells, seq.cast_unsigned());
        }
        if let Some(cells) = &new.cells {
            let seq = new.seq.cast_unsigned();
            self.sums.add_row(&self.layout, key, cells, seq);
        }
        self.dirty.insert(key.to_vec(), new);
    }

    /// The changes since the last call as a batch that moves the mark over `[from, to)`.
    ///
    /// # Errors
    /// When `to` lies below `from`.
    pub fn batch(&mut self, from: i64, to: i64) -> Result<WriteBatch, Failure> {
        let dirty = std::mem::take(&mut self.dirty);
        let rows = self.encode(&dirty);
        Ok(WriteBatch {
            range: range(from, to)?,
            rows,
            sums: self.sums.clone(),
            last_record: Some(fingerprint(to - 1)),
            gaps: std::mem::take(&mut self.gaps),
            parked: std::mem::take(&mut self.parked),
            at_log_end: self.at_log_end,
        })
    }

    /// All rows as `COPY` tuples, and the seal of a load of `[from, to)`.
    ///
    /// # Errors
    /// When `to` lies below `from`.
    pub fn load(&mut self, from: i64, to: i64) -> Result<(Bytes, BulkSeal), Failure> {
        self.dirty.clear();
        let seal = BulkSeal {
            range: range(from, to)?,
            rows: self.rows.len() as u64,
            sums: self.sums.clone(),
            last_record: Some(fingerprint(to - 1)),
            gaps: std::mem::take(&mut self.gaps),
            parked: std::mem::take(&mut self.parked),
            at_log_end: self.at_log_end,
        };
        Ok((Bytes::from(self.encode(&self.rows).into_bytes()), seal))
    }

    /// The sums of the rows.
    pub fn sums(&self) -> &Sums {
        &self.sums
    }

    /// The cells of every row, by key.
    pub fn rows(&self) -> Vec<Vec<u8>> {
        let rows = self.encode(&self.rows);
        rows.cells().map(<[u8]>::to_vec).collect()
    }

    /// The keys of every row.
    pub fn keys(&self) -> Vec<Vec<u8>> {
        self.rows.keys().cloned().collect()
    }

    fn encode(&self, rows: &BTreeMap<Vec<u8>, Pictured>) -> EncodedRows {
        let mut encoded = EncodedRows::new();
        for (key, row) in rows {
            encoded.push_with(self.columns as i16 + 4, |out| {
                out.extend_from_slice(key);
                match &row.cells {
                    Some(cells) => out.extend_from_slice(cells),
                    None => (0..self.columns).for_each(|_| write_null(out)),
                }
                row.seq.write(out);
                row.off.write(out);
                row.cells.is_none().write(out);
            });
        }
        encoded
    }
}

/// The fingerprint of an imagined record.
pub fn fingerprint(offset: i64) -> RecordFingerprint {
    RecordFingerprint {
        offset: Offset(offset),
        hash: 7 << 70 | u128::from(offset.cast_unsigned()),
    }
}

/// `[from, to)`.
///
/// # Errors
/// When `to` lies below `from`.
pub fn range(from: i64, to: i64) -> Result<OffsetRange, Failure> {
    OffsetRange::new(Offset(from), Offset(to))
        .ok_or_else(|| Failure(format!("the case asks for [{from}, {to})")))
}

/// Registers a projection and takes one of its partitions over at offset 0.
///
/// # Errors
/// Whatever the store answers.
pub async fn writer_of(
    harness: &dyn StoreHarness,
    spec: &ProjectionSpec,
    partition: i32,
) -> Result<Box<dyn PartitionWriter>, Failure> {
    let version = harness.registry().register(spec, &log()).await?.id;
    take(harness, version, spec, partition).await
}

/// Takes a partition over at offset 0.
///
/// # Errors
/// Whatever the store answers.
pub async fn take(
    harness: &dyn StoreHarness,
    version: VersionId,
    spec: &ProjectionSpec,
    partition: i32,
) -> Result<Box<dyn PartitionWriter>, Failure> {
    let sink = harness.sink();
    Ok(sink
        .take_over(TakeOver::from_anyone(
            version,
            spec,
            Partition(partition),
            Offset(0),
        ))
        .await?)
}

/// Loads all rows of the picture in bulk, as the history `[lease.next, to)`.
///
/// # Errors
/// Whatever the store answers.
pub async fn bulk_load(
    writer: &mut dyn PartitionWriter,
    picture: &mut Picture,
    to: i64,
) -> Result<Committed, Failure> {
    let from = writer.lease().next.0;
    let (tuples, seal) = picture.load(from, to)?;
    writer.begin_bulk(Offset(to), BulkTarget::Leaf).await?;
    writer.copy(tuples).await?;
    writer.index(seal.rows).await?;
    Ok(writer.seal(&seal).await?)
}

/// A writer with `rows` integer keys (0, 1, ..) loaded by the history `[0, rows)`.
///
/// # Errors
/// Whatever the store answers.
pub async fn loaded(
    harness: &dyn StoreHarness,
    spec: &ProjectionSpec,
    partition: i32,
    rows: i64,
) -> Result<(Box<dyn PartitionWriter>, Picture), Failure> {
    let mut writer = writer_of(harness, spec, partition).await?;
    let mut picture = Picture::new(spec);
    for key in 0..rows {
        picture.put(&int_cell(key), key, 1, key)?;
    }
    picture.at_log_end = true;
    bulk_load(writer.as_mut(), &mut picture, rows).await?;
    Ok((writer, picture))
}

/// Commits all rows of the picture as a checkpoint of the history `[lease.next, to)`.
///
/// # Errors
/// Whatever the store answers.
pub async fn checkpoint(
    writer: &mut dyn PartitionWriter,
    picture: &mut Picture,
    to: i64,
) -> Result<Committed, Failure> {
    let from = writer.lease().next.0;
    let (tuples, seal) = picture.load(from, to)?;
    writer
        .begin_bulk(Offset(to), BulkTarget::Checkpoint)
        .await?;
    writer.copy(tuples).await?;
    writer.index(seal.rows).await?;
    Ok(writer.seal(&seal).await?)
}

/// Fetches all rows of the checkpoint and compares them, and the lease's sums, with the picture.
///
/// # Errors
/// When they differ.
pub async fn expect_checkpoint(
    writer: &mut dyn PartitionWriter,
    picture: &Picture,
) -> Result<(), Failure> {
    let mut found = Vec::new();
    while let Some(rows) = writer.checkpoint_rows().await? {
        found.extend(rows);
    }
    found.sort_by(|a, b| row_key(a).cmp(row_key(b)));
    super::expect_equal("rows in the checkpoint", &found, &picture.rows())?;
    super::expect_equal("sums", &writer.lease().sums, picture.sums())
}

/// Fetches all rows of the picture and compares them, and the lease's sums, with it.
///
/// # Errors
/// When they differ.
pub async fn expect_pictured(
    writer: &mut dyn PartitionWriter,
    picture: &Picture,
) -> Result<(), Failure> {
    let mut found = writer.fetch(&picture.keys()).await?;
    found.sort_by(|a, b| row_key(a).cmp(row_key(b)));
    super::expect_equal("rows in the leaf", &found, &picture.rows())?;
    super::expect_equal("sums", &writer.lease().sums, picture.sums())
}

fn row_key(cells: &[u8]) -> &[u8] {
    CellReader::new(cells).next_raw().unwrap_or(cells)
}
