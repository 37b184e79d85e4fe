//! Batches that cannot be delivered, and what is said of them.

use refold_domain::position::Offset;
use refold_ports::source::ReadLimit;
use refold_source_kafka::raw::unpack::Codec;
use refold_source_kafka::raw::unpack::UnpackErrorKind;

use crate::encode::BatchSpec;
use crate::encode::Entry;
use crate::encode::Packing;
use crate::encode::seal;
use crate::encode::varint;
use crate::reading::ROOMY;
use crate::reading::accepted;
use crate::reading::drain;
use crate::reading::encoded;
use crate::reading::meaning;
use crate::reading::usual;

/// Two good batches around one whose bytes were changed.
fn refused(change: impl FnOnce(&mut Vec<u8>)) -> UnpackErrorKind {
    let head = usual(0, Packing::Lz4, 10);
    let mut changed = usual(10, Packing::Lz4, 10).encode();
    change(&mut changed);
    let answer = [head.encode(), changed, usual(20, Packing::Lz4, 10).encode()].concat();
    for limit in [
        ROOMY,
        ReadLimit {
            records: 3,
            bytes: 1 << 20,
        },
    ] {
        let outcome = drain(&mut accepted(0, answer.clone()), limit);
        // Of the batch itself, at most the records before a fault in them.
        let (before, of_it) = outcome.records.split_at(10);
        assert_eq!(before, meaning(&head), "what is before it is delivered");
        assert!(of_it.len() <= 10 && outcome.records.is_sorted());
        assert!(outcome.error.is_some());
    }
    let error = drain(&mut accepted(0, answer), ROOMY).error;
    error.expect("the batch is refused").kind
}

fn set(batch: &mut [u8], at: usize, bytes: &[u8]) {
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    seal(batch);
}

#[test]
fn old_and_future_formats_are_named() {
    for format in [0, 1, 3, -1_i8] {
        let kind = refused(|batch| batch[16] = format as u8);
        assert_eq!(kind, UnpackErrorKind::Format(format));
    }
    let mut batch = usual(17, Packing::None, 1).encode();
    batch[16] = 1;
    let error = drain(&mut accepted(17, batch), ROOMY).error.unwrap();
    assert_eq!(error.offset, Offset(17));
    assert_eq!(
        error.to_string(),
        "the batch at offset 17 is in message format 1, but only format 2 can be read; \
         convert the topic, or read it through librdkafka"
    );
}

#[test]
fn a_wrong_checksum_stops_before_the_batch() {
    let kind = refused(|batch| *batch.last_mut().unwrap() ^= 1);
    match kind {
        UnpackErrorKind::Checksum { stored, computed } => assert_ne!(stored, computed),
        other => panic!("{other}"),
    }
    // Of a marker and of an aborted or passed batch it is checked as well.
    let mut marker = BatchSpec::marker(0, 7, true).encode();
    marker[43] ^= 1;
    assert!(drain(&mut accepted(0, marker), ROOMY).error.is_some());
    let mut passed = usual(0, Packing::None, 3).encode();
    passed[70] ^= 1;
    assert!(drain(&mut accepted(3, passed), ROOMY).error.is_some());
}

#[test]
fn headers_that_cannot_be_are_refused() {
    let header = |at: usize, bytes: &[u8]| match refused(|batch| set(batch, at, bytes)) {
        UnpackErrorKind::Header(reason) => reason,
        other => panic!("{other}"),
    };
    assert_eq!(
        header(8, &48_i32.to_be_bytes()),
        "its length is less than a header's"
    );
    assert_eq!(
        header(8, &(-1_i32).to_be_bytes()),
        "its length is less than a header's"
    );
    assert_eq!(
        header(0, &(-1_i64).to_be_bytes()),
        "its offsets are negative"
    );
    assert_eq!(
        header(23, &(-1_i32).to_be_bytes()),
        "its offsets are negative"
    );
    assert_eq!(
        header(0, &i64::MAX.to_be_bytes()),
        "its offsets pass the largest one"
    );
    assert_eq!(
        header(57, &(-1_i32).to_be_bytes()),
        "its record count is negative"
    );
    assert_eq!(
        header(57, &9_i32.to_be_bytes()),
        "it counts fewer records than there are"
    );
    assert_eq!(
        header(57, &0_i32.to_be_bytes()),
        "it counts fewer records than there are"
    );
    let kind = refused(|batch| set(batch, 8, &i32::MAX.to_be_bytes()));
    assert!(matches!(kind, UnpackErrorKind::TooLarge { .. }), "{kind}");
    let kind = refused(|batch| set(batch, 21, &5_i16.to_be_bytes()));
    assert_eq!(kind, UnpackErrorKind::UnknownCodec(5));
    let kind = refused(|batch| set(batch, 57, &11_i32.to_be_bytes()));
    let cut = "it ends inside a number";
    assert_eq!(
        kind,
        UnpackErrorKind::Record {
            number: 11,
            reason: cut
        }
    );
}

#[test]
fn batches_out_of_order_are_refused_before_either_is_delivered() {
    for base in [0_i64, 9, 5, 15, 1 << 40] {
        let mut moved = usual(10, Packing::None, 10).encode();
        moved[..8].copy_from_slice(&base.to_be_bytes());
        let answer = [
            encoded(&[usual(0, Packing::None, 10)]),
            moved,
            encoded(&[usual(20, Packing::None, 1)]),
        ];
        let outcome = drain(&mut accepted(0, answer.concat()), ROOMY);
        let delivered = if base < 10 { 0 } else { 10 };
        assert_eq!(outcome.records.len(), delivered, "{base}");
        let kind = outcome.error.expect("a disorder").kind;
        assert_eq!(
            kind,
            UnpackErrorKind::Header("the batch behind it begins before it ends")
        );
    }
}

/// What is said of a batch whose plain records are these bytes.
fn record_reason(count: usize, plain: &[u8]) -> (u32, &'static str) {
    let mut batch = usual(0, Packing::None, count as i32);
    batch.last_delta = 99;
    let outcome = drain(&mut accepted(0, batch.encode_payload(plain)), ROOMY);
    match outcome.error.expect("a malformed record").kind {
        UnpackErrorKind::Record { number, reason } => {
            assert_eq!(outcome.records.len() as u32, number - 1);
            (number, reason)
        }
        other => panic!("{other}"),
    }
}

/// A record with this behind its attributes.
fn record(numbers: &[i64], tail: &[u8]) -> Vec<u8> {
    let mut body = vec![0];
    for number in numbers {
        varint(*number, &mut body);
    }
    body.extend(tail);
    let mut out = Vec::new();
    varint(body.len() as i64, &mut out);
    out.extend(body);
    out
}

#[test]
fn malformed_records_are_refused_where_they_are() {
    let one = |bytes: &[u8]| record_reason(1, bytes).1;
    let cut = "it ends inside a number";
    let longer = "a part of it is longer than what holds it";
    let negative = "a length in it is negative";
    assert_eq!(one(&[]), cut);
    assert_eq!(one(&[1]), negative);
    assert_eq!(one(&[2]), longer);
    assert_eq!(one(&[0]), cut);
    assert_eq!(one(&record(&[], b"")), cut);
    assert_eq!(one(&record(&[0, 0, 1], b"")), longer);
    assert_eq!(one(&record(&[0, 0, -2], b"")), negative);
    assert_eq!(one(&record(&[0, 0, -1, -2], b"")), negative);
    assert_eq!(one(&record(&[0, 0, -1, 9], b"abc")), longer);
    assert_eq!(one(&record(&[0, 0, -1, -1], b"")), cut);
    assert_eq!(one(&record(&[0, 0, -1, -1, -1], b"")), negative);
    assert_eq!(
        one(&record(&[0, 0, -1, -1, 0], b"x")),
        "it is longer than its parts"
    );
    assert_eq!(
        one(&record(&[0, 0, -1, -1, 1, -1], b"")),
        "a header's key is null"
    );
    assert_eq!(one(&record(&[0, 0, -1, -1, 1, 0, -3], b"")), negative);
    assert_eq!(one(&record(&[0, 0, -1, -1, 1 << 40], b"")), cut);
    assert_eq!(one(&record(&[0, 0, -1, -1, 1_000_000], b"\0\0\0\0")), cut);
    let order = "its offset is out of order or outside the batch";
    assert_eq!(one(&record(&[0, -1, -1, -1, 0], b"")), order);
    assert_eq!(one(&record(&[0, 100, -1, -1, 0], b"")), order);
    let twice = [
        record(&[0, 3, -1, -1, 0], b""),
        record(&[0, 3, -1, -1, 0], b""),
    ]
    .concat();
    assert_eq!(record_reason(2, &twice), (2, order));
    let back = [
        record(&[0, 3, -1, -1, 0], b""),
        record(&[0, 2, -1, -1, 0], b""),
    ]
    .concat();
    assert_eq!(record_reason(2, &back), (2, order));
}

#[test]
fn a_payload_that_does_not_unpack_is_named_with_its_codec() {
    for packing in [Packing::Gzip, Packing::Snappy, Packing::Lz4, Packing::Zstd] {
        let bytes = usual(3, packing, 4).encode_payload(&[9, 9, 9]);
        let error = drain(&mut accepted(3, bytes), ROOMY).error.unwrap();
        let codec = format!("{packing:?}").to_lowercase();
        let begin = format!("the batch at offset 3 does not unpack as {codec}: ");
        assert!(error.to_string().starts_with(&begin), "{error}");
    }
    assert_eq!(Codec::None.to_string(), "none");
}

#[test]
fn a_marker_that_does_not_parse_is_refused() {
    let marker = BatchSpec::marker(0, 7, true).encode_payload(&[3]);
    let kind = drain(&mut accepted(0, marker), ROOMY).error.unwrap().kind;
    assert!(
        matches!(kind, UnpackErrorKind::Record { number: 1, .. }),
        "{kind}"
    );
}

#[test]
fn the_largest_offset_is_no_trap() {
    let base = i64::MAX - 3;
    let mut batch = BatchSpec::new(base, Packing::None, vec![Entry::new(0, b"k", b"v")]);
    batch.last_delta = 2;
    let mut unpacker = accepted(base, batch.encode());
    assert_eq!(drain(&mut unpacker, ROOMY).records.len(), 1);
    assert_eq!(unpacker.position(), Offset(i64::MAX));
    batch.entries[0].delta = i32::MAX;
    let error = drain(&mut accepted(base, batch.encode()), ROOMY).error;
    assert!(matches!(
        error.unwrap().kind,
        UnpackErrorKind::Record { number: 1, .. }
    ));
}
