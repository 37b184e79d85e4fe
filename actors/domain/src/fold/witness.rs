//! The witness: an event at a time, a plain map, and the author's code.
//!
//! It exists to be obviously right. It shares no table, no cache, no batch and no decoder
//! with the engines, so that what it says of a row is said independently of them.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::sync::Arc;

use refold_projection::Change;
use refold_projection::Envelope;
use refold_projection::Key;
use refold_projection::KeyRef;
use refold_projection::KeyType;
use refold_projection::Payload;
use refold_projection::Projection;
use refold_projection::Row;
use refold_projection::Uuid;
use refold_projection::cell::CellReader;
use refold_proto::PlainEnvelope;
use refold_proto::PlainId;
use refold_proto::PlainPayload;

use super::slot::read_key;
use crate::diff::KeyShare;
use crate::position::Offset;

/// What the log says of one aggregate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessRow {
    /// The key's cell.
    pub key: Vec<u8>,
    /// The columns' cells; `None` when the aggregate has no row.
    pub cells: Option<Vec<u8>>,
    /// Version of its last event.
    pub applied_seq: u64,
    /// Offset of that event.
    pub off: Offset,
}

/// Which aggregates a witness looks at.
#[derive(Debug, Clone)]
pub enum Keys {
    /// A class of all keys.
    Share(KeyShare),
    /// Exactly these, each given as its cell.
    These(Arc<HashSet<Vec<u8>>>),
}

impl Keys {
    /// Every key.
    pub fn all() -> Self {
        KeyShare::new(0, 1).into()
    }

    /// Exactly these, each given as its cell.
    pub fn these(keys: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self::These(Arc::new(keys.into_iter().collect()))
    }

    /// Whether a key, given as its cell, is looked at.
    pub fn has(&self, key: &[u8]) -> bool {
        match self {
            Self::Share(share) => share.has(key),
            Self::These(keys) => keys.contains(key),
        }
    }
}

impl From<KeyShare> for Keys {
    fn from(share: KeyShare) -> Self {
        Self::Share(share)
    }
}

/// Folds a partition's events one after another, from the first on.
pub trait WitnessFold: Send {
    /// Takes the next event of the log, and answers whether it moved an aggregate that is
    /// looked at. Events of other keys are passed over, and those that came before.
    ///
    /// # Errors
    /// One sentence when the author's code cannot read it.
    fn event(&mut self, event: &PlainEnvelope, offset: Offset) -> Result<bool, String>;

    /// Every aggregate that an event was seen of, by key.
    fn rows(&self) -> Vec<WitnessRow>;

    /// The aggregate of this key, given as its cell, if an event was seen of it.
    fn row(&self, key: &[u8]) -> Option<WitnessRow>;
}

/// An aggregate so far.
struct Aggregate<R> {
    row: Option<R>,
    version: u64,
    offset: i64,
}

impl<R: Row> Aggregate<R> {
    fn told(&self, key: Vec<u8>) -> WitnessRow {
        let cells = self.row.as_ref().map(|row| {
            let mut cells = Vec::new();
            row.encode(&mut cells);
            cells
        });
        WitnessRow {
            key,
            cells,
            applied_seq: self.version,
            off: Offset(self.offset),
        }
    }
}

pub(super) struct Witness<P: Projection> {
    projection: Arc<P>,
    keys: Keys,
    aggregates: BTreeMap<P::Key, Aggregate<P::Row>>,
}

impl<P: Projection> Witness<P> {
    pub(super) fn new(projection: Arc<P>, keys: Keys) -> Self {
        Self {
            projection,
            keys,
            aggregates: BTreeMap::new(),
        }
    }

    fn change(
        &self,
        key: &P::Key,
        row: Option<P::Row>,
        event: &PlainEnvelope,
    ) -> Result<Option<P::Row>, String> {
        if !P::HANDLES.contains(&event.kind.as_str()) {
            return Ok(row);
        }
        let payload = match &event.payload {
            PlainPayload::Proto(bytes) => Payload::Proto(bytes),
            PlainPayload::Json(text) => Payload::Json(text),
        };
        let body = P::decode(&event.kind, payload).map_err(|error| error.to_string())?;
        let envelope = Envelope {
            key: key.borrow(),
            version: event.version,
            kind: &event.kind,
            ts_micros: event.ts_micros,
            event: body,
        };
        Ok(match self.projection.fold(row.clone(), &envelope) {
            Change::Put(row) => Some(row),
            Change::Delete => None,
            Change::Skip => row,
        })
    }
}

impl<P: Projection> WitnessFold for Witness<P> {
    fn event(&mut self, event: &PlainEnvelope, offset: Offset) -> Result<bool, String> {
        let key: P::Key = key_of(&event.id)?;
        if !self.keys.has(&cell_of(&key)) {
            return Ok(false);
        }
        let before = self.aggregates.remove(&key);
        let (row, version) = match before {
            // Written to the log again.
            Some(seen) if event.version <= seen.version => {
                self.aggregates.insert(key, seen);
                return Ok(false);
            }
            Some(seen) => (seen.row, event.version),
            None => (None, event.version),
        };
        let row = self.change(&key, row, event)?;
        let offset = offset.0;
        self.aggregates.insert(
            key,
            Aggregate {
                row,
                version,
                offset,
            },
        );
        Ok(true)
    }

    fn rows(&self) -> Vec<WitnessRow> {
        let aggregates = self.aggregates.iter();
        aggregates
            .map(|(key, aggregate)| aggregate.told(cell_of(key)))
            .collect()
    }

    fn row(&self, key: &[u8]) -> Option<WitnessRow> {
        let of_key: P::Key = read_key(&mut CellReader::new(key)).ok()?;
        let aggregate = self.aggregates.get(&of_key)?;
        Some(aggregate.told(key.to_vec()))
    }
}

/// The id as the projection's key. JSON has no UUIDs and quotes 64-bit numbers, so that a text
/// is whatever the projection declares; of a number only its canonical form.
fn key_of<K: Key>(id: &PlainId) -> Result<K, String> {
    let key = match id {
        PlainId::Int(id) => KeyRef::Int(*id),
        PlainId::Uuid(bytes) => KeyRef::Uuid(Uuid(*bytes)),
        PlainId::Text(text) => match K::TYPE {
            KeyType::Text => KeyRef::Text(text),
            other => other.parse(text).map_err(|error| error.to_string())?,
        },
    };
    if let (PlainId::Text(text), KeyRef::Int(number)) = (id, key)
        && number.to_string() != *text
    {
        return Err(format!("{text:?} is not a number as it is usually written"));
    }
    K::from_key(key).map_err(|error| error.to_string())
}

fn cell_of(key: &impl Key) -> Vec<u8> {
    let mut cell = Vec::with_capacity(20);
    key.borrow().write_cell(&mut cell);
    cell
}
