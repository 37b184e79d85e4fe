//! Both ends of the log: where a reader may stand, and how it learns that it
//! has everything.

use std::time::Duration;
use std::time::Instant;

use refold_domain::log::Watermarks;
use refold_domain::position::Offset;

use super::P0;
use super::Stage;
use super::cases;
use super::reading::PATIENCE;
use super::reading::ROOMY;
use super::reading::assert_same;
use super::reading::at;
use super::reading::delivered;
use super::reading::numbered;
use crate::source::SourceError;

cases![
    an_empty_partition_reports_its_end,
    the_end_is_reported_again_after_new_records,
    a_reader_at_the_end_gets_what_comes_later,
    an_idle_reader_waits_no_longer_than_it_was_told,
    both_ends_of_the_log_can_be_opened,
    below_the_start_is_truncated,
    above_the_end_is_beyond_it,
    the_watermarks_follow_the_log,
];

async fn an_empty_partition_reports_its_end(stage: Stage) {
    let topic = stage.topic(2).await;
    let mut reading = stage.open(&topic, 0).await;
    assert_eq!(reading.until_end(ROOMY).await, []);
    assert_eq!(reading.position(), Offset(0));
}

async fn the_end_is_reported_again_after_new_records(stage: Stage) {
    let topic = stage.topic(1).await;
    let records = numbered(0, 30);
    let mut reading = stage.open(&topic, 0).await;
    assert_eq!(reading.until_end(ROOMY).await, []);
    for step in [0, 10, 20] {
        let some = &records[step..step + 10];
        topic.produce(P0, some.to_vec()).await;
        let mut got = reading.records(10).await;
        got.extend(reading.until_end(ROOMY).await);
        assert_same(&got, &at(step as i64, some));
    }
}

async fn a_reader_at_the_end_gets_what_comes_later(stage: Stage) {
    let topic = stage.topic(1).await;
    topic.produce(P0, numbered(0, 10)).await;
    let mut reading = stage.open(&topic, 10).await;
    assert_eq!(reading.until_end(ROOMY).await, []);
    let records = numbered(10, 5);
    let later = records.clone();
    let producing = tokio::spawn(async move { topic.produce(P0, later).await });
    // A read that waits is ended by the records, long before its time is over.
    let begun = Instant::now();
    let mut got = Vec::new();
    while got.len() < records.len() {
        got.extend(delivered(&reading.read(ROOMY, PATIENCE).await));
    }
    assert!(begun.elapsed() < PATIENCE);
    assert_same(&got, &at(10, &records));
    producing.await.expect("the records were produced");
}

async fn an_idle_reader_waits_no_longer_than_it_was_told(stage: Stage) {
    let topic = stage.topic(1).await;
    topic.produce(P0, numbered(0, 3)).await;
    let mut reading = stage.open(&topic, 0).await;
    reading.until_end(ROOMY).await;
    let wait = Duration::from_millis(200);
    let begun = Instant::now();
    let chunk = reading.read(ROOMY, wait).await;
    assert!(chunk.is_empty());
    assert!(chunk.end_of_log(), "it is still the end");
    assert!(begun.elapsed() >= wait, "{:?}", begun.elapsed());
    assert!(begun.elapsed() < wait + Duration::from_secs(3));
}

async fn both_ends_of_the_log_can_be_opened(stage: Stage) {
    let topic = stage.topic(1).await;
    let records = numbered(0, 20);
    topic.produce(P0, records.clone()).await;
    topic.delete_below(P0, Offset(8)).await;
    let got = stage.open(&topic, 8).await.until_end(ROOMY).await;
    assert_same(&got, &at(8, &records[8..]));
    let mut at_the_end = stage.open(&topic, 20).await;
    assert_eq!(at_the_end.until_end(ROOMY).await, []);
    topic.produce(P0, numbered(20, 1)).await;
    assert_same(&at_the_end.records(1).await, &at(20, &numbered(20, 1)));
}

async fn below_the_start_is_truncated(stage: Stage) {
    let topic = stage.topic(1).await;
    topic.produce(P0, numbered(0, 20)).await;
    topic.delete_below(P0, Offset(8)).await;
    for wanted in [0, 7] {
        let refused = topic
            .source()
            .open(P0, Offset(wanted), stage.mode)
            .await
            .err();
        assert_eq!(
            refused,
            Some(SourceError::Truncated {
                partition: P0,
                wanted: Offset(wanted),
                low: Offset(8)
            })
        );
    }
}

async fn above_the_end_is_beyond_it(stage: Stage) {
    let topic = stage.topic(1).await;
    topic.produce(P0, numbered(0, 20)).await;
    for wanted in [21, 1_000_000] {
        let refused = topic
            .source()
            .open(P0, Offset(wanted), stage.mode)
            .await
            .err();
        assert_eq!(
            refused,
            Some(SourceError::BeyondEnd {
                partition: P0,
                wanted: Offset(wanted),
                high: Offset(20)
            })
        );
    }
}

async fn the_watermarks_follow_the_log(stage: Stage) {
    let topic = stage.topic(1).await;
    let source = topic.source();
    let ends = |low, high| {
        Ok(Watermarks {
            low: Offset(low),
            high: Offset(high),
        })
    };
    assert_eq!(source.watermarks(P0).await, ends(0, 0));
    topic.produce(P0, numbered(0, 12)).await;
    assert_eq!(source.watermarks(P0).await, ends(0, 12));
    topic.delete_below(P0, Offset(5)).await;
    assert_eq!(source.watermarks(P0).await, ends(5, 12));
    topic.delete_below(P0, Offset(12)).await;
    assert_eq!(source.watermarks(P0).await, ends(12, 12));
}
