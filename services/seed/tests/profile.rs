//! The default log is the one that the source document describes, and its
//! oracle says what v3's bug costs.

use refold_seed::oracle::{Expected, Oracle};
use refold_seed::{
    ExpectedFormat, ExpectedOptions, Profile, SeedError, SeedParams, describe, expected,
};

fn sized(events: u64, aggregates: u64) -> SeedParams {
    SeedParams {
        events,
        aggregates,
        ..SeedParams::default()
    }
}

fn assert_profile(profile: &Profile) {
    let [few, some, many, thousands] = profile.events_per_aggregate;
    // "Most aggregates have 1-5 events, a long tail has thousands."
    assert!(few > 0.80, "{profile}");
    assert!(
        some > 0.02 && many > 0.0005 && thousands > 0.0001,
        "{profile}"
    );
    assert!((few + some + many + thousands - 1.0).abs() < 1e-9);
    // Zipf 1.1: the busiest aggregate has about a ninth of all events.
    assert!((0.08..0.16).contains(&profile.top_key), "{profile}");
    // "~200-400 B", and text that compresses as real text does.
    assert!((200.0..400.0).contains(&profile.value_bytes), "{profile}");
    assert!(profile.record_bytes > profile.value_bytes + 10.0);
    assert!((35.0..70.0).contains(&profile.lz4_bytes), "{profile}");
    assert!((25.0..50.0).contains(&profile.zstd_bytes), "{profile}");
    // v3's bug shows in some aggregates, and in few.
    assert!(profile.differing.differing > 0);
    let share = profile.differing.share();
    assert!((0.005..=0.05).contains(&share), "{profile}");
}

#[test]
fn the_default_log_has_the_profile_of_the_source_document() {
    let profile = describe(&SeedParams::default()).expect("a log");
    assert_profile(&profile);
    assert_eq!(profile.differing.aggregates, 200_000);
    let text = profile.to_string();
    for part in [
        "1-5",
        ">= 1,000",
        "busiest aggregate",
        "lz4",
        "zstd",
        "differ",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_log_of_a_twentieth_has_the_same_profile() {
    assert_profile(&describe(&sized(100_000, 10_000)).expect("a log"));
}

#[test]
fn other_seeds_give_logs_that_differ_between_versions_as_well() {
    for seed in [0, 1, 7, u64::MAX] {
        let params = SeedParams {
            seed,
            ..sized(100_000, 10_000)
        };
        let oracle = Oracle::new(&params).expect("a log");
        let differing = oracle.differing_at(&oracle.layout().end_offsets());
        let share = differing.share();
        assert!((0.005..=0.05).contains(&share), "seed {seed}: {share}");
    }
}

#[test]
fn the_state_at_any_point_is_the_history_up_to_it() {
    let oracle = Oracle::new(&sized(20_000, 2_000)).expect("a log");
    let layout = oracle.layout();
    // Beyond the seeded part for some partitions, inside it for others.
    let ends: Vec<u64> = (0..)
        .zip(layout.end_offsets())
        .map(|(partition, end)| end * (partition % 5) / 3)
        .collect();
    let state = oracle.state_at(&ends);
    assert!(state.is_sorted_by_key(|row| (row.partition, row.id)));
    for row in state.iter().step_by(97) {
        let end = ends[row.partition as usize];
        let history: Vec<Expected> = oracle.history(row.id, end).collect();
        assert_eq!(history.last(), Some(row));
        assert_eq!(history.len() as u64, row.last_version);
        assert!(history.is_sorted_by_key(|row| row.last_offset));
        let middle = history[history.len() / 2];
        let asked = oracle.expected(row.id, middle.last_version, end);
        assert_eq!(asked, Some(middle));
        assert_eq!(oracle.expected(row.id, row.last_version + 1, end), None);
        assert_eq!(oracle.expected_at(row.id, end), Some(*row));
    }
    let unseen = oracle.state_at(&vec![0; ends.len()]);
    assert!(unseen.is_empty());
}

#[test]
fn a_partition_that_is_brought_forward_in_steps_is_the_one_that_was_drawn_at_once() {
    let oracle = Oracle::new(&sized(20_000, 2_000)).expect("a log");
    let ids = oracle.layout().ids(3);
    let end = oracle.layout().events(3) + 500;
    let mut state = oracle.partition(3).expect("has aggregates");
    assert_eq!((state.next_offset(), state.slots()), (0, ids.len()));
    assert_eq!(state.expected(0), None, "no event yet");
    for next in [1, 2, end / 3, end / 3, 7, end] {
        state.advance_to(next);
        assert!(state.next_offset() >= next);
        let mut at_once = Vec::new();
        oracle.for_each_in_partition(3, state.next_offset(), |row| at_once.push(row));
        let in_steps: Vec<Expected> = (0..ids.len()).filter_map(|s| state.expected(s)).collect();
        assert_eq!(in_steps, at_once);
    }
    assert_eq!(state.next_offset(), end);
    assert_eq!(state.expected(ids.len()), None);
    for (slot, &id) in ids.iter().enumerate() {
        for guess in [slot, 0, ids.len()] {
            assert_eq!(state.slot_of(i64::from(id), guess), Some(slot));
        }
    }
    let absent = (1..=2_000).find(|id| ids.binary_search(id).is_err());
    assert_eq!(
        state.slot_of(i64::from(absent.expect("elsewhere")), 5),
        None
    );
    // Not cut to 32 bits.
    assert_eq!(state.slot_of(i64::from(ids[0]) + (1 << 32), 0), None);
    assert_eq!(state.slot_of(-1, 0), None);
}

#[test]
fn versions_differ_exactly_where_a_withdrawal_was_reversed() {
    let oracle = Oracle::new(&sized(20_000, 2_000)).expect("a log");
    let state = oracle.state_at(&oracle.layout().end_offsets());
    let differing = state.iter().filter(|row| row.differs()).count() as u64;
    assert_eq!(
        oracle
            .differing_at(&oracle.layout().end_offsets())
            .differing,
        differing
    );
    for row in &state {
        // What v3 gets wrong is twice the amount, and only downwards.
        let gap = row.v4.balance - row.v3.balance;
        assert!(gap >= 0 && gap % 2 == 0);
        assert!(gap / 2 <= row.v4.reversed_total);
        assert_eq!(row.v3.status, row.v4.status);
        assert_eq!(row.v4.version, row.last_version);
        assert_eq!(row.v4.largest_deposit > 0, row.v4.deposits_count > 0);
    }
}

#[test]
fn expected_rows_are_written_in_both_formats() {
    let written = |options: &ExpectedOptions| {
        let mut out = Vec::new();
        let rows = expected(options, &mut out).expect("a log");
        (rows, String::from_utf8(out).expect("text"))
    };
    let mut options = ExpectedOptions {
        params: sized(2_000, 200),
        ..ExpectedOptions::default()
    };
    let (rows, csv) = written(&options);
    assert_eq!((rows, csv.lines().count()), (200, 201));
    let columns = csv.lines().next().map_or(0, |line| line.split(',').count());
    assert!(csv.lines().all(|line| line.split(',').count() == columns));

    options.format = ExpectedFormat::NdJson;
    let (_, text) = written(&options);
    for line in text.lines() {
        let row: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert!(row["v4"]["balance"].is_i64());
        let balances_differ = row["v3"]["balance"] != row["v4"]["balance"];
        assert_eq!(row["differs"], balances_differ);
    }

    options.id = Some(7);
    options.version = Some(1);
    let (rows, text) = written(&options);
    let row: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((rows, &row["v4"]["balance"]), (1, &serde_json::json!(0)));
}

#[test]
fn questions_about_what_does_not_exist_are_answered_with_a_sentence() {
    let refused = |change: fn(&mut ExpectedOptions)| {
        let mut options = ExpectedOptions {
            params: sized(2_000, 200),
            ..ExpectedOptions::default()
        };
        change(&mut options);
        let refusal: SeedError = expected(&options, &mut Vec::new()).expect_err("refused");
        refusal.to_string()
    };
    assert!(refused(|o| o.id = Some(201)).contains("aggregate 201 has no event"));
    assert!(refused(|o| (o.id, o.version) = (Some(7), Some(1 << 40))).contains("has no version"));
    assert!(refused(|o| o.next_offsets = Some(vec![1, 2])).contains("2 offsets given for 16"));
    assert!(refused(|o| o.params.events = 7).contains("cannot create 200"));
}
