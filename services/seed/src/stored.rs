//! The seed parameters beside the log.
//!
//! Whoever verifies a read model needs the parameters of the log that it was
//! folded from. They are the last record of a topic with one partition, named
//! like the log with `.seed` after it, and are written before the log's own
//! topic exists: a log that was seeded here always has them.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::broker::Target;
use crate::error::SeedError;
use crate::params::SeedParams;

const WRITTEN_WITHIN: Duration = Duration::from_secs(20);

/// The parameters that the log of `target` was seeded with, or `None` when
/// nothing beside it says so.
///
/// # Errors
/// When the broker does not answer, or the record is not one of parameters.
pub fn stored_params(target: &Target) -> Result<Option<SeedParams>, SeedError> {
    let companion = target.companion();
    if companion.partitions()?.is_none() {
        return Ok(None);
    }
    let (_, next) = companion.watermarks(&companion.asker()?, 1)?[0];
    if next == 0 {
        return Ok(None);
    }
    let record = companion.record(&companion.reader()?, 0, next - 1)?;
    serde_json::from_slice(&record.value)
        .map(Some)
        .map_err(|source| SeedError::BadParams {
            topic: target.topic.clone(),
            source,
        })
}

/// Stores the parameters, creating the topic for them if need be.
pub(crate) fn store_params(
    target: &Target,
    params: &SeedParams,
    replication: i32,
) -> Result<(), SeedError> {
    let companion = target.companion();
    companion.create(1, replication)?;
    let failed = companion.error("store the seed parameters");
    let producer: BaseProducer = companion
        .config()
        // Written twice is as good as once, so idempotence (and the half second
        // that a producer id costs) is not needed.
        .set("acks", "all")
        .create()
        .map_err(&failed)?;
    let text = serde_json::to_string(params).map_err(|source| SeedError::BadParams {
        topic: target.topic.clone(),
        source,
    })?;
    producer
        .send(
            BaseRecord::to(&companion.topic)
                .partition(0)
                .key("params")
                .payload(&text),
        )
        .map_err(|(error, _)| failed(error))?;
    producer.flush(WRITTEN_WITHIN).map_err(&failed)
}
