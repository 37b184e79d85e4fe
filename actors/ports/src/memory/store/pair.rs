//! One aggregate in two versions, under one lock.

use async_trait::async_trait;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_projection::CellValue;
use refold_projection::cell::CellError;
use refold_projection::cell::CellReader;

use crate::pair::Declared;
use crate::pair::Pair;
use crate::pair::PairReads;
use crate::pair::PairSide;
use crate::pair::StoredRow;
use crate::registry::ReadError;

use super::MemoryStore;
use super::state::State;

#[async_trait]
impl PairReads for MemoryStore {
    async fn read_pair(
        &self,
        first: Declared<'_>,
        second: Declared<'_>,
        partition: Partition,
        key: &str,
    ) -> Result<Option<Pair>, ReadError> {
        let away = |e: String| ReadError::Unavailable(e);
        let parsed = first.spec.key_type.parse(key);
        let parsed = parsed.map_err(|e| ReadError::BadKey(e.to_string()))?;
        let mut cell = Vec::new();
        parsed.write_cell(&mut cell);
        let state = self.lock();
        state.reach().map_err(|e| away(e.to_string()))?;
        let side = |of: Declared<'_>| side(&state, of, partition, &cell);
        let first = side(first).map_err(|e| away(e.to_string()))?;
        let second = side(second).map_err(|e| away(e.to_string()))?;
        Ok(first.zip(second).map(|(first, second)| Pair {
            key: cell.clone(),
            first,
            second,
        }))
    }
}

/// `None` without a leaf.
fn side(
    state: &State,
    of: Declared<'_>,
    partition: Partition,
    key: &[u8],
) -> Result<Option<PairSide>, CellError> {
    let mark = state.marks.get(&(of.version, partition));
    let Some(mark) = mark.filter(|mark| mark.has_leaf) else {
        return Ok(None);
    };
    let stored = mark.leaf.get(key).map(|row| {
        let mut reader = CellReader::new(&row.cells);
        reader.next_raw()?;
        let start = reader.rest();
        for _ in of.spec.columns {
            reader.next_raw()?;
        }
        let cells = start[..start.len() - reader.rest().len()].to_vec();
        Ok(StoredRow {
            cells,
            applied_seq: i64::read(&mut reader)?.cast_unsigned(),
            off: Offset(i64::read(&mut reader)?),
            deleted: bool::read(&mut reader)?,
        })
    });
    Ok(Some(PairSide {
        next: mark.next,
        stored: stored.transpose()?,
    }))
}
