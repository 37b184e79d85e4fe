//! The labour of a simulated process: tasks of the one runtime, whose clock stands still while
//! anybody has something to do.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use refold_domain::log::Chunk;
use refold_ports::ChunkReader;
use refold_ports::source::ReadLimit;
use refold_ports::source::SourceError;
use refold_system::labour::Labour;
use refold_system::labour::Work;
use tokio::time::Instant;

use crate::network::Process;
use crate::world::World;
use crate::world::pass;

/// Does the work of one process.
pub(crate) struct Tasks {
    pub(crate) world: World,
    pub(crate) process: Process,
}

#[async_trait]
impl Labour for Tasks {
    fn start(&self, _name: String, work: Work) -> io::Result<()> {
        tokio::spawn(work);
        Ok(())
    }

    async fn read(
        &self,
        reader: &mut dyn ChunkReader,
        chunk: &mut Chunk,
        limit: ReadLimit,
        wait: Duration,
    ) -> Result<(), SourceError> {
        self.process.awake().await;
        pass(self.world.way()).await;
        let deadline = Instant::now() + wait;
        loop {
            reader.read(chunk, limit, wait)?;
            let waits = self.world.take_would_wait();
            if !waits || Instant::now() >= deadline {
                return Ok(());
            }
            // Nothing runs between the look and this: no growth is missed.
            let grown = self.world.grown.notified();
            // At the deadline there is one more look.
            let _ = tokio::time::timeout_at(deadline, grown).await;
            self.process.awake().await;
        }
    }

    async fn pause(&self, time: Duration) {
        pass(time).await;
        self.process.awake().await;
    }

    async fn compute(&self, work: Box<dyn FnOnce() + Send>) {
        self.pause(Duration::from_millis(self.world.chance.between(0..=2)))
            .await;
        work();
    }
}
