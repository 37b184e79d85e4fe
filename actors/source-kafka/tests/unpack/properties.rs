//! Any log in any answers and chunks delivers the same records.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use refold_domain::log::Chunk;
use refold_domain::position::Offset;
use refold_ports::source::ReadLimit;
use refold_source_kafka::raw::unpack::AbortedTransaction;
use refold_source_kafka::raw::unpack::Unpacker;

use crate::encode::BatchSpec;
use crate::encode::Entry;
use crate::encode::Packing;
use crate::reading::Delivered;
use crate::reading::PARTITION;
use crate::reading::meaning;

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    (0..most, any::<u8>()).prop_map(|(length, seed)| {
        (0..length)
            .map(|n| seed.wrapping_add((n / 3) as u8))
            .collect()
    })
}

prop_compose! {
    fn entry()(
        gap in 1..4_i32,
        millis_delta in -1_000_000_000_000..1_000_000_000_000_i64,
        key in option::of(bytes(20)),
        value in option::of(bytes(400)),
        headers in vec((bytes(9), option::of(bytes(9))), 0..3),
    ) -> Entry {
        Entry { delta: gap, millis_delta, key, value, headers }
    }
}

prop_compose! {
    /// A batch whose base offset is the gap before it.
    fn batch()(
        gap in 0..3_i64,
        tail in 0..3_i32,
        packing in select(&Packing::ALL[..]),
        append_time in any::<bool>(),
        producer in option::of(0..3_i64),
        mut entries in vec(entry(), 0..40),
    ) -> BatchSpec {
        let mut delta = -1;
        for entry in &mut entries {
            delta += entry.delta;
            entry.delta = delta;
        }
        let mut batch = BatchSpec::new(gap, packing, entries);
        batch.last_delta = delta.max(0) + tail;
        batch.append_time = append_time;
        match producer {
            Some(producer) => batch.of_producer(producer),
            None => batch,
        }
    }
}

/// A log with its transactions ended at random, and what a read-committed
/// reader sees of it.
#[derive(Debug, Clone)]
struct Log {
    batches: Vec<BatchSpec>,
    /// The batches' bytes: packing them again for each answer would take the longest.
    encoded: Vec<Vec<u8>>,
    /// With the offsets of their markers.
    aborted: Vec<(AbortedTransaction, i64)>,
    visible: Vec<Delivered>,
}

fn log() -> impl Strategy<Value = Log> {
    let ends = vec(option::of(any::<bool>()), 12);
    (vec(batch(), 1..12), ends).prop_map(|(specs, ends)| lay_out(specs, &ends))
}

fn lay_out(specs: Vec<BatchSpec>, ends: &[Option<bool>]) -> Log {
    let mut log = Log {
        batches: Vec::new(),
        encoded: Vec::new(),
        aborted: Vec::new(),
        visible: Vec::new(),
    };
    let mut at = 0;
    let mut open: Vec<(i64, i64, Vec<Delivered>)> = Vec::new();
    for (mut spec, end) in specs.into_iter().zip(ends) {
        spec.base += at;
        at = spec.end();
        let records = meaning(&spec);
        if !spec.transactional {
            log.visible.extend(records);
        } else if let Some((.., held)) = open.iter_mut().find(|(id, ..)| *id == spec.producer_id) {
            held.extend(records);
        } else {
            open.push((spec.producer_id, spec.base, records));
        }
        log.batches.push(spec);
        if let Some(abort) = *end {
            at = log.end_one(&mut open, at, abort);
        }
    }
    while !open.is_empty() {
        at = log.end_one(&mut open, at, false);
    }
    log.visible.sort_by_key(|record| record.0);
    log.encoded = log.batches.iter().map(BatchSpec::encode).collect();
    log
}

impl Log {
    /// Ends the oldest open transaction with a marker at `at`; returns the next offset.
    fn end_one(&mut self, open: &mut Vec<(i64, i64, Vec<Delivered>)>, at: i64, abort: bool) -> i64 {
        if open.is_empty() {
            return at;
        }
        let (producer_id, first_offset, held) = open.remove(0);
        if abort {
            let transaction = AbortedTransaction {
                producer_id,
                first_offset,
            };
            self.aborted.push((transaction, at));
        } else {
            self.visible.extend(held);
        }
        self.batches.push(BatchSpec::marker(at, producer_id, abort));
        at + 1
    }
}

/// Reads the log as a fetcher would: answers of up to so many bytes, one or
/// more of them ahead, chunks within the limits in turn.
fn fetch_all(
    log: &Log,
    from: i64,
    answer_bytes: usize,
    ahead: usize,
    limits: &[ReadLimit],
) -> Vec<Delivered> {
    let mut unpacker = Unpacker::new(PARTITION, Offset(from));
    let end = log.batches.last().expect("a batch").end();
    let mut records = Vec::new();
    let mut chunk = Chunk::new(PARTITION, Offset(from));
    for limit in limits.iter().cycle() {
        for _ in 0..ahead {
            if unpacker.next_fetch().0 >= end {
                break;
            }
            let (bytes, aborted) = answer(log, unpacker.next_fetch().0, answer_bytes);
            unpacker.accept(bytes, aborted);
            while let Some(needed) = unpacker.truncated_bytes_needed() {
                let bytes = needed.max(answer_bytes);
                let (bytes, aborted) = answer(log, unpacker.next_fetch().0, bytes);
                unpacker.accept(bytes, aborted);
            }
        }
        chunk.recycle(PARTITION, unpacker.position());
        unpacker.fill(&mut chunk, *limit).expect("the log is sound");
        records.extend(chunk.records().map(|record| {
            let value = record.value.map(<[u8]>::to_vec);
            (
                record.offset.0,
                record.ts_millis,
                record.key.to_vec(),
                value,
            )
        }));
        if unpacker.is_exhausted() && unpacker.next_fetch().0 >= end {
            assert_eq!(unpacker.position(), Offset(end));
            return records;
        }
    }
    unreachable!("the limits never end")
}

/// The bytes from the batch on that holds `from`, cut anywhere, and the aborted
/// transactions that were not ended before.
fn answer(log: &Log, from: i64, bytes: usize) -> (Bytes, Vec<AbortedTransaction>) {
    let first = log.batches.partition_point(|batch| batch.end() <= from);
    let mut out = Vec::new();
    for batch in &log.encoded[first..] {
        if out.len() >= bytes {
            break;
        }
        out.extend(batch);
    }
    out.truncate(bytes);
    let reaching = log.aborted.iter().filter(|(_, marker)| *marker >= from);
    let aborted = reaching.map(|(transaction, _)| *transaction);
    (Bytes::from(out), aborted.collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_answers_and_any_limits_deliver_the_same_records(
        log in log(),
        start in 0..60_i64,
        answer_bytes in 1..6_000_usize,
        ahead in 1..4_usize,
        limits in vec((1..60_usize, 0..3_000_usize), 1..4),
    ) {
        let limits: Vec<_> = limits
            .into_iter()
            .map(|(records, bytes)| ReadLimit { records, bytes })
            .collect();
        let end = log.batches.last().expect("a batch").end();
        let from = start.min(end - 1);
        let expected: Vec<_> = log.visible.iter().filter(|record| record.0 >= from).cloned().collect();
        prop_assert_eq!(fetch_all(&log, from, answer_bytes, ahead, &limits), expected);
    }
}
