use super::*;

#[test]
fn another_topic_another_cluster_or_other_partitions_are_another_log() {
    let stored = TopicIdentity {
        cluster_id: "one".to_owned(),
        topic: "events".to_owned(),
        topic_id: Some("a".to_owned()),
        partitions: 4,
    };
    let other = |change: fn(&mut TopicIdentity)| {
        let mut asked = stored.clone();
        change(&mut asked);
        stored.is_same_log(&asked)
    };
    assert!(other(|_| ()));
    assert!(other(|asked| asked.topic_id = None));
    assert!(!other(|asked| asked.topic_id = Some("b".to_owned())));
    assert!(!other(|asked| asked.topic.push('s')));
    assert!(!other(|asked| asked.cluster_id.push('s')));
    assert!(!other(|asked| asked.partitions = 8));
    let said = "topic events (id a) with 4 partitions of cluster one";
    assert_eq!(stored.to_string(), said);
}

#[test]
fn a_chunk_gives_back_what_was_pushed_and_refuses_to_go_back() {
    let mut chunk = Chunk::new(Partition(3), Offset(10));
    assert!(chunk.push(Offset(12), 7, b"k", Some(b"value")));
    assert!(chunk.push(Offset(15), 8, b"key", None));
    assert!(!chunk.push(Offset(15), 8, b"again", None));
    assert_eq!((chunk.from(), chunk.to()), (Offset(10), Offset(16)));
    let records: Vec<_> = chunk.records().collect();
    assert_eq!(records[0].key, b"k");
    assert_eq!(records[0].value, Some(&b"value"[..]));
    assert_eq!(records[1].value, None);
}

#[test]
fn a_record_unpacked_in_place_is_one_like_any_other() {
    let span = |offset, key, value| RecordSpan {
        offset: Offset(offset),
        ts_millis: 7,
        key,
        value,
    };
    let mut chunk = Chunk::new(Partition(0), Offset(10));
    assert!(chunk.push(Offset(10), 7, b"k", Some(b"copied")));
    let at = chunk.buffer().len();
    chunk.buffer().extend_from_slice(b"..key.value");
    assert!(chunk.push_span(&span(12, at + 2..at + 5, Some(at + 6..at + 11))));
    assert!(chunk.push_span(&span(13, 0..0, None)));
    for refused in [
        span(13, 0..0, None),
        span(14, 0..99, None),
        span(14, 0..0, Some(5..99)),
    ] {
        assert!(!chunk.push_span(&refused), "{refused:?}");
    }
    assert_eq!((chunk.to(), chunk.len()), (Offset(14), 3));
    assert_eq!(chunk.bytes(), 7 + 8);
    let records: Vec<_> = chunk.records().map(|r| (r.key, r.value)).collect();
    assert_eq!(
        records,
        [
            (&b"k"[..], Some(&b"copied"[..])),
            (b"key", Some(b"value")),
            (b"", None)
        ]
    );
}

#[test]
fn fingerprints_tell_any_part_of_a_record_apart() {
    let record = Record {
        offset: Offset(1),
        ts_millis: 2,
        key: b"ab",
        value: Some(b"c"),
    };
    let print = record.fingerprint();
    assert_eq!(
        RecordFingerprint::from_bytes(&print.to_bytes()),
        Some(print)
    );
    for other in [
        Record {
            offset: Offset(2),
            ..record
        },
        Record {
            ts_millis: 3,
            ..record
        },
        Record {
            key: b"a",
            value: Some(b"bc"),
            ..record
        },
        Record {
            value: None,
            ..record
        },
    ] {
        assert_ne!(other.fingerprint().hash, print.hash);
    }
}

#[test]
fn a_chunk_that_is_used_again_keeps_nothing_of_before() {
    let mut chunk = Chunk::new(Partition(3), Offset(10));
    assert!(chunk.is_empty());
    assert!(chunk.push(Offset(12), 7, b"key", Some(b"value")));
    chunk.set_end_of_log(Offset(20));
    assert!(!chunk.is_empty());
    assert_eq!(chunk.unpacked(), b"keyvalue");
    chunk.recycle(Partition(4), Offset(2));
    assert_eq!(chunk.partition(), Partition(4));
    assert_eq!((chunk.from(), chunk.to()), (Offset(2), Offset(2)));
    assert_eq!((chunk.len(), chunk.bytes()), (0, 0));
    assert!(chunk.is_empty() && chunk.unpacked().is_empty());
    assert!(!chunk.end_of_log(), "the end was that of another read");
    assert!(chunk.push(Offset(3), 7, b"k", None), "it goes on from 2");
    assert_eq!(chunk.records().map(|r| r.key).collect::<Vec<_>>(), [b"k"]);
}

#[test]
fn the_end_of_the_log_is_known_once_a_reader_met_it_and_lies_behind_the_last_record() {
    let mut chunk = Chunk::new(Partition(0), Offset(10));
    assert!(chunk.push(Offset(12), 7, b"k", None));
    assert_eq!((chunk.end_of_log(), chunk.log_end()), (false, None));
    // Markers and holes lie behind the record.
    chunk.set_end_of_log(Offset(15));
    assert_eq!(
        (chunk.end_of_log(), chunk.log_end()),
        (true, Some(Offset(15)))
    );
    // It was asked for before the record was written.
    chunk.set_end_of_log(Offset(11));
    assert_eq!(chunk.log_end(), Some(Offset(13)));
}

#[test]
fn records_far_below_the_limit_are_taken_however_long_key_and_value_are() {
    let long = vec![7; 70_000];
    let mut chunk = Chunk::new(Partition(0), Offset(0));
    for offset in 0..3 {
        assert!(chunk.push(Offset(offset), 0, &long, Some(&long)));
    }
    assert_eq!(chunk.bytes(), 6 * long.len());
    assert_eq!(chunk.get(2).and_then(|r| r.value), Some(&long[..]));
}
