//! Readers: what they see must be a state that the log once had, and never an older one than before.

use std::collections::BTreeMap;
use std::time::Duration;

use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::version::VersionId;
use refold_ports::registry::ReadAnswer;
use refold_ports::registry::ReadError;
use serde_json::Value;

use crate::branch::Branch;
use crate::network::Process;
use crate::registry::SimRegistry;
use crate::world::World;
use crate::world::pass;

/// A read is a whole state of one version, and none is older than the one before.
pub(crate) const READS: &str = "no read is torn or goes back";

/// What a reader saw of a key.
#[derive(Debug, Clone, Copy)]
struct Last {
    version: VersionId,
    /// `None` when there was no row.
    off: Option<i64>,
}

/// A reader.
pub(crate) struct Reader {
    world: World,
    registry: SimRegistry,
    generation: i64,
    last: BTreeMap<i64, Last>,
}

impl Reader {
    pub(crate) fn new(world: World) -> Self {
        let registry = SimRegistry {
            world: world.clone(),
            process: Process::new(0),
        };
        Self {
            world,
            registry,
            generation: 0,
            last: BTreeMap::new(),
        }
    }

    /// Reads one key after another for ever.
    pub(crate) async fn run(mut self) {
        let world = self.world.clone();
        loop {
            pass(world.chance.time(Duration::from_secs(25))).await;
            let key = world.chance.between(0..=world.plan.keys - 1) as i64;
            match self.registry.read(key).await {
                Ok(answer) => self.check(key, &answer),
                Err(ReadError::NoActiveVersion(_)) if self.generation > 0 => {
                    world.find(READS, "nothing serves any more".to_owned());
                }
                Err(ReadError::NoActiveVersion(_)) => world.take(Branch::ReadBeforeFirst),
                Err(ReadError::Unavailable(_)) => {}
                Err(error) => world.find(READS, error.to_string()),
            }
        }
    }

    fn check(&mut self, key: i64, answer: &ReadAnswer) {
        if answer.generation < self.generation {
            let (now, before) = (answer.generation, self.generation);
            self.world
                .find(READS, format!("generation {now} after {before}"));
        }
        if self.generation > 0 && answer.generation > self.generation {
            self.world.take(Branch::ReadAcrossSwitch);
        }
        self.generation = self.generation.max(answer.generation);
        let off = match self.check_row(key, answer) {
            Ok(off) => off,
            Err(why) => {
                let version = answer.version;
                self.world
                    .find(READS, format!("key {key} of version {version}: {why}"));
                None
            }
        };
        let version = answer.version;
        self.last.insert(key, Last { version, off });
    }

    /// Checks a row and returns where it stands.
    fn check_row(&self, key: i64, answer: &ReadAnswer) -> Result<Option<i64>, String> {
        let world = &self.world;
        let (version, partition) = (answer.version, answer.partition);
        let Some(place) = world.store.place(version, partition) else {
            // Dropped since; what it showed was checked before.
            return Ok(None);
        };
        let before = self.last.get(&key);
        let Some(text) = &answer.row else {
            world.take(Branch::ReadTombstone);
            return Ok(None);
        };
        let row: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let number = |name: &str| row.get(name).and_then(Value::as_i64);
        let off = number("applied_offset").ok_or("no offset")?;
        let version_number = world.number(version);
        let end = (place.start, Offset(off + 1));
        let expected = world.seen().truth.rows(version_number, partition, end);
        let expected = expected.get(&key).ok_or("a row without an event")?;
        let names = ["total", "largest"];
        let width = if version_number == 1 { 1 } else { 2 };
        let shown: Vec<_> = names.iter().take(width).map(|name| number(name)).collect();
        let wanted = expected.columns.as_ref();
        let wanted: Option<Vec<_>> = wanted.map(|c| c.iter().map(|v| Some(*v)).collect());
        if wanted.as_ref() != Some(&shown) || (width == 1 && number("largest").is_some()) {
            return Err(format!("{text} is no state of the log, {expected:?} is"));
        }
        if expected.off != off {
            return Err(format!("{text} stands at no event of the key"));
        }
        if let Some(seen) = before.and_then(|last| Some((last.version, last.off?)))
            && seen.0 == version
            && seen.1 > off
        {
            return Err(format!("{text} is older than what stood at {}", seen.1));
        }
        self.past_switch((partition, key), answer, off)?;
        Ok(Some(off))
    }

    /// A version that was switched to shows every event below its switch vector.
    fn past_switch(
        &self,
        (partition, key): (Partition, i64),
        answer: &ReadAnswer,
        off: i64,
    ) -> Result<(), String> {
        let seen = self.world.seen();
        let vector = seen.switches.get(&answer.generation);
        let Some(x) = vector.and_then(|vector| vector.get(&partition)) else {
            return Ok(());
        };
        match seen.truth.next_of(partition, key, off) {
            Some(next) if next < x.0 => Err(format!("event {next} lies below the switch at {x}")),
            _ => Ok(()),
        }
    }
}
