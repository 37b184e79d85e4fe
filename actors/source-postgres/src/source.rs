//! The event table as a `LogSource`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use refold_domain::log::TopicIdentity;
use refold_domain::log::Watermarks;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::source::ChunkReader;
use refold_ports::source::LogSource;
use refold_ports::source::ReadMode;
use refold_ports::source::SourceError;
use refold_ports::source::inside;

use crate::facts::Facts;
use crate::follower::Ends;
use crate::follower::Follower;
use crate::lines::Lines;
use crate::options::EventStoreError;
use crate::options::EventStoreOptions;
use crate::options::check_name;
use crate::reader::EventReader;
use crate::session::Session;

/// Longest wait for a later end than one that is known: it is held back by who writes.
const NEWS: Duration = Duration::from_secs(1);

/// A Postgres table as Refold's log. Cheap to clone; clones share their sessions.
///
/// An end is settled on behalf of all readers at once: when everybody who may still write below
/// it has said where, or has ended. Its readers need a runtime and read on a thread that may block.
#[derive(Debug, Clone)]
pub struct EventTable {
    options: EventStoreOptions,
    table: Arc<str>,
    follower: Arc<Follower>,
    tails: Arc<Lines>,
}

impl EventTable {
    /// The event table `name` as a log. Connects to nothing yet.
    ///
    /// # Errors
    /// [`EventStoreError::Name`] when it is not the name of an event table.
    pub fn new(options: EventStoreOptions, name: &str) -> Result<Self, EventStoreError> {
        check_name(name)?;
        Ok(Self {
            follower: Arc::new(Follower::new(&options, name)),
            tails: Arc::new(Lines::new(&options, name)),
            table: name.into(),
            options,
        })
    }

    /// The table's name.
    pub fn name(&self) -> &str {
        &self.table
    }

    /// The ends of the table for one of its partitions.
    async fn ends(&self, partition: Partition) -> Result<Ends, SourceError> {
        let wait = match self.follower.known() {
            Some(_) => NEWS.min(self.options.deadline),
            None => self.options.deadline,
        };
        let ends = self.follower.ask(wait).await?;
        match (0..ends.partitions).contains(&partition.0) {
            true => Ok(ends),
            false => Err(SourceError::Fatal(format!(
                "event table {} has no partition {partition}: it has {}, counted from 0",
                self.table, ends.partitions
            ))),
        }
    }
}

#[async_trait]
impl LogSource for EventTable {
    async fn identity(&self) -> Result<TopicIdentity, SourceError> {
        let session = Session::open(&self.options, &self.table).await?;
        let facts = Facts::ask(&session, &self.table).await?;
        Ok(facts.identity(&self.table))
    }

    async fn watermarks(&self, partition: Partition) -> Result<Watermarks, SourceError> {
        let ends = self.ends(partition).await?;
        Ok(ends.watermarks())
    }

    async fn open(
        &self,
        partition: Partition,
        from: Offset,
        mode: ReadMode,
    ) -> Result<Box<dyn ChunkReader>, SourceError> {
        let ends = self.ends(partition).await?;
        inside(ends.watermarks(), partition, from)?;
        let lines = match mode {
            ReadMode::Bulk => Arc::new(Lines::new(&self.options, &self.table)),
            ReadMode::Tail => Arc::clone(&self.tails),
        };
        let follower = Arc::clone(&self.follower);
        let reader = EventReader::new(follower, lines, (partition, from), ends);
        Ok(Box::new(reader))
    }
}
