//! The log at the end of a way: answers late, or not at all.

use std::time::Duration;

use async_trait::async_trait;
use refold_domain::log::Chunk;
use refold_domain::log::TopicIdentity;
use refold_domain::log::Watermarks;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::ChunkReader;
use refold_ports::LogSource;
use refold_ports::source::ReadLimit;
use refold_ports::source::ReadMode;
use refold_ports::source::SourceError;

use crate::mutation::Mutation;
use crate::network::Process;
use crate::plan::Fault;
use crate::world::World;
use crate::world::pass;

/// The log as one process sees it.
pub(crate) struct SimLog {
    pub(crate) world: World,
    pub(crate) process: Process,
}

impl SimLog {
    async fn way(&self) -> Result<(), SourceError> {
        self.process.awake().await;
        pass(self.world.way()).await;
        match self.world.meets(Fault::LogAway) {
            true => Err(SourceError::Unreachable("no broker answers".to_owned())),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl LogSource for SimLog {
    async fn identity(&self) -> Result<TopicIdentity, SourceError> {
        self.way().await?;
        self.world.log.identity().await
    }

    async fn watermarks(&self, partition: Partition) -> Result<Watermarks, SourceError> {
        self.way().await?;
        self.world.log.watermarks(partition).await
    }

    async fn open(
        &self,
        partition: Partition,
        from: Offset,
        mode: ReadMode,
    ) -> Result<Box<dyn ChunkReader>, SourceError> {
        self.way().await?;
        let reader = self.world.log.open(partition, from, mode).await?;
        Ok(Box::new(SimReader {
            world: self.world.clone(),
            partition,
            reader,
            told_end: false,
        }))
    }
}

/// A reader that never holds its thread: where it would wait, it says so to the world.
struct SimReader {
    world: World,
    partition: Partition,
    reader: Box<dyn ChunkReader>,
    told_end: bool,
}

impl ChunkReader for SimReader {
    fn read(
        &mut self,
        chunk: &mut Chunk,
        limit: ReadLimit,
        _wait: Duration,
    ) -> Result<(), SourceError> {
        if self.world.meets(Fault::ReadFails) {
            let away = SourceError::Unreachable("a read failed".to_owned());
            if self.world.mutation == Some(Mutation::SkipAfterError) {
                // The records of this read are gone for good.
                self.reader.read(chunk, limit, Duration::ZERO)?;
            }
            self.world.log.fail_reads(self.partition, 1, &away);
        }
        let told = self.told_end;
        let mut answer = self.reader.read(chunk, limit, Duration::ZERO);
        if let Err(SourceError::Truncated { low, .. }) = answer
            && self.world.mutation == Some(Mutation::ResetToStart)
        {
            self.reader = self.world.log.reader(self.partition, low);
            answer = self.reader.read(chunk, limit, Duration::ZERO);
        }
        self.told_end = answer.is_ok() && chunk.end_of_log();
        if answer.is_ok() && chunk.is_empty() && told {
            self.world.set_would_wait();
        }
        answer
    }
}
