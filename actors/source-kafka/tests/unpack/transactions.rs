//! What a read-committed reader skips.

use bytes::Bytes;
use refold_domain::position::Offset;
use refold_source_kafka::raw::unpack::AbortedTransaction;
use refold_source_kafka::raw::unpack::Unpacker;

use crate::encode::BatchSpec;
use crate::encode::Packing;
use crate::reading::Delivered;
use crate::reading::PARTITION;
use crate::reading::ROOMY;
use crate::reading::drain;
use crate::reading::encoded;
use crate::reading::meaning;
use crate::reading::usual;

fn aborted(producer_id: i64, first_offset: i64) -> AbortedTransaction {
    AbortedTransaction {
        producer_id,
        first_offset,
    }
}

fn committed(from: i64, specs: &[BatchSpec], aborted: Vec<AbortedTransaction>) -> Vec<Delivered> {
    let mut unpacker = Unpacker::new(PARTITION, Offset(from));
    unpacker.accept(Bytes::from(encoded(specs)), aborted);
    let outcome = drain(&mut unpacker, ROOMY);
    assert_eq!(outcome.error, None);
    let end = specs.last().map_or(from, BatchSpec::end);
    assert_eq!(unpacker.position(), Offset(end), "markers are passed too");
    outcome.records
}

fn meanings(specs: &[&BatchSpec]) -> Vec<Delivered> {
    specs.iter().flat_map(|spec| meaning(spec)).collect()
}

#[test]
fn markers_are_never_records() {
    let log = [
        usual(0, Packing::Lz4, 3).of_producer(9),
        BatchSpec::marker(3, 9, false),
        usual(4, Packing::Lz4, 3),
        BatchSpec::marker(7, 9, true),
    ];
    assert_eq!(
        committed(0, &log, Vec::new()),
        meanings(&[&log[0], &log[2]])
    );
}

#[test]
fn an_aborted_transaction_ends_at_its_marker() {
    let log = [
        usual(0, Packing::Zstd, 5).of_producer(7),
        usual(5, Packing::Zstd, 5).of_producer(8),
        usual(10, Packing::Zstd, 5).of_producer(7),
        usual(15, Packing::Zstd, 5),
        BatchSpec::marker(20, 7, true),
        usual(21, Packing::Zstd, 5).of_producer(7),
        BatchSpec::marker(26, 8, false),
        BatchSpec::marker(27, 7, false),
    ];
    let expected = meanings(&[&log[1], &log[3], &log[5]]);
    assert_eq!(committed(0, &log, vec![aborted(7, 0)]), expected);
}

#[test]
fn the_same_producer_aborts_twice_with_a_commit_between() {
    let log = [
        usual(0, Packing::None, 2).of_producer(7),
        BatchSpec::marker(2, 7, true),
        usual(3, Packing::None, 2).of_producer(7),
        BatchSpec::marker(5, 7, false),
        usual(6, Packing::None, 2).of_producer(7),
        BatchSpec::marker(8, 7, true),
        usual(9, Packing::None, 2).of_producer(7),
        BatchSpec::marker(11, 7, false),
    ];
    // The answer's list need not be sorted.
    let list = vec![aborted(7, 6), aborted(7, 0)];
    assert_eq!(committed(0, &log, list), meanings(&[&log[2], &log[6]]));
}

#[test]
fn a_transaction_that_began_before_the_answer_is_skipped_too() {
    let log = [
        usual(100, Packing::Lz4, 10).of_producer(7),
        usual(110, Packing::Lz4, 10).of_producer(8),
        BatchSpec::marker(120, 7, true),
        usual(121, Packing::Lz4, 1).of_producer(7),
    ];
    let expected = meanings(&[&log[1], &log[3]]);
    let from_inside: Vec<_> = expected.into_iter().collect();
    assert_eq!(committed(105, &log, vec![aborted(7, 42)]), from_inside);
}

#[test]
fn an_id_without_the_transactional_flag_is_no_transaction() {
    let mut idempotent = usual(0, Packing::None, 5);
    idempotent.producer_id = 7;
    let log = [idempotent, usual(5, Packing::None, 5).of_producer(7)];
    assert_eq!(committed(0, &log, vec![aborted(7, 0)]), meaning(&log[0]));
}

#[test]
fn markers_of_any_form_are_passed() {
    // Packed, and of a later version with more behind the type.
    let mut packed = BatchSpec::marker(2, 7, true);
    packed.packing = Packing::Gzip;
    packed.entries[0].key = Some(vec![0, 1, 0, 0, 9]);
    // Compacted to nothing, and with a type that is not known yet.
    let mut emptied = BatchSpec::marker(5, 7, true);
    emptied.entries.clear();
    let mut unknown = BatchSpec::marker(6, 7, true);
    unknown.entries[0].key = Some(vec![0, 0, 0, 5]);
    let log = [
        usual(0, Packing::None, 2).of_producer(7),
        packed,
        usual(3, Packing::None, 2).of_producer(7),
        emptied,
        unknown,
    ];
    assert_eq!(committed(0, &log, vec![aborted(7, 0)]), meaning(&log[2]));
}

#[test]
fn each_answer_brings_its_own_list() {
    let log = [
        usual(0, Packing::Lz4, 4).of_producer(7),
        usual(4, Packing::Lz4, 4).of_producer(7),
        BatchSpec::marker(8, 7, true),
        usual(9, Packing::Lz4, 4).of_producer(7),
    ];
    let mut unpacker = Unpacker::new(PARTITION, Offset(0));
    for (batch, list) in log.iter().zip([true, true, true, false]) {
        let list = if list {
            vec![aborted(7, 0)]
        } else {
            Vec::new()
        };
        unpacker.accept(Bytes::from(batch.encode()), list);
    }
    assert_eq!(drain(&mut unpacker, ROOMY).records, meaning(&log[3]));
}
