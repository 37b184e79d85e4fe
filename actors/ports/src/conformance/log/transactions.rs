//! Transactions: what they hide, and the offsets that they leave empty.

use refold_domain::position::Offset;

use super::P0;
use super::Stage;
use super::cases;
use super::reading::ROOMY;
use super::reading::assert_same;
use super::reading::at;
use super::reading::numbered;

cases![
    aborted_records_are_passed_over,
    committed_records_come_and_their_marker_does_not,
    records_of_an_open_transaction_wait_for_its_end,
    markers_at_the_tail_do_not_hide_the_end,
    a_partition_without_any_readable_record_reports_its_end,
];

async fn aborted_records_are_passed_over(stage: Stage) {
    let topic = stage.topic(1).await;
    topic.produce(P0, numbered(0, 10)).await;
    topic.begin(P0, numbered(10, 5)).await.abort().await;
    topic.produce(P0, numbered(16, 10)).await;
    // Ten records, five aborted ones and their marker, ten records.
    let behind = at(15 + topic.markers(), &numbered(16, 10));
    let mut expected = at(0, &numbered(0, 10));
    expected.extend(behind.clone());
    let got = stage.open(&topic, 0).await.until_end(ROOMY).await;
    assert_same(&got, &expected);
    // A position inside the hole is a position like any other.
    let got = stage.open(&topic, 12).await.until_end(ROOMY).await;
    assert_same(&got, &behind);
}

async fn committed_records_come_and_their_marker_does_not(stage: Stage) {
    let topic = stage.topic(1).await;
    let mut expected = Vec::new();
    for n in 0..3 {
        let records = numbered(n * 10, 5);
        topic.begin(P0, records.clone()).await.commit().await;
        expected.extend(at(n as i64 * (5 + topic.markers()), &records));
    }
    let got = stage.open(&topic, 0).await.until_end(ROOMY).await;
    assert_same(&got, &expected);
}

async fn records_of_an_open_transaction_wait_for_its_end(stage: Stage) {
    let topic = stage.topic(1).await;
    topic.produce(P0, numbered(0, 4)).await;
    let transaction = topic.begin(P0, numbered(4, 4)).await;
    topic.produce(P0, numbered(8, 4)).await;

    let mut reading = stage.open(&topic, 0).await;
    assert_same(&reading.until_end(ROOMY).await, &at(0, &numbered(0, 4)));
    let ends = topic.source().watermarks(P0).await;
    assert_eq!(
        ends.map(|ends| ends.high),
        Ok(Offset(4)),
        "the end is the last stable offset"
    );

    transaction.commit().await;
    assert_same(&reading.records(8).await, &at(4, &numbered(4, 8)));
}

async fn markers_at_the_tail_do_not_hide_the_end(stage: Stage) {
    let topic = stage.topic(1).await;
    topic.produce(P0, numbered(0, 10)).await;
    for n in 0..3 {
        topic.begin(P0, numbered(n, 2)).await.abort().await;
    }
    let end = 10 + 3 * (2 + topic.markers());
    let high = topic.source().watermarks(P0).await.map(|ends| ends.high);
    assert_eq!(high, Ok(Offset(end)));
    for from in [0, 10, 15, end] {
        let mut reading = stage.open(&topic, from).await;
        let expected = match from {
            0 => at(0, &numbered(0, 10)),
            _ => Vec::new(),
        };
        assert_same(&reading.until_end(ROOMY).await, &expected);
        // Only records move a position: the tail of markers lies in front of it.
        assert_eq!(reading.position(), Offset(from.max(10)));
    }
    let mut reading = stage.open(&topic, 10).await;
    reading.until_end(ROOMY).await;
    topic.produce(P0, numbered(19, 3)).await;
    assert_same(&reading.records(3).await, &at(end, &numbered(19, 3)));
}

async fn a_partition_without_any_readable_record_reports_its_end(stage: Stage) {
    let topic = stage.topic(1).await;
    topic.begin(P0, numbered(0, 20)).await.abort().await;
    let mut reading = stage.open(&topic, 0).await;
    assert_eq!(reading.until_end(ROOMY).await, []);
    topic.begin(P0, numbered(0, 2)).await.commit().await;
    assert_same(
        &reading.records(2).await,
        &at(20 + topic.markers(), &numbered(0, 2)),
    );
}
