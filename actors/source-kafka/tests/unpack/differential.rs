//! Against another implementation of the format.

use bytes::Buf;
use bytes::BytesMut;
use indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::Compression;
use kafka_protocol::records::Record;
use kafka_protocol::records::RecordBatchDecoder;
use kafka_protocol::records::RecordBatchEncoder;
use kafka_protocol::records::RecordEncodeOptions;
use kafka_protocol::records::TimestampType;

use crate::encode::Packing;
use crate::reading::Delivered;
use crate::reading::ROOMY;
use crate::reading::accepted;
use crate::reading::drain;
use crate::reading::encoded;
use crate::reading::usual;

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

fn record(offset: i64) -> Record {
    let text = |length: i64| {
        (offset % 7 != 0).then(|| vec![b'a' + (offset % 26) as u8; length as usize].into())
    };
    let mut headers = IndexMap::new();
    if offset % 5 == 0 {
        headers.insert(StrBytes::from_static_str("trace"), text(offset % 40));
    }
    Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 3,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: offset as i32,
        timestamp: 1_700_000_000_000 + offset * 13,
        key: text(offset % 11),
        value: (offset % 3 != 0).then(|| format!("event {offset} ").repeat(8).into()),
        headers,
    }
}

fn as_delivered(record: &Record) -> Delivered {
    let value = record.value.as_ref().map(|value| value.to_vec());
    let key = record
        .key
        .as_ref()
        .map(|key| key.to_vec())
        .unwrap_or_default();
    (record.offset, record.timestamp, key, value)
}

#[test]
fn what_the_other_one_writes_is_read_alike() {
    for compression in CODECS {
        let records: Vec<_> = (0..3_000).map(record).collect();
        let mut bytes = BytesMut::new();
        for run in records.chunks(700) {
            let options = RecordEncodeOptions {
                version: 2,
                compression,
            };
            RecordBatchEncoder::encode(&mut bytes, run, &options).unwrap();
        }
        let outcome = drain(&mut accepted(0, bytes.to_vec()), ROOMY);
        assert_eq!(outcome.error, None, "{compression:?}");
        let expected: Vec<_> = records.iter().map(as_delivered).collect();
        assert_eq!(outcome.records, expected, "{compression:?}");
    }
}

#[test]
fn what_ours_writes_the_other_one_reads_alike() {
    for packing in Packing::ALL {
        // The other one knows neither a second member nor a bare block.
        if matches!(packing, Packing::GzipTwice) {
            continue;
        }
        let answer = encoded(&[usual(0, packing, 1_000), usual(1_000, packing, 5)]);
        let outcome = drain(&mut accepted(0, answer.clone()), ROOMY);
        let mut bytes = BytesMut::from(&answer[..]).freeze();
        let mut expected = Vec::new();
        while bytes.has_remaining() {
            let batch = RecordBatchDecoder::decode(&mut bytes).unwrap();
            expected.extend(batch.records.iter().map(as_delivered));
        }
        assert_eq!(outcome.records, expected, "{packing:?}");
    }
}
