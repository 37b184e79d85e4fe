//! What the topic is, and what is said when it is not there.

use refold_domain::position::Offset;
use refold_domain::position::Partition;

use super::P0;
use super::Stage;
use super::cases;
use crate::source::SourceError;

cases![
    the_identity_is_stable_and_tells_topics_apart,
    a_missing_topic_is_named,
    a_partition_that_does_not_exist_is_an_error_to_act_on,
];

async fn the_identity_is_stable_and_tells_topics_apart(stage: Stage) {
    let (one, other) = (stage.topic(3).await, stage.topic(5).await);
    let first = one.source().identity().await;
    let first = first.expect("the topic is there");
    assert_eq!(first.topic, one.name());
    assert_eq!(first.partitions, 3);
    assert!(!first.cluster_id.is_empty());
    one.produce(P0, super::reading::numbered(0, 3)).await;
    assert_eq!(one.source().identity().await, Ok(first.clone()));

    let second = other.source().identity().await;
    let second = second.expect("the topic is there");
    assert_eq!(second.partitions, 5);
    assert_eq!(second.cluster_id, first.cluster_id);
    assert_ne!(second, first);
}

async fn a_missing_topic_is_named(stage: Stage) {
    let source = stage.harness.missing();
    let missing = source.identity().await.err();
    let Some(SourceError::TopicMissing(name)) = &missing else {
        panic!("{missing:?}");
    };
    assert!(!name.is_empty());
    assert_eq!(source.watermarks(P0).await.err(), missing);
    let opened = source.open(P0, Offset(0), stage.mode).await;
    assert_eq!(opened.err(), missing);
}

async fn a_partition_that_does_not_exist_is_an_error_to_act_on(stage: Stage) {
    let topic = stage.topic(2).await;
    for partition in [Partition(2), Partition(-1)] {
        let asked = topic.source().watermarks(partition).await.err();
        assert!(
            matches!(&asked, Some(error @ SourceError::Fatal(_)) if !error.is_transient()),
            "{asked:?}"
        );
        let opened = topic.source().open(partition, Offset(0), stage.mode).await;
        assert_eq!(opened.err(), asked);
    }
}
