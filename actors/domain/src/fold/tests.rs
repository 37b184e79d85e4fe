//! Laws of the two engines, on a toy projection and a map for a table.

use std::borrow::Cow;
use std::collections::BTreeMap;

use proptest::prelude::*;
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
use refold_proto::EnvelopeRef;
use refold_proto::IdRef;

use super::*;
use crate::decode::WireFormat;
use crate::position::Partition;

pub(super) const OPTIONS: FoldOptions = FoldOptions {
    wire: WireFormat::Proto,
    complete_log: true,
};
pub(super) const END: Offset = Offset(i64::MAX);

/// Sums what is added, remembers the last word; a drop deletes the row. Not
/// idempotent on purpose: a doubled or lost event always shows.
pub(super) struct Ledger;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    sum: i64,
    word: String,
}

impl Row for Entry {
    const COLUMNS: &'static [Column] = &[
        Column {
            name: "sum",
            ty: ColumnType::Int8,
            nullable: false,
            compare: Compare::Same,
        },
        Column {
            name: "word",
            ty: ColumnType::Text,
            nullable: false,
            compare: Compare::Same,
        },
    ];

    fn encode(&self, out: &mut Vec<u8>) {
        write_bytes(out, &self.sum.to_be_bytes());
        write_bytes(out, self.word.as_bytes());
    }

    fn decode(cells: &mut CellReader<'_>) -> Result<Self, CellError> {
        let sum = cells.next_cell()?.and_then(|b| b.try_into().ok());
        let word = cells.next_cell()?.map(|b| b.to_vec());
        Ok(Self {
            sum: i64::from_be_bytes(sum.ok_or_else(|| cells.error("sum"))?),
            word: String::from_utf8(word.unwrap_or_default()).map_err(|_| cells.error("word"))?,
        })
    }

    fn heap_bytes(&self) -> usize {
        self.word.capacity()
    }
}

impl Projection for Ledger {
    type Key = i64;
    type Event<'a> = Option<i64>;
    type Row = Entry;
    const NAME: &'static str = "ledger";
    const VERSION: u32 = 1;
    const HANDLES: &'static [&'static str] = &["Add", "Drop"];
    const CODE: Fingerprint = Fingerprint(1);

    fn decode<'a>(kind: &'a str, payload: Payload<'a>) -> Result<Option<i64>, DecodeError> {
        let Payload::Proto(bytes) = payload else {
            return Err(DecodeError::new("this test writes protobuf"));
        };
        if kind == "Drop" {
            return Ok(None);
        }
        let text = std::str::from_utf8(bytes).map_err(DecodeError::new)?;
        text.parse().map(Some).map_err(DecodeError::new)
    }

    fn fold(&self, row: Option<Entry>, e: &Envelope<'_, Option<i64>>) -> Change<Entry> {
        match (row, e.event) {
            (_, None) => Change::Delete,
            (None, Some(n)) => Change::Put(Entry {
                sum: n,
                word: "first".to_owned(),
            }),
            (Some(row), Some(n)) => Change::Put(Entry {
                sum: row.sum * 3 + n,
                word: format!("v{}", e.version),
            }),
        }
    }
}

/// `(aggregate, what)`: 0 drops, 1 is not handled, others add.
pub(super) type Script = Vec<(i64, u8)>;

pub(super) fn chunk_of(script: &[(i64, u8)], holes: i64) -> Chunk {
    let mut versions = BTreeMap::new();
    let mut chunk = Chunk::new(Partition(0), Offset(0));
    for (i, (id, what)) in script.iter().enumerate() {
        let version = versions.entry(*id).or_insert(0u64);
        *version += 1;
        let kind = match what {
            0 => "Drop",
            1 => "Noise",
            _ => "Add",
        };
        let mut value = Vec::new();
        let payload = what.to_string();
        EnvelopeRef {
            id: IdRef::Int(*id),
            version: *version,
            kind: Cow::Borrowed(kind),
            ts_micros: 5,
            payload: refold_proto::Payload::Proto(payload.as_bytes()),
        }
        .encode_to(&mut value);
        let offset = Offset(i as i64 * (1 + holes));
        assert!(chunk.push(offset, 0, id.to_string().as_bytes(), Some(&value)));
    }
    chunk
}

/// The table, as cells by key cell, its mark and its sums.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table {
    pub(super) rows: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) next: Offset,
    pub(super) sums: Sums,
}

impl Table {
    fn empty() -> Self {
        Self {
            rows: BTreeMap::new(),
            next: Offset(0),
            sums: Sums::zero(&ProjectionSpec::of::<Ledger>().sum_layout()),
        }
    }

    fn put(&mut self, cells: &[u8]) {
        let mut reader = CellReader::new(cells);
        let key = reader.next_raw().expect("a row starts with its key");
        self.rows.insert(key.to_vec(), cells.to_vec());
    }

    /// One batch of at most `events` records from `start`, through a fresh engine.
    fn apply(&mut self, engine: &mut dyn ApplyFold, chunk: &Chunk, start: usize, events: usize) {
        let asked = engine.missing(chunk, start, END);
        let found: Vec<_> = asked
            .iter()
            .filter_map(|k| self.rows.get(k))
            .cloned()
            .collect();
        engine.load(&asked, &found).expect("rows read back");
        let report = engine.fold(chunk, start, events, END);
        assert_eq!(report.halt, None);
        let (rows, sums) = engine.writes();
        rows.cells().for_each(|cells| self.put(cells));
        self.next = self.next.max(report.next);
        self.sums = sums;
        engine.accept();
    }
}

/// The cells of whole tuples.
pub(super) fn split_tuples(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut rows = Vec::new();
    while !bytes.is_empty() {
        let fields = i16::from_be_bytes([bytes[0], bytes[1]]);
        let mut reader = CellReader::new(&bytes[2..]);
        (0..fields).for_each(|_| assert!(reader.next_raw().is_ok()));
        let used = bytes.len() - reader.rest().len();
        rows.push(bytes[2..used].to_vec());
        bytes = &bytes[used..];
    }
    rows
}

/// What all rows of a fold, and of the folds for the keys that it gave up, make
/// of the chunk; and how many events they counted.
pub(super) fn drain(
    mut engine: Box<dyn BulkFold>,
    chunk: &Chunk,
    mut report: FoldReport,
) -> (Table, u64) {
    let mut table = Table::empty();
    table.next = report.next;
    let (mut copied, mut counted) = (0, 0);
    loop {
        assert_eq!((&report.halt, report.next), (&None, table.next));
        counted += report.applied + report.unhandled;
        let mut run = engine.into_tuples();
        while let Some(bytes) = run.next_tuples(64) {
            for cells in split_tuples(&bytes) {
                table.put(&cells);
                copied += 1;
            }
        }
        assert_eq!((run.rows(), table.rows.len() as u64), (copied, copied));
        table.sums = run.sums().clone();
        let Some(rest) = run.rest() else {
            return (table, counted);
        };
        engine = rest;
        report = engine.fold(chunk, 0, END);
    }
}

pub(super) fn bulk(chunk: &Chunk) -> Table {
    let mut engine = erase(Ledger).bulk_fold(OPTIONS);
    let report = engine.fold(chunk, 0, END);
    drain(engine, chunk, report).0
}

pub(super) fn scripts() -> impl Strategy<Value = Script> {
    prop::collection::vec((0..4i64, 0..6u8), 1..24)
}

proptest! {
    #[test]
    fn any_cut_and_any_overlap_give_the_table_of_a_single_pass(
        script in scripts(),
        holes in 0..3i64,
    ) {
        let chunk = chunk_of(&script, holes);
        let whole = bulk(&chunk);
        for cut in 0..=script.len() {
            for overlap in 0..=cut {
                let mut table = Table::empty();
                let mut first = erase(Ledger).apply_fold(OPTIONS, table.sums.clone(), 1 << 20);
                table.apply(&mut *first, &chunk, 0, cut);
                // A restart: a fresh engine reads `overlap` records again.
                let mut second = erase(Ledger).apply_fold(OPTIONS, table.sums.clone(), 1 << 20);
                table.apply(&mut *second, &chunk, cut - overlap, usize::MAX);
                prop_assert_eq!(&table, &whole, "cut {} overlap {}", cut, overlap);
            }
        }
    }

    #[test]
    fn batches_of_any_size_through_one_cache_give_the_same_table(
        script in scripts(),
        size in 1..9usize,
        cache in prop::sample::select(vec![0usize, 1 << 20]),
    ) {
        let chunk = chunk_of(&script, 0);
        let mut table = Table::empty();
        let mut engine = erase(Ledger).apply_fold(OPTIONS, table.sums.clone(), cache);
        let mut start = 0;
        while start < script.len() {
            table.apply(&mut *engine, &chunk, start, size);
            start += size;
        }
        prop_assert_eq!(table, bulk(&chunk));
    }

    #[test]
    fn a_rolled_back_batch_leaves_nothing(script in scripts(), cut in 0..24usize) {
        let cut = cut.min(script.len());
        let chunk = chunk_of(&script, 0);
        let mut table = Table::empty();
        let mut engine = erase(Ledger).apply_fold(OPTIONS, table.sums.clone(), 1 << 20);
        table.apply(&mut *engine, &chunk, 0, cut);
        let asked = engine.missing(&chunk, cut, END);
        engine.load(&asked, &[]).expect("no rows");
        engine.fold(&chunk, cut, usize::MAX, END);
        engine.rollback();
        prop_assert_eq!(engine.dirty(), 0);
        table.apply(&mut *engine, &chunk, cut, usize::MAX);
        prop_assert_eq!(table, bulk(&chunk));
    }
}

#[test]
fn a_limit_between_records_is_where_the_mark_stops() {
    let chunk = chunk_of(&[(1, 2), (1, 3), (1, 4)], 9);
    let mut engine = erase(Ledger).bulk_fold(OPTIONS);
    let report = engine.fold(&chunk, 0, Offset(15));
    assert_eq!((report.index, report.next), (2, Offset(15)));
    assert_eq!(report.last_record.map(|r| r.offset), Some(Offset(10)));
}

#[test]
fn a_missing_event_is_reported_with_key_offset_and_versions() {
    let whole = chunk_of(&[(7, 2), (7, 3), (7, 4)], 0);
    let mut holed = Chunk::new(Partition(0), Offset(0));
    for record in whole.records().filter(|r| r.offset != Offset(1)) {
        holed.push(record.offset, record.ts_millis, record.key, record.value);
    }
    let report = erase(Ledger).bulk_fold(OPTIONS).fold(&holed, 0, END);
    let gap = EventGap {
        key: "7".to_owned(),
        offset: Offset(2),
        expected: 2,
        found: 3,
    };
    assert_eq!(report.gaps, [gap]);
}

#[test]
fn an_undecodable_event_halts_in_front_of_itself() {
    let good = chunk_of(&[(1, 2), (1, 3)], 0);
    let mut chunk = Chunk::new(Partition(0), Offset(0));
    let first = good.get(0).expect("two records");
    chunk.push(first.offset, 0, first.key, first.value);
    chunk.push(Offset(1), 0, b"1", Some(b"\xff\xff"));
    let report = erase(Ledger).bulk_fold(OPTIONS).fold(&chunk, 0, END);
    assert_eq!((report.index, report.next), (1, Offset(1)));
    let halt = report.halt.expect("the second record is no envelope");
    assert_eq!(halt.offset, Offset(1));
    assert!(!halt.reason.is_empty());
}

#[test]
fn a_projection_without_types_still_shows_what_it_declares() {
    let shown = format!("{:?}", erase(Ledger));
    assert!(shown.contains("name: \"ledger\""), "{shown}");
}

/// A ledger whose aggregates have names, which own memory as their rows do.
pub(super) struct Named;

impl Projection for Named {
    type Key = String;
    type Event<'a> = Option<i64>;
    type Row = Entry;
    const NAME: &'static str = "named";
    const VERSION: u32 = 1;
    const HANDLES: &'static [&'static str] = Ledger::HANDLES;
    const CODE: Fingerprint = Fingerprint(3);

    fn decode<'a>(kind: &'a str, payload: Payload<'a>) -> Result<Option<i64>, DecodeError> {
        Ledger::decode(kind, payload)
    }

    fn fold(&self, row: Option<Entry>, event: &Envelope<'_, Option<i64>>) -> Change<Entry> {
        Ledger.fold(row, event)
    }
}

/// The same events under names of `length` bytes.
pub(super) fn named_chunk_of(script: &[(i64, u8)], length: usize) -> Chunk {
    let numbered = chunk_of(script, 0);
    let mut chunk = Chunk::new(Partition(0), Offset(0));
    for (record, (id, _)) in numbered.records().zip(script) {
        let value = record.value.expect("every record has a value");
        let mut event = crate::decode::envelope(OPTIONS.wire, &record).expect("an envelope");
        let name = format!("{id:0>length$}");
        event.id = IdRef::Text(Cow::Borrowed(&name));
        let mut value = Vec::with_capacity(value.len() + length);
        event.encode_to(&mut value);
        assert!(chunk.push(record.offset, 0, name.as_bytes(), Some(&value)));
    }
    chunk
}

/// Records of a chunk as a log that holds some of them again.
fn repeated(chunk: &Chunk, indexes: &[usize]) -> Chunk {
    let mut repeated = Chunk::new(Partition(0), Offset(0));
    for (offset, index) in (0..).zip(indexes) {
        let record = chunk.get(*index).expect("a record");
        assert!(repeated.push(Offset(offset), 0, record.key, record.value));
    }
    repeated
}

/// What both engines report of a chunk, which has to be the same.
fn report_of(chunk: &Chunk, options: FoldOptions) -> FoldReport {
    let of_bulk = erase(Ledger).bulk_fold(options).fold(chunk, 0, END);
    let sums = Sums::zero(&ProjectionSpec::of::<Ledger>().sum_layout());
    let mut engine = erase(Ledger).apply_fold(options, sums, 1 << 20);
    let asked = engine.missing(chunk, 0, END);
    engine.load(&asked, &[]).expect("no rows");
    assert_eq!(engine.fold(chunk, 0, usize::MAX, END), of_bulk);
    of_bulk
}

#[test]
fn both_engines_count_what_became_of_each_event() {
    let whole = chunk_of(&[(1, 2), (1, 1), (2, 3), (1, 0), (2, 1), (2, 1)], 0);
    let chunk = repeated(&whole, &[0, 1, 0, 2, 3, 1, 4, 5, 3, 2]);
    let report = report_of(&chunk, OPTIONS);
    assert_eq!((report.applied, report.unhandled), (3, 3));
    assert_eq!(report.duplicates, 4);
    assert_eq!((report.index, report.next), (10, Offset(10)));
    let last = chunk.get(9).map(|record| record.fingerprint());
    assert_eq!((report.last_record, report.halt), (last, None));
}

#[test]
fn versions_that_jump_are_gaps_where_the_log_is_complete_and_nowhere_else() {
    let whole = chunk_of(&[(1, 2), (1, 3), (1, 4)], 0);
    let holed = repeated(&whole, &[0, 2]);
    let compacted = FoldOptions {
        complete_log: false,
        ..OPTIONS
    };
    let gaps = |options| report_of(&holed, options).gaps.len();
    assert_eq!((gaps(OPTIONS), gaps(compacted)), (1, 0));
}

#[test]
fn an_event_that_the_author_cannot_decode_is_named_with_the_reason() {
    let mut chunk = Chunk::new(Partition(0), Offset(0));
    let good = chunk_of(&[(7, 2)], 0);
    let mut value = good.get(0).and_then(|r| r.value).expect("a value").to_vec();
    let digit = value.last_mut().expect("it ends with its payload");
    *digit = b'x';
    assert!(chunk.push(Offset(0), 0, b"7", Some(&value)));
    let halt = Halt {
        offset: Offset(0),
        reason: "event Add cannot be decoded: invalid digit found in string".to_owned(),
    };
    assert_eq!(report_of(&chunk, OPTIONS).halt, Some(halt));
}

#[test]
fn a_key_is_asked_for_once_below_the_limit_and_while_it_is_not_known() {
    let sums = Sums::zero(&ProjectionSpec::of::<Ledger>().sum_layout());
    let mut engine = erase(Ledger).apply_fold(OPTIONS, sums, 1 << 20);
    // At offsets 0, 10, 20 and 30.
    let chunk = chunk_of(&[(1, 2), (2, 2), (1, 3), (3, 2)], 9);
    let cell = |id: i64| {
        let mut cell = Vec::new();
        write_bytes(&mut cell, &id.to_be_bytes());
        cell
    };
    let cells = |ids: &[i64]| ids.iter().map(|id| cell(*id)).collect::<Vec<_>>();
    assert_eq!(engine.missing(&chunk, 0, END), cells(&[1, 2, 3]));
    assert_eq!(engine.missing(&chunk, 2, END), cells(&[1, 3]));
    assert_eq!(engine.missing(&chunk, 0, Offset(10)), cells(&[1]));
    assert_eq!(engine.missing(&chunk, 0, Offset(11)), cells(&[1, 2]));
    engine.load(&cells(&[1, 3]), &[]).expect("no rows");
    assert_eq!(engine.missing(&chunk, 0, END), cells(&[2]));
    engine.load(&cells(&[2]), &[]).expect("no rows");
    assert_eq!(engine.missing(&chunk, 0, END), cells(&[]));
    for (events, dirty) in [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3)] {
        let report = engine.fold(&chunk, 0, events, END);
        assert_eq!((report.index, engine.dirty()), (events, dirty));
    }
}

#[test]
fn a_stored_row_that_is_none_is_refused() {
    let sums = Sums::zero(&ProjectionSpec::of::<Ledger>().sum_layout());
    let mut apply = erase(Ledger).apply_fold(OPTIONS, sums, 1 << 20);
    let mut bulk = erase(Ledger).bulk_fold(OPTIONS);
    let row = vec![0, 0, 0, 2, 7, 7];
    let refused =
        Err("a stored row is not what was declared: cell 0: 2 bytes are not a bigint".to_owned());
    assert_eq!(apply.load(&[], std::slice::from_ref(&row)), refused);
    assert_eq!(apply.load(std::slice::from_ref(&row), &[]), refused);
    assert_eq!(bulk.load(&[row]), refused);
}
