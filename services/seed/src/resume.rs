//! Where a log ends, and whether it is the one that is wanted.

use std::thread;
use std::time::Duration;

use crate::broker::{StoredRecord, Target};
use crate::encode::Encoder;
use crate::error::SeedError;
use crate::layout::{Layout, key_of};
use crate::stored::stored_params;
use crate::stream::{DrawnEvent, PartitionStream};

/// Pause between two looks at the end of the log.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(400);
/// Looks in a row that must agree. A killed producer's last requests may still
/// be on their way through the broker's socket; they arrive within
/// milliseconds, or not at all.
const LOOKS_THAT_AGREE: u32 = 3;
/// Looks after which somebody else must be writing.
const LOOKS_AT_MOST: u32 = 40;

/// Checks that the topic may hold the log of `layout` and says where each
/// partition of it ends, once the ends stand still.
pub(crate) fn settled_ends(target: &Target, layout: &Layout) -> Result<Vec<u64>, SeedError> {
    let wanted = layout.params().partitions;
    match target.partitions()? {
        None => return Err(SeedError::NoTopic(target.topic.clone())),
        Some(found) if found != wanted => {
            return Err(SeedError::Partitions {
                topic: target.topic.clone(),
                found,
                wanted,
            });
        }
        Some(_) => {}
    }
    if let Some(stored) = stored_params(target)?
        && &stored != layout.params()
    {
        return Err(SeedError::OtherParams {
            topic: target.topic.clone(),
            stored: Box::new(stored),
        });
    }
    let reader = target.reader()?;
    let mut last = target.watermarks(&reader, wanted)?;
    let mut agreed = 1;
    for _ in 0..LOOKS_AT_MOST {
        thread::sleep(LOOK_AGAIN_AFTER);
        let next = target.watermarks(&reader, wanted)?;
        agreed = if next == last { agreed + 1 } else { 1 };
        last = next;
        if agreed == LOOKS_THAT_AGREE {
            return ends_of(target, &last);
        }
    }
    Err(SeedError::StillMoving(target.topic.clone()))
}

fn ends_of(target: &Target, watermarks: &[(u64, u64)]) -> Result<Vec<u64>, SeedError> {
    watermarks
        .iter()
        .enumerate()
        .map(|(partition, &(start, end))| {
            if start > 0 {
                return Err(SeedError::Truncated {
                    topic: target.topic.clone(),
                    partition: partition as u32,
                    start,
                });
            }
            Ok(end)
        })
        .collect()
}

/// Brings the stream of a partition to `end`, and checks on the way that the
/// first and the last record of the log below it are the stream's. `None` for
/// a partition without aggregates.
pub(crate) fn stream_at<'a>(
    target: &Target,
    layout: &'a Layout,
    partition: u32,
    end: u64,
) -> Result<Option<PartitionStream<'a>>, SeedError> {
    let other_log = |offset| SeedError::OtherLog {
        topic: target.topic.clone(),
        partition,
        offset,
    };
    let Some(mut stream) = PartitionStream::new(layout, partition) else {
        return if end == 0 {
            Ok(None)
        } else {
            Err(other_log(0))
        };
    };
    if end == 0 {
        return Ok(Some(stream));
    }
    let reader = target.reader()?;
    let mut encoder = Encoder::new(layout.params());
    let mut check = |event: &DrawnEvent| {
        let found = target.record(&reader, partition, event.offset)?;
        if found == expected_record(&mut encoder, event) {
            Ok(())
        } else {
            Err(other_log(event.offset))
        }
    };
    check(&stream.next_event())?;
    if end > 1 {
        stream.advance_to(end - 1);
        check(&stream.next_event())?;
    }
    Ok(Some(stream))
}

fn expected_record(encoder: &mut Encoder, event: &DrawnEvent) -> StoredRecord {
    let mut value = Vec::new();
    encoder.encode(event, &mut value);
    StoredRecord {
        offset: event.offset as i64,
        key: key_of(i64::from(event.id)).into_bytes(),
        value,
        timestamp_ms: Some(event.ts_micros / 1000),
    }
}
