//! The log as a port.

use std::time::Duration;

use async_trait::async_trait;
use refold_domain::log::Chunk;
use refold_domain::log::TopicIdentity;
use refold_domain::log::Watermarks;
use refold_domain::position::Offset;
use refold_domain::position::Partition;

/// What went wrong with the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// No broker answers, or it answers with an error that passes. Retry.
    #[error("the log cannot be reached: {0}")]
    Unreachable(String),
    /// The topic does not exist.
    #[error("topic {0} does not exist; create it or correct -topic")]
    TopicMissing(String),
    /// The wanted offset lies below the log's start: events are gone. Never skipped over.
    #[error(
        "{partition} starts at offset {low}, but {wanted} is wanted: \
         the events between were deleted from the log; rebuild the version"
    )]
    Truncated {
        /// The partition.
        partition: Partition,
        /// The offset that was asked for.
        wanted: Offset,
        /// The log's first offset.
        low: Offset,
    },
    /// The wanted offset lies above the log's end: this is not the log that was read before.
    #[error(
        "{partition} ends at offset {high}, but {wanted} is wanted: \
         the topic was re-created or lost its end; check the broker, then rebuild the version"
    )]
    BeyondEnd {
        /// The partition.
        partition: Partition,
        /// The offset that was asked for.
        wanted: Offset,
        /// One past the log's last offset.
        high: Offset,
    },
    /// A record or batch fails its checksum or cannot be read.
    #[error("{partition} at offset {offset}: {reason}")]
    Corrupt {
        /// The partition.
        partition: Partition,
        /// Where reading stopped.
        offset: Offset,
        /// One sentence.
        reason: String,
    },
    /// Anything else; not retried.
    #[error("{0}")]
    Fatal(String),
}

impl SourceError {
    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

/// Checks that a position is one of a log with these ends; both ends are.
///
/// # Errors
/// [`SourceError::Truncated`] below the log's start, [`SourceError::BeyondEnd`] above its end.
pub fn inside(ends: Watermarks, partition: Partition, wanted: Offset) -> Result<(), SourceError> {
    if wanted < ends.low {
        return Err(SourceError::Truncated {
            partition,
            wanted,
            low: ends.low,
        });
    }
    if wanted > ends.high {
        return Err(SourceError::BeyondEnd {
            partition,
            wanted,
            high: ends.high,
        });
    }
    Ok(())
}

/// How a reader will be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadMode {
    /// History at full speed: large buffers, a client of its own.
    Bulk,
    /// The moving end: low latency, one client for all partitions of a process.
    Tail,
}

/// Bounds of one read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimit {
    /// At most this many records (at least 1).
    pub records: usize,
    /// Stop before a record that would pass this many bytes; the first record always fits.
    pub bytes: usize,
}

/// A topic.
///
/// # Promise
/// * Records of a partition come in offset order, each once per reader, none
///   left out except what the log itself does not serve: compaction holes,
///   control markers, aborted records (read committed).
/// * Positions are the caller's. Nothing is read from or written to a consumer
///   group, and a position outside the log is an error, never a jump.
#[async_trait]
pub trait LogSource: Send + Sync {
    /// What the topic is now.
    ///
    /// # Errors
    /// [`SourceError::TopicMissing`], [`SourceError::Unreachable`].
    async fn identity(&self) -> Result<TopicIdentity, SourceError>;

    /// The ends of a partition now, asked from the broker, not from a cache.
    ///
    /// # Errors
    /// [`SourceError::Unreachable`], [`SourceError::TopicMissing`].
    async fn watermarks(&self, partition: Partition) -> Result<Watermarks, SourceError>;

    /// A reader that stands at `from`.
    ///
    /// # Errors
    /// [`SourceError::Truncated`] and [`SourceError::BeyondEnd`] when `from` is
    /// outside `[low, high]`; both ends of that interval are fine.
    async fn open(
        &self,
        partition: Partition,
        from: Offset,
        mode: ReadMode,
    ) -> Result<Box<dyn ChunkReader>, SourceError>;
}

/// Reads one partition. Blocking: it belongs on a thread of its own.
pub trait ChunkReader: Send {
    /// Reads the next records into `chunk`, which is recycled first, and
    /// returns once there is at least one record, the end of the log is
    /// reached, or `wait` has passed (the chunk may then be empty).
    ///
    /// [`Chunk::from`] equals the [`Chunk::to`] of the read before.
    /// [`Chunk::end_of_log`] is set when the reader has delivered everything up
    /// to the end of the log as it knows it, so that an idle or empty
    /// partition, or one whose tail is markers only, is noticed too.
    ///
    /// # Errors
    /// After an error the reader may be asked again only if it [`SourceError::is_transient`].
    fn read(
        &mut self,
        chunk: &mut Chunk,
        limit: ReadLimit,
        wait: Duration,
    ) -> Result<(), SourceError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: Watermarks = Watermarks {
        low: Offset(10),
        high: Offset(20),
    };

    #[test]
    fn both_ends_of_the_log_are_inside_it() {
        for wanted in [10, 15, 20] {
            assert_eq!(inside(ENDS, Partition(0), Offset(wanted)), Ok(()));
        }
    }

    #[test]
    fn one_offset_outside_either_end_is_an_error_that_names_both() {
        assert_eq!(
            inside(ENDS, Partition(3), Offset(9)),
            Err(SourceError::Truncated {
                partition: Partition(3),
                wanted: Offset(9),
                low: Offset(10)
            })
        );
        assert_eq!(
            inside(ENDS, Partition(3), Offset(21)),
            Err(SourceError::BeyondEnd {
                partition: Partition(3),
                wanted: Offset(21),
                high: Offset(20)
            })
        );
    }
}
