//! A log that ends early: the way to a version that has most of its history loaded, so that
//! the rest of it is applied batch by batch.

use std::sync::Arc;

use async_trait::async_trait;
use refold_domain::log::TopicIdentity;
use refold_domain::log::Watermarks;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::LogSource;
use refold_ports::source::ChunkReader;
use refold_ports::source::ReadMode;
use refold_ports::source::SourceError;

/// The log of `inner` without the last `left` of each partition, a share in `[0, 1)`.
pub(super) struct Shortened {
    pub(super) inner: Arc<dyn LogSource>,
    pub(super) left: f64,
}

impl Shortened {
    fn cut(&self, whole: Watermarks) -> Watermarks {
        let events = (whole.high.0 - whole.low.0).max(0);
        let left = (events as f64 * self.left).ceil() as i64;
        Watermarks {
            low: whole.low,
            high: Offset(whole.high.0 - left.min(events)),
        }
    }
}

#[async_trait]
impl LogSource for Shortened {
    async fn identity(&self) -> Result<TopicIdentity, SourceError> {
        self.inner.identity().await
    }

    async fn watermarks(&self, partition: Partition) -> Result<Watermarks, SourceError> {
        Ok(self.cut(self.inner.watermarks(partition).await?))
    }

    async fn open(
        &self,
        partition: Partition,
        from: Offset,
        mode: ReadMode,
    ) -> Result<Box<dyn ChunkReader>, SourceError> {
        self.inner.open(partition, from, mode).await
    }
}
