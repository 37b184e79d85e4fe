//! Where a chunk ends, and what it may cost.

use refold_domain::log::Chunk;
use refold_domain::position::Offset;
use refold_ports::source::ReadLimit;
use refold_source_kafka::raw::unpack::Filled;

use crate::encode::BatchSpec;
use crate::encode::Entry;
use crate::encode::Packing;
use crate::reading::PARTITION;
use crate::reading::ROOMY;
use crate::reading::accepted;
use crate::reading::drain;
use crate::reading::encoded;
use crate::reading::meaning;
use crate::reading::usual;

/// Records of ten bytes of key and value each.
fn tens(base: i64, packing: Packing, count: i32) -> BatchSpec {
    let entries = (0..count).map(|delta| Entry::new(delta, b"key", b"7 bytes"));
    BatchSpec::new(base, packing, entries.collect())
}

fn cuts(batches: &[BatchSpec], records: usize, bytes: usize) -> Vec<usize> {
    let mut unpacker = accepted(0, encoded(batches));
    let outcome = drain(&mut unpacker, ReadLimit { records, bytes });
    let expected: Vec<_> = batches.iter().flat_map(meaning).collect();
    assert_eq!((outcome.error, outcome.records), (None, expected));
    outcome.chunks
}

#[test]
fn chunks_are_cut_at_the_limit_or_in_front_of_a_batch() {
    for packing in Packing::ALL {
        let log = [tens(0, packing, 7), tens(7, packing, 5)];
        assert_eq!(cuts(&log, 12, 1_000), [12]);
        assert_eq!(cuts(&log, 100, 120), [12]);
        assert_eq!(cuts(&log, 5, 1_000), [5, 5, 2]);
        assert_eq!(cuts(&log, 7, 1_000), [7, 5]);
        assert_eq!(cuts(&log, 100, 49), [4, 4, 4]);
        assert_eq!(cuts(&log, 100, 50), [5, 5, 2]);
        // A chunk that is half full leaves the next batch alone, if that does not fit.
        assert_eq!(cuts(&log, 11, 1_000), [7, 5]);
        assert_eq!(cuts(&log, 2, 1_000), [2, 2, 2, 1, 2, 2, 1]);
        // The first record always fits.
        assert_eq!(cuts(&log, 100, 0), [1; 12]);
        assert_eq!(cuts(&log, 1, 1 << 40), [1; 12]);
        assert_eq!(cuts(&log, 0, 1 << 40), [1; 12]);
    }
}

#[test]
fn what_is_left_behind_the_last_record_is_no_reason_for_another_chunk() {
    let log = [tens(0, Packing::Lz4, 4)];
    let mut unpacker = accepted(0, encoded(&log));
    let mut chunk = Chunk::new(PARTITION, Offset(0));
    let limit = ReadLimit {
        records: 4,
        bytes: 40,
    };
    assert_eq!(unpacker.fill(&mut chunk, limit), Ok(Filled::Exhausted));
}

#[test]
fn a_cut_in_a_large_batch_copies_each_record_once() {
    // One record a chunk, from a batch of 2 MiB: were the rest copied for each
    // chunk, this would move 8 GiB.
    let log = [tens(0, Packing::None, 8), usual(8, Packing::Lz4, 20_000)];
    let chunks = cuts(&log, 1, 1 << 20);
    assert_eq!(chunks.len(), 20_008);
    let mut unpacker = accepted(0, encoded(&log));
    let mut chunk = Chunk::new(PARTITION, Offset(0));
    let mut capacity = 0;
    while !unpacker.is_exhausted() {
        chunk.recycle(PARTITION, unpacker.position());
        unpacker
            .fill(
                &mut chunk,
                ReadLimit {
                    records: 2,
                    bytes: 1 << 20,
                },
            )
            .unwrap();
        capacity = capacity.max(chunk.buffer().capacity());
    }
    assert!(capacity < 4 << 10, "{capacity} bytes for two records");
}

#[test]
fn headers_do_not_pile_up_in_a_chunk() {
    // A gibibyte of headers around a few bytes of records.
    let mut batch = tens(0, Packing::Zstd, 16);
    for entry in &mut batch.entries {
        entry.headers = vec![(b"trace".to_vec(), Some(vec![b'h'; 256 << 10]))];
    }
    let mut log = Vec::new();
    for index in 0..256 {
        batch.base = 16 * index;
        log.extend(batch.encode());
    }
    let mut unpacker = accepted(0, log);
    let mut chunk = Chunk::new(PARTITION, Offset(0));
    assert_eq!(unpacker.fill(&mut chunk, ROOMY), Ok(Filled::Exhausted));
    assert_eq!((chunk.len(), chunk.bytes()), (4_096, 40_960));
    let capacity = chunk.buffer().capacity();
    assert!(capacity < 32 << 20, "{capacity} bytes are held");
    assert!(
        chunk
            .records()
            .all(|record| record.key == b"key" && record.value == Some(b"7 bytes"))
    );
}

#[test]
fn dropped_heads_do_not_count_against_the_limit() {
    for packing in [Packing::None, Packing::Lz4Linked] {
        let log = encoded(&[tens(0, packing, 10), tens(10, packing, 3)]);
        let limit = ReadLimit {
            records: 5,
            bytes: 1_000,
        };
        assert_eq!(drain(&mut accepted(8, log), limit).chunks, [5]);
    }
}

#[test]
fn a_batch_far_larger_than_a_chunk_is_delivered_record_by_record() {
    let mut log = [tens(0, Packing::None, 12), tens(12, Packing::Lz4, 3)];
    for entry in &mut log[0].entries {
        entry.value = Some(vec![7; 1 << 20]);
    }
    assert_eq!(cuts(&log, 1, 2 << 20), [1; 15]);
    assert_eq!(cuts(&log, 5, 3 << 20), [2, 2, 2, 2, 2, 5]);
}
