//! Whoever writes the log.

use std::collections::BTreeMap;
use std::time::Duration;

use refold_domain::partitioner::partition_of;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::LogSource as _;
use refold_ports::memory::log::NewRecord;
use refold_ports::memory::log::TransactionId;

use crate::branch::Branch;
use crate::ledger;
use crate::plan::Blemish;
use crate::truth::Deed;
use crate::truth::Event;
use crate::world::World;
use crate::world::pass;

/// Writes events.
pub(crate) struct Author {
    world: World,
    /// The number of the last event of each aggregate.
    written: BTreeMap<i64, u64>,
    /// Whether the plan's blemish is in the log.
    is_blemished: bool,
}

/// An event that was written.
struct Written {
    partition: Partition,
    event: Event,
}

/// Where a key lives.
pub(crate) fn home(world: &World, key: i64) -> Partition {
    partition_of(key.to_string().as_bytes(), world.plan.partitions)
}

impl Author {
    pub(crate) fn new(world: World) -> Self {
        Self {
            world,
            written: BTreeMap::new(),
            is_blemished: false,
        }
    }

    /// Writes what is there before anybody reads.
    pub(crate) fn write_history(&mut self) {
        for _ in 0..self.world.plan.history {
            self.write_one();
        }
    }

    /// Writes bursts until the trouble is over.
    pub(crate) async fn run(mut self) {
        while self.world.is_troubled() {
            pass(self.world.chance.time(self.world.plan.burst_every)).await;
            self.burst().await;
            if self.world.chance.odds(0.02) {
                self.blemish().await;
            }
            if self.world.chance.odds(0.02) {
                self.delete_old();
            }
        }
    }

    async fn burst(&mut self) {
        let world = self.world.clone();
        let events = world.chance.between(1..=world.plan.burst);
        if world.chance.odds(0.1) {
            self.transaction(events).await;
            return;
        }
        for _ in 0..events {
            self.write_one();
            if world.chance.odds(0.3) {
                pass(world.chance.time(Duration::from_millis(200))).await;
            }
        }
        if world.chance.odds(0.2) {
            // The log then ends with something that is never delivered.
            let partition = world.chance.between(0..=world.plan.partitions as u64 - 1);
            world.log.append_marker(Partition(partition as i32));
            world.grown.notify_waiters();
        }
    }

    fn draw(&self) -> (i64, Deed) {
        let chance = &self.world.chance;
        let key = chance.between(0..=self.world.plan.keys - 1) as i64;
        let deed = match chance.between(0..=19) {
            0 => Deed::Closed,
            1 => Deed::Noted,
            _ => Deed::Added(chance.between(0..=999) as i64),
        };
        (key, deed)
    }

    fn write_one(&mut self) {
        let (key, deed) = self.draw();
        let last = self.written.entry(key).or_default();
        let again = *last > 0 && self.world.chance.odds(0.02);
        if again {
            self.world.take(Branch::DuplicateInLog);
        } else {
            *last += 1;
        }
        let seq = *last;
        self.write(key, seq, deed, None);
    }

    /// Appends an event to the log, and to the truth unless its transaction will be aborted.
    fn write(
        &self,
        key: i64,
        seq: u64,
        deed: Deed,
        transaction: Option<(TransactionId, bool)>,
    ) -> Written {
        let world = &self.world;
        let partition = home(world, key);
        let record = record(key, seq, deed);
        let offset = match transaction {
            Some((id, _)) => world.log.append_in(partition, id, record),
            None => world.log.append(partition, record),
        };
        let event = Event {
            offset: offset.0,
            key,
            seq,
            deed,
        };
        if transaction.is_none_or(|(_, commits)| commits) {
            world.seen().truth.append(partition, event);
        }
        world.grown.notify_waiters();
        Written { partition, event }
    }

    /// Writes a transaction of one partition, which may be aborted.
    async fn transaction(&mut self, events: u64) {
        let world = self.world.clone();
        let (first, _) = self.draw();
        let partition = home(&world, first);
        let id = world.log.begin(partition);
        let commits = world.chance.odds(0.5);
        for _ in 0..events {
            let (key, deed) = self.draw();
            if home(&world, key) != partition {
                continue;
            }
            let last = self.written.entry(key).or_default();
            let seq = *last + 1;
            if commits {
                *last = seq;
            }
            self.write(key, seq, deed, Some((id, commits)));
            pass(world.chance.time(Duration::from_millis(500))).await;
        }
        world.log.end(partition, id, commits);
        if !commits {
            world.take(Branch::LogTransactionAborted);
        }
        world.grown.notify_waiters();
    }

    /// Puts the plan's blemish into the log, once.
    async fn blemish(&mut self) {
        if std::mem::replace(&mut self.is_blemished, true) {
            return;
        }
        let world = self.world.clone();
        match world.plan.blemish {
            Blemish::None => {}
            Blemish::Poison => {
                let partition = home(&world, self.draw().0);
                let at = world.log.append(partition, NewRecord::new("1", "poison"));
                world.seen().truth.poison(partition, at);
                world.note(format_args!("poison in {partition} at {at}"));
                world.grown.notify_waiters();
            }
            Blemish::Gap => {
                let (key, deed) = self.draw();
                let last = self.written.entry(key).or_default();
                *last += 2;
                let seq = *last;
                let written = self.write(key, seq, deed, None);
                world.note(format_args!(
                    "gap in {} at {}",
                    written.partition, written.event.offset
                ));
            }
            Blemish::Truncation => {
                let partition = home(&world, self.draw().0);
                let Ok(log) = world.log.watermarks(partition).await else {
                    return;
                };
                let end = log.high;
                world.log.delete_below(partition, end);
                world.seen().truncated = true;
                world.note(format_args!("{partition} begins at {end} now"));
            }
        }
    }

    /// Deletes old events that every version has applied, as retention does.
    fn delete_old(&self) {
        let world = &self.world;
        let numbers = world.seen().numbers.clone();
        let versions: Vec<_> = numbers.keys().copied().collect();
        if ![1, 2]
            .iter()
            .all(|n| numbers.values().any(|known| known == n))
        {
            // A version that begins later could not be compared with one that saw everything.
            return;
        }
        for partition in world.partitions() {
            let places = versions.iter().map(|v| world.store.place(*v, partition));
            // A history that is still folded may have to be read again from its start.
            let loaded = places.map(|place| place.filter(|place| place.has_leaf));
            let marks: Option<Vec<_>> = loaded.map(|place| Some(place?.next)).collect();
            let Some(lowest) = marks.and_then(|marks| marks.into_iter().min()) else {
                continue;
            };
            if lowest > Offset(0) {
                world.log.delete_below(partition, lowest);
                world.take(Branch::RetentionPassed);
            }
        }
    }
}

fn record(key: i64, seq: u64, deed: Deed) -> NewRecord {
    let (kind, amount) = match deed {
        Deed::Added(amount) => (ledger::ADDED, amount),
        Deed::Closed => (ledger::CLOSED, 0),
        Deed::Noted => ("Noted", 0),
    };
    let value = format!(
        r#"{{"format":1,"aggregate_id":{key},"version":{seq},"type":"{kind}","ts":"2024-02-29T12:00:00Z","payload":{amount}}}"#
    );
    NewRecord::new(key.to_string(), value)
}
