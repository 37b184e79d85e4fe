//! A partition read the plain way: librdkafka, one message a call.
//!
//! It shares the user's connection settings with the readers of the replay path and
//! nothing else, so that what a witness reads does not pass their code.

use std::time::Duration;
use std::time::Instant;

use rdkafka::Message;
use rdkafka::Offset as KafkaOffset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::source::SourceError;

use crate::client::Consumer;
use crate::client::Events;
use crate::config::KafkaConfig;
use crate::settings;
use crate::settings::Purpose;

/// Names the group that is never joined.
const GROUP: &str = "refold-witness";

/// One wait for a message.
const POLL: Duration = Duration::from_millis(200);

/// Hands the value of every record of `[0, until)` to `visit`, in order, and ends. The log
/// has to begin at offset 0: whoever folds it from the middle folds something else. Blocks.
///
/// # Errors
/// [`SourceError::Truncated`] when the log begins later, [`SourceError::BeyondEnd`] when it
/// ends before `until`, [`SourceError::Corrupt`] with what `visit` said of a record, others
/// as their names say.
pub fn each_record(
    config: &KafkaConfig,
    topic: &str,
    partition: Partition,
    until: Offset,
    mut visit: impl FnMut(Offset, Option<&[u8]>) -> Result<(), String>,
) -> Result<(), SourceError> {
    if until <= Offset(0) {
        return Ok(());
    }
    let consumer = open(config, topic, partition, until)?;
    let mut heard = Instant::now();
    loop {
        let message = match consumer.poll(POLL) {
            Some(Ok(message)) => message,
            // Behind the last record there may be markers only, and `until` is below the end.
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
            Some(Err(KafkaError::MessageConsumption(code))) => {
                let sentence = format!("{topic} {partition}: {code}");
                return Err(SourceError::Fatal(sentence));
            }
            Some(Err(_)) | None if heard.elapsed() < config.deadline() => continue,
            Some(Err(error)) => return Err(SourceError::Unreachable(error.to_string())),
            None => {
                let waited = config.deadline();
                let sentence = format!("no record of {topic} {partition} within {waited:?}");
                return Err(SourceError::Unreachable(sentence));
            }
        };
        heard = Instant::now();
        let offset = Offset(message.offset());
        if offset >= until {
            return Ok(());
        }
        visit(offset, message.payload()).map_err(|reason| SourceError::Corrupt {
            partition,
            offset,
            reason,
        })?;
        if offset.next() >= until {
            return Ok(());
        }
    }
}

/// A consumer that stands at the log's first record, after a look at its ends.
fn open(
    config: &KafkaConfig,
    topic: &str,
    partition: Partition,
    until: Offset,
) -> Result<Consumer, SourceError> {
    let fatal = |error: String| SourceError::Fatal(error);
    let mut settings =
        settings::client_config(config, Purpose::Bulk).map_err(|error| fatal(error.to_string()))?;
    // The plain interface wants the name of a group. Partitions are assigned by hand and
    // nothing is committed, so that it is never joined.
    settings.set("group.id", GROUP);
    // The context keeps the client's log lines out of the way; it decides nothing.
    let consumer: Consumer = settings
        .create_with_context(Events::default())
        .map_err(|error| fatal(error.to_string()))?;
    let (low, high) = consumer
        .fetch_watermarks(topic, partition.0, config.deadline())
        .map_err(|error| SourceError::Unreachable(error.to_string()))?;
    if low > 0 {
        return Err(SourceError::Truncated {
            partition,
            wanted: Offset(0),
            low: Offset(low),
        });
    }
    if high < until.0 {
        return Err(SourceError::BeyondEnd {
            partition,
            wanted: until,
            high: Offset(high),
        });
    }
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, partition.0, KafkaOffset::Offset(0))
        .and_then(|()| consumer.assign(&from))
        .map_err(|error| fatal(error.to_string()))?;
    Ok(consumer)
}
