//! Where a log ends, and whether it is the one that is wanted.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rdkafka::consumer::BaseConsumer;

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

/// A log that may be continued: where its partitions end, and a reader to
/// check it with.
pub(crate) struct Found<'a> {
    target: &'a Target,
    layout: &'a Layout,
    /// Next offset of every partition.
    pub(crate) ends: Vec<u64>,
    /// One for all partitions: connecting costs more than what is read.
    reader: Mutex<BaseConsumer>,
}

/// A topic that was created just now, and so has nothing in it.
pub(crate) fn empty<'a>(target: &'a Target, layout: &'a Layout) -> Result<Found<'a>, SeedError> {
    Ok(Found {
        target,
        layout,
        ends: vec![0; layout.params().partitions as usize],
        reader: Mutex::new(target.reader()?),
    })
}

/// Checks that the topic may hold the log of `layout` and says where each
/// partition of it ends, once the ends stand still.
pub(crate) fn settled<'a>(target: &'a Target, layout: &'a Layout) -> Result<Found<'a>, SeedError> {
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
    let asker = target.asker()?;
    let watermarks = at_rest(target, || target.watermarks(&asker, wanted))?;
    Ok(Found {
        target,
        layout,
        ends: ends_of(target, &watermarks)?,
        reader: Mutex::new(target.reader()?),
    })
}

/// Where one partition ends, once it stands still: nothing that was sent to it
/// over a connection that is gone is still on its way.
pub(crate) fn settled_end(
    target: &Target,
    asker: &BaseConsumer,
    partition: u32,
) -> Result<u64, SeedError> {
    at_rest(target, || target.watermark(asker, partition)).map(|(_, end)| end)
}

/// What `look` sees as soon as it sees the same several times in a row.
fn at_rest<T: PartialEq>(
    target: &Target,
    look: impl Fn() -> Result<T, SeedError>,
) -> Result<T, SeedError> {
    let mut last = look()?;
    let mut agreed = 1;
    for _ in 0..LOOKS_AT_MOST {
        thread::sleep(LOOK_AGAIN_AFTER);
        let next = look()?;
        agreed = if next == last { agreed + 1 } else { 1 };
        last = next;
        if agreed == LOOKS_THAT_AGREE {
            return Ok(last);
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

impl<'a> Found<'a> {
    /// The stream of a partition, brought to where its log ends. Checks on the
    /// way that the first and the last record of the log are the stream's.
    /// `None` for a partition without aggregates.
    pub(crate) fn stream(&self, partition: u32) -> Result<Option<PartitionStream<'a>>, SeedError> {
        let end = self.ends[partition as usize];
        let Some(mut stream) = PartitionStream::new(self.layout, partition) else {
            return match end {
                0 => Ok(None),
                _ => Err(self.other_log(partition, 0)),
            };
        };
        if end > 0 {
            self.check(partition, &stream.next_event())?;
        }
        if end > 1 {
            stream.advance_to(end - 1);
            self.check(partition, &stream.next_event())?;
        }
        Ok(Some(stream))
    }

    fn check(&self, partition: u32, event: &DrawnEvent) -> Result<(), SeedError> {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self.target.record(&reader, partition, event.offset)?;
        if found == expected_record(self.layout, event) {
            Ok(())
        } else {
            Err(self.other_log(partition, event.offset))
        }
    }

    fn other_log(&self, partition: u32, offset: u64) -> SeedError {
        SeedError::OtherLog {
            topic: self.target.topic.clone(),
            partition,
            offset,
        }
    }
}

fn expected_record(layout: &Layout, event: &DrawnEvent) -> StoredRecord {
    let mut value = Vec::new();
    Encoder::new(layout.params()).encode(event, &mut value);
    StoredRecord {
        offset: event.offset as i64,
        key: key_of(i64::from(event.id)).into_bytes(),
        value,
        timestamp_ms: Some(event.ts_micros / 1000),
    }
}
