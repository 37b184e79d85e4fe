//! A read model in memory, with the guard of the real one.

use std::collections::BTreeMap;

use crate::Change;
use crate::ColumnType;
use crate::Envelope;
use crate::Key;
use crate::Projection;
use crate::Row;
use crate::cell::CellReader;
use crate::guard::{Admission, Position, admit};

use super::script::{Form, ScriptEvent};

/// An aggregate: its last event, and its row unless it has none.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Slot<R> {
    pub(super) position: Position,
    pub(super) row: Option<R>,
}

#[derive(Debug)]
pub(super) struct Table<'p, P: Projection> {
    projection: &'p P,
    slots: BTreeMap<P::Key, Slot<P::Row>>,
}

impl<P: Projection> Clone for Table<'_, P> {
    fn clone(&self) -> Self {
        Self {
            projection: self.projection,
            slots: self.slots.clone(),
        }
    }
}

impl<'p, P: Projection> Table<'p, P> {
    pub(super) fn new(projection: &'p P) -> Self {
        Self {
            projection,
            slots: BTreeMap::new(),
        }
    }

    pub(super) fn row(&self, key: &P::Key) -> Option<&P::Row> {
        self.slots.get(key).and_then(|slot| slot.row.as_ref())
    }

    /// The first aggregate whose row or position is another one in `other`.
    pub(super) fn first_difference(&self, other: &Self) -> Option<P::Key> {
        let here = self.slots.keys();
        here.chain(other.slots.keys())
            .find(|key| self.slots.get(key) != other.slots.get(key))
            .cloned()
    }

    pub(super) fn into_rows(self) -> BTreeMap<P::Key, P::Row> {
        let slots = self.slots.into_iter();
        slots
            .filter_map(|(key, slot)| Some((key, slot.row?)))
            .collect()
    }

    /// Folds one event, unless the guard says that the row has seen it.
    pub(super) fn apply(
        &mut self,
        event: &ScriptEvent<P::Key>,
        form: Form,
    ) -> Result<Admission, String> {
        let position = Position {
            version: event.version,
            offset: event.offset,
        };
        let slot = self.slots.get(&event.key);
        let admission = admit(slot.map(|slot| slot.position), position);
        match admission {
            Admission::Apply => {}
            Admission::Duplicate => return Ok(admission),
            Admission::Gap { expected } => {
                return Err(at(
                    event,
                    &format!("version {expected} should have come first"),
                ));
            }
        }
        let row = slot.and_then(|slot| slot.row.clone());
        let row = self.folded(row, event, form)?;
        self.slots.insert(event.key.clone(), Slot { position, row });
        Ok(admission)
    }

    fn folded(
        &self,
        row: Option<P::Row>,
        event: &ScriptEvent<P::Key>,
        form: Form,
    ) -> Result<Option<P::Row>, String> {
        if !P::HANDLES.contains(&event.kind.as_str()) {
            return Ok(row);
        }
        let Some(payload) = event.payload(form) else {
            return Err(at(event, &format!("it has no {form:?} form")));
        };
        let decoded = P::decode(&event.kind, payload)
            .map_err(|e| at(event, &format!("it cannot be decoded: {e}")))?;
        let envelope = Envelope {
            key: event.key.borrow(),
            version: event.version,
            kind: &event.kind,
            ts_micros: event.ts_micros,
            event: decoded,
        };
        match self.projection.fold(row.clone(), &envelope) {
            Change::Skip => Ok(row),
            Change::Delete => Ok(None),
            Change::Put(row) => match read_back(&row) {
                Ok(()) => Ok(Some(row)),
                Err(reason) => Err(at(event, &format!("its row is no row: {reason}"))),
            },
        }
    }
}

fn at<K: Key>(event: &ScriptEvent<K>, reason: &str) -> String {
    format!(
        "offset {}, key {}, version {}, {}: {reason}",
        event.offset,
        event.key.borrow(),
        event.version,
        event.shown
    )
}

/// Holds a row to its contract: one cell per column, and the row comes back
/// from its cells.
fn read_back<R: Row>(row: &R) -> Result<(), String> {
    let mut bytes = Vec::new();
    row.encode(&mut bytes);
    let mut cells = CellReader::new(&bytes);
    for column in R::COLUMNS {
        let cell = cells
            .next_cell()
            .map_err(|e| format!("no cell for column {}: {e}", column.name))?;
        match cell {
            None if !column.nullable => return Err(format!("column {} is null", column.name)),
            Some(text) if column.ty == ColumnType::Text && text.contains(&0) => {
                return Err(format!(
                    "column {} holds NUL, which text cannot",
                    column.name
                ));
            }
            _ => {}
        }
    }
    if !cells.rest().is_empty() {
        return Err("it encodes to more cells than it has columns".to_owned());
    }
    let again = R::decode(&mut CellReader::new(&bytes)).map_err(|e| e.to_string())?;
    if again == *row {
        Ok(())
    } else {
        Err(format!("it was {row:?} and was read back as {again:?}"))
    }
}
