//! What a log can hold, case by case.

use bytes::Bytes;
use refold_domain::log::Chunk;
use refold_domain::position::Offset;
use refold_source_kafka::raw::unpack::Filled;
use refold_source_kafka::raw::unpack::Unpacker;

use crate::encode::BatchSpec;
use crate::encode::Entry;
use crate::encode::Packing;
use crate::reading::PARTITION;
use crate::reading::ROOMY;
use crate::reading::accepted;
use crate::reading::drain;
use crate::reading::encoded;
use crate::reading::meaning;
use crate::reading::read;
use crate::reading::usual;

#[test]
fn every_codec_delivers_what_was_written() {
    for packing in Packing::ALL {
        let batches = [
            usual(40, packing, 3),
            usual(43, packing, 1),
            usual(44, packing, 2_000),
        ];
        let outcome = read(40, &batches);
        assert_eq!(outcome.error, None, "{packing:?}");
        let expected: Vec<_> = batches.iter().flat_map(meaning).collect();
        assert_eq!(outcome.records, expected, "{packing:?}");
    }
}

#[test]
fn codecs_may_change_from_batch_to_batch() {
    let mut batches = Vec::new();
    for round in 0..3 {
        for (index, packing) in Packing::ALL.into_iter().enumerate() {
            batches.push(usual(round * 200 + index as i64 * 20, packing, 20));
        }
    }
    let expected: Vec<_> = batches.iter().flat_map(meaning).collect();
    assert_eq!(read(0, &batches).records, expected);
}

#[test]
fn holes_inside_and_between_batches_move_the_position_past_them() {
    let mut batch = BatchSpec::new(
        10,
        Packing::Lz4,
        vec![Entry::new(2, b"a", b"1"), Entry::new(7, b"b", b"2")],
    );
    batch.last_delta = 9; // The last two were compacted away.
    let mut unpacker = accepted(10, encoded(&[batch.clone(), usual(30, Packing::None, 1)]));
    assert_eq!(unpacker.next_fetch(), Offset(31));
    let outcome = drain(&mut unpacker, ROOMY);
    let offsets: Vec<_> = outcome.records.iter().map(|record| record.0).collect();
    assert_eq!(offsets, [12, 17, 30]);

    let mut alone = accepted(10, batch.encode());
    drain(&mut alone, ROOMY);
    assert_eq!(alone.position(), Offset(20));
    assert_eq!(alone.next_fetch(), Offset(20));
}

#[test]
fn an_empty_batch_moves_the_position() {
    for packing in [Packing::None, Packing::Zstd] {
        let mut batch = BatchSpec::new(10, packing, Vec::new());
        batch.last_delta = 4;
        let mut unpacker = accepted(10, batch.encode_payload(&[]));
        let outcome = drain(&mut unpacker, ROOMY);
        assert_eq!((outcome.records.len(), outcome.error), (0, None));
        assert_eq!(unpacker.position(), Offset(15));

        // A producer of no records packs none.
        let mut packed = accepted(10, batch.encode());
        assert_eq!(drain(&mut packed, ROOMY).error, None);
        assert_eq!(packed.position(), Offset(15));
    }
}

#[test]
fn the_head_of_the_first_batch_is_dropped_below_the_wanted_offset() {
    for packing in [Packing::None, Packing::Lz4, Packing::Zstd] {
        let batch = usual(100, packing, 50);
        let outcome = read(120, std::slice::from_ref(&batch));
        assert_eq!(outcome.records, meaning(&batch)[20..]);
        // A batch that ends below is passed, whatever its records.
        let outcome = read(150, &[batch.clone(), usual(150, packing, 1)]);
        assert_eq!(outcome.records, meaning(&usual(150, packing, 1)));
        let mut unpacker = accepted(150, batch.encode());
        assert_eq!(unpacker.next_fetch(), Offset(150));
        drain(&mut unpacker, ROOMY);
        assert_eq!(unpacker.position(), Offset(150));
    }
}

#[test]
fn nulls_empties_and_headers_are_told_apart() {
    let mut entries = vec![
        Entry::new(0, b"", b""),
        Entry::new(1, b"k", b""),
        Entry::new(2, b"", b"v"),
        Entry::new(3, b"k", b"v"),
    ];
    entries[0].key = None;
    entries[1].value = None;
    entries[2].headers = vec![(b"h".to_vec(), None), (Vec::new(), Some(vec![9; 300]))];
    entries[3].headers = vec![(vec![b'x'; 200], Some(Vec::new())); 70];
    for packing in Packing::ALL {
        let batch = BatchSpec::new(0, packing, entries.clone());
        let outcome = read(0, std::slice::from_ref(&batch));
        assert_eq!(outcome.error, None);
        assert_eq!(outcome.records, meaning(&batch));
    }
}

#[test]
fn the_brokers_time_is_the_time_of_every_record() {
    let mut batch = usual(0, Packing::Zstd, 3);
    batch.append_time = true;
    batch.max_millis = 123_456;
    let outcome = read(0, std::slice::from_ref(&batch));
    assert!(outcome.records.iter().all(|record| record.1 == 123_456));
    batch.append_time = false;
    batch.base_millis = -5;
    batch.entries[1].millis_delta = -1_000_000_000_000;
    let outcome = read(0, std::slice::from_ref(&batch));
    let times: Vec<_> = outcome.records.iter().map(|record| record.1).collect();
    assert_eq!(times, [-5, -1_000_000_000_005, -3]);
}

#[test]
fn a_truncated_last_batch_is_fetched_again() {
    let (first, second) = (usual(0, Packing::Lz4, 30), usual(30, Packing::Lz4, 30));
    let (head, tail) = (first.encode(), second.encode());
    for cut in 0..tail.len() {
        let mut unpacker = accepted(0, [&head[..], &tail[..cut]].concat());
        assert_eq!(unpacker.next_fetch(), Offset(30));
        assert_eq!(unpacker.truncated_bytes_needed(), None);
        let outcome = drain(&mut unpacker, ROOMY);
        assert_eq!((outcome.records, outcome.error), (meaning(&first), None));
        unpacker.accept(Bytes::from(tail.clone()), Vec::new());
        assert_eq!(drain(&mut unpacker, ROOMY).records, meaning(&second));
    }
}

#[test]
fn an_answer_of_only_a_truncated_batch_says_what_it_needs() {
    let batch = usual(0, Packing::None, 10).encode();
    for cut in 1..batch.len() {
        let mut unpacker = accepted(0, batch[..cut].to_vec());
        let needed = unpacker.truncated_bytes_needed().expect("something is cut");
        assert_eq!(needed, if cut < 17 { 61 } else { batch.len() });
        assert_eq!(unpacker.next_fetch(), Offset(0));
        assert!(unpacker.is_exhausted());
        unpacker.accept(Bytes::from(batch.clone()), Vec::new());
        assert_eq!(unpacker.truncated_bytes_needed(), None);
        assert_eq!(drain(&mut unpacker, ROOMY).records.len(), 10);
    }
    assert_eq!(accepted(0, Vec::new()).truncated_bytes_needed(), None);
}

#[test]
fn answers_queue_and_the_next_fetch_runs_ahead() {
    let batches = [
        usual(0, Packing::Zstd, 40),
        usual(40, Packing::Lz4, 40),
        usual(80, Packing::None, 7),
    ];
    let mut unpacker = Unpacker::new(PARTITION, Offset(5));
    assert!(unpacker.is_exhausted());
    for batch in &batches {
        unpacker.accept(Bytes::from(batch.encode()), Vec::new());
        assert_eq!(unpacker.next_fetch(), Offset(batch.end()));
        assert_eq!(unpacker.position(), Offset(5));
    }
    // An answer of a fetch that was sent twice brings nothing new.
    unpacker.accept(Bytes::from(batches[1].encode()), Vec::new());
    assert_eq!(unpacker.next_fetch(), Offset(87));
    let expected: Vec<_> = batches.iter().flat_map(meaning).skip(5).collect();
    assert_eq!(drain(&mut unpacker, ROOMY).records, expected);
    assert_eq!(unpacker.position(), Offset(87));
}

#[test]
fn one_chunk_takes_several_answers() {
    let batches = [usual(0, Packing::Zstd, 40), usual(40, Packing::None, 40)];
    let mut unpacker = Unpacker::new(PARTITION, Offset(0));
    let mut chunk = Chunk::new(PARTITION, Offset(0));
    for batch in &batches {
        unpacker.accept(Bytes::from(batch.encode()), Vec::new());
        assert_eq!(unpacker.fill(&mut chunk, ROOMY), Ok(Filled::Exhausted));
    }
    assert_eq!((chunk.len(), chunk.to()), (80, Offset(80)));
    let keys: Vec<_> = chunk.records().map(|record| record.key.to_vec()).collect();
    let expected: Vec<_> = batches
        .iter()
        .flat_map(meaning)
        .map(|record| record.2)
        .collect();
    assert_eq!(keys, expected);
}

#[test]
fn a_restart_forgets_answers_leftovers_and_errors() {
    let batch = usual(0, Packing::Lz4, 40);
    let mut damaged = usual(40, Packing::Lz4, 4).encode();
    damaged[70] ^= 1;
    let mut unpacker = accepted(0, [batch.encode(), damaged.clone()].concat());
    let mut chunk = Chunk::new(PARTITION, Offset(0));
    let few = refold_ports::source::ReadLimit {
        records: 3,
        bytes: 99,
    };
    assert_eq!(unpacker.fill(&mut chunk, few), Ok(Filled::Full));
    unpacker.restart(Offset(20));
    assert!(unpacker.is_exhausted());
    assert_eq!(
        (unpacker.position(), unpacker.next_fetch()),
        (Offset(20), Offset(20))
    );
    unpacker.accept(Bytes::from(batch.encode()), Vec::new());
    assert_eq!(drain(&mut unpacker, ROOMY).records, meaning(&batch)[20..]);

    unpacker.accept(Bytes::from(damaged), Vec::new());
    assert!(drain(&mut unpacker, ROOMY).error.is_some());
    unpacker.restart(Offset(0));
    unpacker.accept(Bytes::from(batch.encode()), Vec::new());
    assert_eq!(drain(&mut unpacker, ROOMY).records, meaning(&batch));
    assert!(format!("{unpacker:?}").contains("position: 40"));
}
