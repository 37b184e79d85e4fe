//! A partition read the plain way: librdkafka, one message a call.
//!
//! It shares the user's connection settings and the meaning of error codes with the readers
//! of the replay path and nothing else, so that what a witness reads does not pass their code.

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
use crate::failure;
use crate::failure::Verdict;
use crate::settings;
use crate::settings::Purpose;

/// Names the group that is never joined.
const GROUP: &str = "refold-witness";

/// One wait for a message.
const POLL: Duration = Duration::from_millis(200);

/// Hands the value of every record of `[from, until)` to `visit`, in order, and ends. The log
/// has to hold `from`, which is 0 for whoever folds it from the first event on. Blocks.
///
/// # Errors
/// [`SourceError::Truncated`] when the log begins behind `from`, [`SourceError::BeyondEnd`] when it
/// ends before `until`, [`SourceError::Corrupt`] with what `visit` said of a record, others
/// as their names say.
pub fn each_record(
    config: &KafkaConfig,
    topic: &str,
    partition: Partition,
    (from, until): (Offset, Offset),
    mut visit: impl FnMut(Offset, Option<&[u8]>) -> Result<(), String>,
) -> Result<(), SourceError> {
    if until <= from {
        return Ok(());
    }
    let consumer = open(config, topic, partition, (from, until))?;
    let mut heard = Instant::now();
    let mut next = from;
    loop {
        let message = match consumer.poll(POLL) {
            Some(Ok(message)) => message,
            // Behind the last record there may be markers only, which no message tells of.
            Some(Err(KafkaError::PartitionEOF(_))) => {
                let (_, high) = ends(&consumer, config, topic, partition)?;
                return reaches(high, partition, until);
            }
            silence => {
                let error = silence.and_then(Result::err);
                if let Some(error) = &error {
                    passes(error, partition, next)?;
                }
                let waited = config.deadline();
                if heard.elapsed() < waited {
                    continue;
                }
                let why = error.map_or_else(String::new, |error| format!(": {error}"));
                let sentence = format!("no record of {topic} {partition} within {waited:?}{why}");
                return Err(SourceError::Unreachable(sentence));
            }
        };
        let offset = Offset(message.offset());
        if offset >= until {
            return Ok(());
        }
        visit(offset, message.payload()).map_err(|reason| SourceError::Corrupt {
            partition,
            offset,
            reason,
        })?;
        next = offset.next();
        if next >= until {
            return Ok(());
        }
        heard = Instant::now();
    }
}

/// Lets an error pass that librdkafka gets over by itself, such as a broker that restarts.
fn passes(error: &KafkaError, partition: Partition, next: Offset) -> Result<(), SourceError> {
    let KafkaError::MessageConsumption(code) = error else {
        return Err(SourceError::Fatal(format!("{partition}: {error}")));
    };
    match failure::judge(*code as i32) {
        Verdict::EndOfLog | Verdict::Passing => Ok(()),
        Verdict::Corrupt => Err(SourceError::Corrupt {
            partition,
            offset: next,
            reason: code.to_string(),
        }),
        Verdict::OffsetRefused | Verdict::TopicGone | Verdict::Fatal => Err(SourceError::Fatal(
            format!("{partition} at offset {next}: {code}"),
        )),
    }
}

/// The ends of the partition now.
fn ends(
    consumer: &Consumer,
    config: &KafkaConfig,
    topic: &str,
    partition: Partition,
) -> Result<(Offset, Offset), SourceError> {
    let (low, high) = consumer
        .fetch_watermarks(topic, partition.0, config.deadline())
        .map_err(|error| SourceError::Unreachable(error.to_string()))?;
    Ok((Offset(low), Offset(high)))
}

/// Refuses a log that ends before `until`.
fn reaches(high: Offset, partition: Partition, until: Offset) -> Result<(), SourceError> {
    if high < until {
        return Err(SourceError::BeyondEnd {
            partition,
            wanted: until,
            high,
        });
    }
    Ok(())
}

/// A consumer that stands at `from`, after a look at the log's ends.
fn open(
    config: &KafkaConfig,
    topic: &str,
    partition: Partition,
    (from, until): (Offset, Offset),
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
    let (low, high) = ends(&consumer, config, topic, partition)?;
    if low > from {
        return Err(SourceError::Truncated {
            partition,
            wanted: from,
            low,
        });
    }
    reaches(high, partition, until)?;
    let mut start = TopicPartitionList::new();
    start
        .add_partition_offset(topic, partition.0, KafkaOffset::Offset(from.0))
        .and_then(|()| consumer.assign(&start))
        .map_err(|error| fatal(error.to_string()))?;
    Ok(consumer)
}

#[cfg(test)]
mod tests {
    use rdkafka::error::RDKafkaErrorCode as Code;

    use super::*;

    fn told(code: Code) -> Result<(), SourceError> {
        let error = KafkaError::MessageConsumption(code);
        passes(&error, Partition(1), Offset(7))
    }

    #[test]
    fn a_broker_that_restarts_is_waited_for_and_a_rotten_batch_is_not() {
        assert_eq!(told(Code::BrokerTransportFailure), Ok(()));
        assert_eq!(told(Code::AllBrokersDown), Ok(()));
        let corrupt = told(Code::BadMessage);
        assert!(matches!(corrupt, Err(SourceError::Corrupt { offset, .. }) if offset == Offset(7)));
        assert!(matches!(
            told(Code::AutoOffsetReset),
            Err(SourceError::Fatal(_))
        ));
        let fatal = KafkaError::MessageConsumptionFatal(Code::Fatal);
        let fatal = passes(&fatal, Partition(1), Offset(7));
        assert!(matches!(fatal, Err(SourceError::Fatal(_))));
    }

    #[test]
    fn a_log_that_lost_its_end_is_refused() {
        let until = Offset(10);
        assert_eq!(reaches(Offset(10), Partition(0), until), Ok(()));
        let lost = reaches(Offset(9), Partition(0), until);
        assert!(matches!(lost, Err(SourceError::BeyondEnd { .. })));
    }
}
