//! Reading answers to their end, and what should come out.

use bytes::Bytes;
use refold_domain::log::Chunk;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::source::ReadLimit;
use refold_source_kafka::raw::unpack::Filled;
use refold_source_kafka::raw::unpack::UnpackError;
use refold_source_kafka::raw::unpack::Unpacker;

use crate::encode::BatchSpec;
use crate::encode::Entry;

pub(crate) const PARTITION: Partition = Partition(5);

/// A limit that no test reaches.
pub(crate) const ROOMY: ReadLimit = ReadLimit {
    records: 1_000_000,
    bytes: 1 << 30,
};

/// A delivered record: offset, timestamp, key, value.
pub(crate) type Delivered = (i64, i64, Vec<u8>, Option<Vec<u8>>);

/// What was delivered, and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) records: Vec<Delivered>,
    pub(crate) chunks: Vec<usize>,
    pub(crate) error: Option<UnpackError>,
}

/// An unpacker that has accepted the bytes as the answer to a fetch from `from`.
pub(crate) fn accepted(from: i64, answer: Vec<u8>) -> Unpacker {
    let mut unpacker = Unpacker::new(PARTITION, Offset(from));
    unpacker.accept(Bytes::from(answer), Vec::new());
    unpacker
}

/// Reads what was accepted, chunk by chunk, and checks each chunk against the promise.
pub(crate) fn drain(unpacker: &mut Unpacker, limit: ReadLimit) -> Outcome {
    let mut outcome = Outcome {
        records: Vec::new(),
        chunks: Vec::new(),
        error: None,
    };
    let mut chunk = Chunk::new(PARTITION, unpacker.position());
    loop {
        chunk.recycle(PARTITION, unpacker.position());
        let filled = unpacker.fill(&mut chunk, limit);
        assert!(chunk.len() <= limit.records.max(1));
        assert!(chunk.len() <= 1 || chunk.bytes() <= limit.bytes);
        outcome.records.extend(chunk.records().map(|record| {
            let value = record.value.map(<[u8]>::to_vec);
            (
                record.offset.0,
                record.ts_millis,
                record.key.to_vec(),
                value,
            )
        }));
        outcome.chunks.push(chunk.len());
        match filled {
            Ok(Filled::Full) => {
                assert!(!unpacker.is_exhausted());
                assert!(!chunk.is_empty(), "a full chunk holds something");
            }
            Ok(Filled::Exhausted) => {
                assert!(unpacker.is_exhausted());
                return outcome;
            }
            Err(error) => {
                assert!(chunk.is_empty(), "an error comes behind the records");
                assert!(!unpacker.is_exhausted());
                assert_eq!(unpacker.fill(&mut chunk, limit), Err(error.clone()));
                outcome.error = Some(error);
                return outcome;
            }
        }
    }
}

/// What one answer of these batches delivers to a read-uncommitted reader from `from` on.
pub(crate) fn read(from: i64, specs: &[BatchSpec]) -> Outcome {
    drain(&mut accepted(from, encoded(specs)), ROOMY)
}

pub(crate) fn encoded(specs: &[BatchSpec]) -> Vec<u8> {
    specs.iter().flat_map(BatchSpec::encode).collect()
}

/// What a batch means, by its description.
pub(crate) fn meaning(spec: &BatchSpec) -> Vec<Delivered> {
    if spec.control {
        return Vec::new();
    }
    let deliver = |entry: &Entry| {
        let millis = if spec.append_time {
            spec.max_millis
        } else {
            spec.base_millis + entry.millis_delta
        };
        let key = entry.key.clone().unwrap_or_default();
        (
            spec.base + i64::from(entry.delta),
            millis,
            key,
            entry.value.clone(),
        )
    };
    spec.entries.iter().map(deliver).collect()
}

/// A batch of entries with no holes that looks like a log's.
pub(crate) fn usual(base: i64, packing: crate::encode::Packing, count: i32) -> BatchSpec {
    let entry = |delta: i32| {
        let offset = base + i64::from(delta);
        let key = format!("account-{:06}", offset * 7919 % 1_000_003);
        let value = format!("{{\"kind\":\"deposited\",\"amount\":{offset},\"currency\":\"EUR\"}}");
        Entry::new(delta, key.as_bytes(), value.as_bytes())
    };
    BatchSpec::new(base, packing, (0..count).map(entry).collect())
}
