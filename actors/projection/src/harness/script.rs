//! Scripts: a log that a test wrote down.

use std::collections::BTreeMap;
use std::fmt;

use crate::Payload;
use crate::Projection;

use super::table::Table;

/// An event that a test can write down. The crate of the events implements it,
/// in the wire forms that its topics have; an event needs at least one.
///
/// A pair of a type and a JSON text is an event too: `("Deposited", r#"{"cents":5}"#)`.
pub trait TestEvent: fmt::Debug {
    /// The type's name in the envelope.
    fn kind(&self) -> &str;

    /// The payload as protocol buffers, if the event has that form.
    fn proto(&self) -> Option<Vec<u8>> {
        None
    }

    /// The payload as JSON text, if the event has that form.
    fn json(&self) -> Option<String> {
        None
    }
}

impl TestEvent for (&str, &str) {
    fn kind(&self) -> &str {
        self.0
    }

    fn json(&self) -> Option<String> {
        Some(self.1.to_owned())
    }
}

impl<E: TestEvent + ?Sized> TestEvent for &E {
    fn kind(&self) -> &str {
        (**self).kind()
    }

    fn proto(&self) -> Option<Vec<u8>> {
        (**self).proto()
    }

    fn json(&self) -> Option<String> {
        (**self).json()
    }
}

/// A wire form of payloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// Protocol buffers.
    Proto,
    /// JSON.
    Json,
}

/// One event of a script, as the log would hold it.
#[derive(Debug, Clone)]
pub struct ScriptEvent<K> {
    /// The aggregate.
    pub key: K,
    /// Position in the aggregate's history, from 1.
    pub version: u64,
    /// Position in the script, from 0, as the offset in a log of one partition.
    pub offset: i64,
    /// The type's name.
    pub kind: String,
    /// When it happened, microseconds since the Unix epoch, UTC.
    pub ts_micros: i64,
    /// The payload as protocol buffers, if the event has that form.
    pub proto: Option<Vec<u8>>,
    /// The payload as JSON, if the event has that form.
    pub json: Option<String>,
    /// The event as the test wrote it down, for messages.
    pub shown: String,
}

impl<K> ScriptEvent<K> {
    /// The payload in one form, if the event has it.
    pub fn payload(&self, form: Form) -> Option<Payload<'_>> {
        match form {
            Form::Proto => self.proto.as_deref().map(Payload::Proto),
            Form::Json => self.json.as_deref().map(Payload::Json),
        }
    }

    /// Protocol buffers if the event has that form, otherwise JSON.
    pub fn first_form(&self) -> Form {
        match self.proto {
            Some(_) => Form::Proto,
            None => Form::Json,
        }
    }
}

/// A log of one partition and the projection that it is meant for. The harness
/// folds it in memory; other crates write it to a real log and compare the real
/// table with [`Script::rows`].
#[derive(Debug)]
pub struct Script<P: Projection> {
    /// The projection.
    pub projection: P,
    events: Vec<ScriptEvent<P::Key>>,
    versions: BTreeMap<P::Key, u64>,
}

impl<P: Projection> Script<P> {
    pub(super) fn new(projection: P) -> Self {
        Self {
            projection,
            events: Vec::new(),
            versions: BTreeMap::new(),
        }
    }

    pub(super) fn push(&mut self, key: P::Key, event: &impl TestEvent, ts_micros: i64) {
        let version = self.versions.entry(key.clone()).or_insert(0);
        *version += 1;
        self.events.push(ScriptEvent {
            key,
            version: *version,
            offset: self.events.len() as i64,
            kind: event.kind().to_owned(),
            ts_micros,
            proto: event.proto(),
            json: event.json(),
            shown: format!("{event:?}"),
        });
    }

    /// The events in log order.
    pub fn events(&self) -> &[ScriptEvent<P::Key>] {
        &self.events
    }

    /// How many events the aggregate has.
    pub fn version_of(&self, key: &P::Key) -> u64 {
        self.versions.get(key).copied().unwrap_or(0)
    }

    /// The rows that the events below `offset` fold to. Aggregates without a row
    /// are left out.
    ///
    /// # Errors
    /// One sentence when an event cannot be folded.
    pub fn rows_before(&self, offset: i64) -> Result<BTreeMap<P::Key, P::Row>, String> {
        let mut table = Table::new(&self.projection);
        for event in self.events.iter().filter(|e| e.offset < offset) {
            table.apply(event, event.first_form())?;
        }
        Ok(table.into_rows())
    }

    /// The rows that the whole log folds to, without aggregates that have none.
    ///
    /// # Errors
    /// One sentence when an event cannot be folded.
    pub fn rows(&self) -> Result<BTreeMap<P::Key, P::Row>, String> {
        self.rows_before(i64::MAX)
    }
}
