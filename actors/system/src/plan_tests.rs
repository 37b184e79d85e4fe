use refold_domain::parking::Parking;
use refold_domain::sums::SumLayout;
use refold_domain::sums::Sums;
use refold_domain::version::VersionId;

use super::*;

const P: Partition = Partition(3);

fn lease(next: i64, has_leaf: bool) -> Lease {
    Lease {
        version: VersionId(1),
        partition: P,
        epoch: 1,
        start: Offset(0),
        next: Offset(next),
        last_record: None,
        sums: Sums::zero(&SumLayout::new([])),
        has_leaf,
        has_checkpoint: false,
        reached_log_end: false,
        switch: None,
        parking: Parking::new(),
    }
}

fn log(low: i64, high: i64) -> Watermarks {
    Watermarks {
        low: Offset(low),
        high: Offset(high),
    }
}

fn chunk(from: i64, offsets: &[i64]) -> Chunk {
    let mut chunk = Chunk::new(P, Offset(from));
    for offset in offsets {
        assert!(chunk.push(Offset(*offset), 0, b"k", Some(&offset.to_be_bytes())));
    }
    chunk
}

#[test]
fn a_partition_without_rows_is_loaded_in_bulk_up_to_the_end_or_the_barrier() {
    let resumed = |lease| resume(&lease, log(0, 90), None);
    let bulk = |read_from, verify, until| Resume::Bulk {
        read_from: Offset(read_from),
        verify,
        until: Offset(until),
    };
    assert_eq!(resumed(lease(0, false)), bulk(0, None, 90));
    let waiting = Lease {
        switch: Some(Offset(40)),
        ..lease(0, false)
    };
    assert_eq!(resumed(waiting), bulk(0, None, 40));
    assert_eq!(resumed(lease(90, false)), bulk(90, None, 90));
    // Behind a checkpoint its last record is looked at first.
    let record = chunk(49, &[49]).get(0).map(|r| r.fingerprint());
    let checkpointed = Lease {
        last_record: record,
        has_checkpoint: true,
        ..lease(50, false)
    };
    assert_eq!(resumed(checkpointed), bulk(49, record, 90));
}

#[test]
fn a_partition_with_rows_goes_on_at_its_mark_and_looks_at_the_last_record_first() {
    let record = chunk(49, &[49]).get(0).map(|r| r.fingerprint());
    let filled = Lease {
        last_record: record,
        ..lease(50, true)
    };
    let expected = |read_from, verify, fold_from| Resume::Apply {
        read_from: Offset(read_from),
        verify,
        fold_from: Offset(fold_from),
    };
    assert_eq!(resume(&filled, log(0, 90), None), expected(49, record, 50));
    // Retention took the record: low equals the mark, nothing is lost.
    assert_eq!(resume(&filled, log(50, 90), None), expected(50, None, 50));
    let reread = resume(&filled, log(10, 90), Some(Offset(20)));
    assert_eq!(reread, expected(20, record, 20));
    let from_start = resume(&filled, log(10, 90), Some(Offset(0)));
    assert_eq!(from_start, expected(10, record, 10));
    let at_mark = resume(&filled, log(10, 90), Some(Offset(50)));
    assert_eq!(at_mark, expected(49, record, 50));
}

#[test]
fn a_mark_outside_the_log_halts_and_a_start_above_the_mark_is_refused() {
    for has_leaf in [true, false] {
        let truncated = resume(&lease(50, has_leaf), log(51, 90), None);
        assert!(matches!(truncated, Resume::Halted(why) if why.contains("51")));
        let shorter = resume(&lease(50, has_leaf), log(0, 49), None);
        assert!(matches!(shorter, Resume::Halted(why) if why.contains("49")));
        let refused = resume(&lease(50, has_leaf), log(0, 90), Some(Offset(60)));
        assert!(matches!(refused, Resume::Refused(why) if why.contains("[50, 60)")));
    }
}

#[test]
fn another_record_at_the_mark_is_a_diverged_log() {
    let wanted = chunk(7, &[7])
        .get(0)
        .map(|r| r.fingerprint())
        .expect("a record");
    assert_eq!(verify(&chunk(5, &[5, 7, 8]), wanted, true), Verdict::Same);
    assert_eq!(verify(&chunk(5, &[5, 6]), wanted, true), Verdict::NotYet);
    let mut other = Chunk::new(P, Offset(7));
    assert!(other.push(Offset(7), 0, b"k", Some(b"other")));
    assert!(matches!(
        verify(&other, wanted, false),
        Verdict::Diverged(_)
    ));
    // A hole where the record was: compaction makes holes, a complete log does not.
    let hole = chunk(7, &[8]);
    assert!(matches!(verify(&hole, wanted, true), Verdict::Diverged(_)));
    assert_eq!(verify(&hole, wanted, false), Verdict::Same);
    let mut ended = chunk(7, &[]);
    ended.set_end_of_log(Offset(7));
    assert!(matches!(verify(&ended, wanted, true), Verdict::Diverged(_)));
}

#[test]
fn the_first_record_at_or_above_an_offset_is_found_across_holes() {
    let chunk = chunk(0, &[1, 4, 9]);
    for (offset, index) in [(0, 0), (1, 0), (2, 1), (4, 1), (9, 2), (10, 3)] {
        assert_eq!(index_of(&chunk, Offset(offset)), index, "{offset}");
    }
}

#[test]
fn a_live_projector_stays_live_while_less_than_a_batch_behind() {
    assert_eq!(
        phase_after(Phase::CatchingUp, false, 1, 10),
        Phase::CatchingUp
    );
    assert_eq!(phase_after(Phase::CatchingUp, true, 0, 10), Phase::Live);
    assert_eq!(phase_after(Phase::Live, false, 10, 10), Phase::Live);
    assert_eq!(phase_after(Phase::Live, false, 11, 10), Phase::CatchingUp);
}

#[test]
fn another_cluster_topic_or_partition_count_is_another_log() {
    let stored = TopicIdentity {
        cluster_id: "c".into(),
        topic: "t".into(),
        topic_id: Some("i".into()),
        partitions: 4,
    };
    assert_eq!(same_log(&stored, &stored), Ok(()));
    let unknown_id = TopicIdentity {
        topic_id: None,
        ..stored.clone()
    };
    assert_eq!(same_log(&stored, &unknown_id), Ok(()));
    let changes: [fn(&mut TopicIdentity); 4] = [
        |t| t.cluster_id = "d".into(),
        |t| t.topic = "u".into(),
        |t| t.topic_id = Some("j".into()),
        |t| t.partitions = 5,
    ];
    for change in changes {
        let mut other = stored.clone();
        change(&mut other);
        assert!(same_log(&stored, &other).is_err(), "{other:?}");
    }
}

#[test]
fn an_epoch_above_ours_is_anothers_unless_our_own_lost_take_overs_explain_it() {
    assert_eq!(own_up_to(5, 0), Some(5));
    assert_eq!(own_up_to(5, 2), Some(7));
    // Before the first grant there is nothing to compare with.
    assert_eq!(own_up_to(0, 0), None);
    assert_eq!(own_up_to(0, 3), None);
}

#[test]
fn a_checkpoint_is_due_after_its_pause_while_more_than_another_one_is_ahead() {
    let seconds = Duration::from_secs;
    let pace = CheckpointPace {
        every: seconds(60),
        since: seconds(60),
        took: None,
        left: seconds(61),
    };
    assert!(pace.is_due());
    for early in [
        CheckpointPace {
            since: seconds(59),
            ..pace
        },
        CheckpointPace {
            left: seconds(60),
            ..pace
        },
        // The last one took 20 s: the next is due after 200.
        CheckpointPace {
            since: seconds(199),
            took: Some(seconds(20)),
            left: seconds(900),
            ..pace
        },
    ] {
        assert!(!early.is_due(), "{early:?}");
    }
    let always = CheckpointPace {
        every: Duration::ZERO,
        since: Duration::ZERO,
        took: Some(seconds(20)),
        left: Duration::ZERO,
    };
    assert!(always.is_due());
}

#[test]
fn a_batch_is_sent_at_its_partitions_next_turn_and_waits_no_longer_than_one_round() {
    let ms = Duration::from_millis;
    let every = ms(200);
    for (since, nth, turn) in [
        (0, 0, 200),
        (1, 0, 200),
        (199, 0, 200),
        (200, 0, 400),
        (0, 3, 75),
        (75, 3, 275),
        (100, 3, 275),
        (1_000_000, 7, 1_000_175),
        (0, 8, 200),
    ] {
        assert_eq!(
            turn_after(ms(since), every, (nth, 8)),
            ms(turn),
            "{since} {nth}"
        );
    }
    for since in 0..1_000 {
        let turns = (0..8).map(|nth| turn_after(ms(since), every, (nth, 8)));
        let mut waits: Vec<_> = turns.map(|turn| turn - ms(since)).collect();
        waits.sort_unstable();
        assert!(waits[0] > Duration::ZERO && waits[7] <= every, "{since}");
        // One after another, whenever they begin.
        assert!(
            waits.windows(2).all(|two| two[1] - two[0] == ms(25)),
            "{since}"
        );
    }
    assert_eq!(turn_after(ms(7), Duration::ZERO, (1, 2)), ms(7));
    assert_eq!(turn_after(ms(7), every, (3, 0)), ms(200));
}
