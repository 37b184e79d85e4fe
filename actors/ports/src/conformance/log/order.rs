//! Every record once, in order, unchanged, in chunks of the wanted size.

use refold_domain::position::Offset;
use refold_domain::position::Partition;

use super::NewRecord;
use super::P0;
use super::Stage;
use super::cases;
use super::reading::ROOMY;
use super::reading::Reading;
use super::reading::assert_same;
use super::reading::at;
use super::reading::delivered;
use super::reading::numbered;
use crate::source::ReadLimit;
use crate::source::ReadMode;

cases![
    every_record_comes_once_and_in_order_from_the_start,
    the_rest_comes_from_the_middle,
    keys_values_and_timestamps_come_unchanged,
    a_chunk_holds_at_most_the_wanted_records,
    a_chunk_holds_at_most_the_wanted_bytes_but_always_a_record,
    large_records_come_whole,
    a_new_reader_goes_on_where_the_last_one_stood,
    two_readers_of_a_partition_do_not_disturb_each_other,
    a_reader_sees_its_own_partition_only,
    bulk_and_tail_readers_deliver_the_same,
];

const SMALL: ReadLimit = ReadLimit {
    records: 10_000,
    bytes: 1_000,
};

async fn every_record_comes_once_and_in_order_from_the_start(stage: Stage) {
    let topic = stage.topic(1).await;
    let records = numbered(0, 5_000);
    topic.produce(P0, records.clone()).await;
    let got = stage.open(&topic, 0).await.until_end(ROOMY).await;
    assert_same(&got, &at(0, &records));
}

async fn the_rest_comes_from_the_middle(stage: Stage) {
    let topic = stage.topic(1).await;
    let records = numbered(0, 1_000);
    topic.produce(P0, records.clone()).await;
    for from in [1, 499, 999] {
        let got = stage.open(&topic, from).await.until_end(ROOMY).await;
        assert_same(&got, &at(from, &records[from as usize..]));
    }
}

async fn keys_values_and_timestamps_come_unchanged(stage: Stage) {
    let topic = stage.topic(1).await;
    let records = vec![
        NewRecord::new("key", "value").at(1),
        NewRecord::tombstone("gone").at(1_700_000_000_123),
        NewRecord::new("", "no key").at(1_600_000_000_000),
        NewRecord::new("empty value", "").at(2),
        NewRecord::tombstone("").at(3),
        NewRecord::new((0..=255).collect::<Vec<u8>>(), vec![0, 255, 10, 0]).at(4),
    ];
    topic.produce(P0, records.clone()).await;
    let got = stage.open(&topic, 0).await.until_end(ROOMY).await;
    assert_same(&got, &at(0, &records));
}

async fn a_chunk_holds_at_most_the_wanted_records(stage: Stage) {
    let topic = stage.topic(1).await;
    let records = numbered(0, 100);
    topic.produce(P0, records.clone()).await;
    for wanted in [1, 7, 100] {
        let limit = ReadLimit {
            records: wanted,
            ..ROOMY
        };
        // `until_end` checks the bound of every chunk.
        let got = stage.open(&topic, 0).await.until_end(limit).await;
        assert_same(&got, &at(0, &records));
    }
}

async fn a_chunk_holds_at_most_the_wanted_bytes_but_always_a_record(stage: Stage) {
    let topic = stage.topic(1).await;
    let mut records = numbered(0, 50);
    records.insert(20, NewRecord::new("big", "x".repeat(5_000)).at(9));
    topic.produce(P0, records.clone()).await;
    let mut reading = stage.open(&topic, 0).await;
    assert_same(&reading.until_end(SMALL).await, &at(0, &records));

    let nothing = ReadLimit {
        records: 10_000,
        bytes: 0,
    };
    let got = stage.open(&topic, 0).await.until_end(nothing).await;
    assert_same(&got, &at(0, &records));
}

async fn large_records_come_whole(stage: Stage) {
    let topic = stage.topic(1).await;
    let records: Vec<NewRecord> = (0..4u8)
        .map(|n| NewRecord::new([n], vec![n; 900_000]).at(1 + i64::from(n)))
        .collect();
    topic.produce(P0, records.clone()).await;
    let mut reading = stage.open(&topic, 0).await;
    assert_same(&reading.until_end(SMALL).await, &at(0, &records));
}

async fn a_new_reader_goes_on_where_the_last_one_stood(stage: Stage) {
    let topic = stage.topic(1).await;
    let records = numbered(0, 60);
    topic.produce(P0, records.clone()).await;
    let limit = ReadLimit {
        records: 20,
        ..ROOMY
    };
    let mut got = Vec::new();
    while got.len() < records.len() {
        let mut reading = stage.open(&topic, got.len() as i64).await;
        let chunk = reading.read(limit, super::reading::PATIENCE).await;
        assert!(!chunk.is_empty(), "there is more to come");
        got.extend(delivered(&chunk));
    }
    assert_same(&got, &at(0, &records));
}

async fn two_readers_of_a_partition_do_not_disturb_each_other(stage: Stage) {
    let topic = stage.topic(1).await;
    let records = numbered(0, 40);
    topic.produce(P0, records.clone()).await;
    let limit = ReadLimit {
        records: 10,
        ..ROOMY
    };
    let mut first = stage.open(&topic, 0).await;
    let chunk = first.read(limit, super::reading::PATIENCE).await;
    let mut second = stage.open(&topic, 5).await;
    assert_same(&second.until_end(ROOMY).await, &at(5, &records[5..]));
    drop(second);
    let mut got = delivered(&chunk);
    got.extend(first.until_end(ROOMY).await);
    assert_same(&got, &at(0, &records));
}

async fn a_reader_sees_its_own_partition_only(stage: Stage) {
    let topic = stage.topic(3).await;
    let mut staged = Vec::new();
    let mut first = 0;
    for partition in 0..3 {
        let records = numbered(100 * partition, 20 + partition);
        let partition = Partition(partition as i32);
        topic.produce(partition, records.clone()).await;
        staged.push((partition, at(first, &records)));
        if topic.shares_offsets() {
            first += records.len() as i64;
        }
    }
    let mut readings = Vec::new();
    for (partition, _) in &staged {
        readings.push(Reading::open(&topic, *partition, Offset(0), stage.mode).await);
    }
    for (reading, (_, expected)) in readings.iter_mut().zip(&staged) {
        assert_same(&reading.until_end(ROOMY).await, expected);
    }
}

async fn bulk_and_tail_readers_deliver_the_same(stage: Stage) {
    let topic = stage.topic(1).await;
    topic.produce(P0, numbered(0, 300)).await;
    let aborted = topic.begin(P0, numbered(300, 5)).await;
    aborted.abort().await;
    topic.produce(P0, numbered(305, 300)).await;
    let mut deliveries = Vec::new();
    for mode in [ReadMode::Bulk, ReadMode::Tail] {
        let mut reading = Reading::open(&topic, P0, Offset(3), mode).await;
        deliveries.push(reading.until_end(ROOMY).await);
    }
    assert_eq!(deliveries[0].len(), 597);
    assert_same(&deliveries[0], &deliveries[1]);
}
