//! A log whose end always moves on before it is met.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use refold_domain::log::Chunk;
use refold_domain::log::TopicIdentity;
use refold_domain::log::Watermarks;
use refold_domain::observe::Phase;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::LogSource;
use refold_ports::Registry;
use refold_ports::memory::log::MemoryLog;
use refold_ports::source::ChunkReader;
use refold_ports::source::ReadLimit;
use refold_ports::source::ReadMode;
use refold_ports::source::SourceError;
use refold_system::Plugs;
use refold_system::dice::SeededDice;

use crate::barrier::Tail;
use crate::world::*;

/// Its readers are never told that they are at the end, and whoever asks for the end is told of one
/// more record: it has come by then.
struct Moving(MemoryLog);

#[async_trait]
impl LogSource for Moving {
    async fn identity(&self) -> Result<TopicIdentity, SourceError> {
        self.0.identity().await
    }

    async fn watermarks(&self, partition: Partition) -> Result<Watermarks, SourceError> {
        let ends = self.0.watermarks(partition).await?;
        Ok(Watermarks {
            high: ends.high.next(),
            ..ends
        })
    }

    async fn open(
        &self,
        partition: Partition,
        from: Offset,
        mode: ReadMode,
    ) -> Result<Box<dyn ChunkReader>, SourceError> {
        let reader = self.0.open(partition, from, mode).await?;
        Ok(Box::new(Endless {
            reader,
            read: Chunk::new(partition, from),
        }))
    }
}

struct Endless {
    reader: Box<dyn ChunkReader>,
    read: Chunk,
}

impl ChunkReader for Endless {
    fn read(
        &mut self,
        chunk: &mut Chunk,
        limit: ReadLimit,
        wait: Duration,
    ) -> Result<(), SourceError> {
        self.reader.read(&mut self.read, limit, wait)?;
        chunk.recycle(self.read.partition(), self.read.from());
        for at in 0..self.read.len() {
            let record = self.read.get(at).expect("a record");
            chunk.push(record.offset, record.ts_millis, record.key, record.value);
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_follows_an_end_that_always_moves_on_is_ready_and_live() {
    let world = World::with_events(300);
    let _first = world.start_caught_up(live()).await;
    let (log, store) = (Moving(world.log.clone()), Arc::new(world.store.clone()));
    let plugs = Plugs::new(v2(), Arc::new(log), store.clone(), store);
    let plugs = plugs.with_dice(Arc::new(SeededDice::new(7)));
    let label = "ledger_v2".to_owned();
    let second = Process::try_start(plugs, label, replay_and_catch_up()).await;
    let second = second.expect("the process starts");
    let tail = Tail::start(&world);
    second.ready().await;
    for partition in (0..PARTITIONS).map(Partition) {
        second.in_phase(partition, Phase::Live).await;
    }
    drop(tail);
    world.caught_up(V2).await;
    let marks = world.store.marks(V2).await.expect("marks");
    assert!(marks.iter().all(|mark| mark.reached_log_end), "{marks:?}");
}
