//! The check of two versions against each other.

use crate::Column;
use crate::Compare;
use crate::Key;
use crate::Projection;
use crate::Row;
use crate::label;

use super::script::Script;
use super::show;
use super::table::Table;

/// A column that both versions have, by its index in each.
struct Shared {
    column: &'static Column,
    newer: usize,
    older: usize,
}

pub(super) fn check<P, Q>(script: &Script<P>, projection: &Q) -> Result<(), String>
where
    P: Projection,
    Q: Projection<Key = P::Key>,
{
    let shared = shared::<P, Q>()?;
    let mut newer = Table::new(&script.projection);
    let mut older = Table::new(projection);
    for event in script.events() {
        newer.apply(event, event.first_form())?;
        older.apply(event, event.first_form())?;
        let (ours, theirs) = (newer.row(&event.key), older.row(&event.key));
        let report = match (ours, theirs) {
            (None, None) => None,
            (Some(_), None) => Some(format!("  only {} has a row\n", label::<P>())),
            (None, Some(_)) => Some(format!("  only {} has a row\n", label::<Q>())),
            (Some(ours), Some(theirs)) => {
                compare(&shared, &show::cells(ours), &show::cells(theirs))
            }
        };
        if let Some(report) = report {
            return Err(format!(
                "{} (found) does not agree with {} (expected) on key {} after offset {}\n{report}{}",
                label::<P>(),
                label::<Q>(),
                event.key.borrow(),
                event.offset,
                show::history(script, &event.key, event.version),
            ));
        }
    }
    Ok(())
}

/// The columns that the newer version declares to be the same.
fn shared<P: Projection, Q: Projection>() -> Result<Vec<Shared>, String> {
    let mut shared = Vec::new();
    for (newer, column) in P::Row::COLUMNS.iter().enumerate() {
        let older = Q::Row::COLUMNS.iter().position(|c| c.name == column.name);
        match (column.compare, older) {
            (Compare::New | Compare::Differs, _) => {}
            (Compare::Same, None) => {
                return Err(format!(
                    "{} declares column {} as the same, but {} does not have it: mark it `#[row(new)]`",
                    label::<P>(),
                    column.name,
                    label::<Q>()
                ));
            }
            (Compare::Same, Some(older)) => {
                let before = &Q::Row::COLUMNS[older];
                if before.ty != column.ty {
                    return Err(format!(
                        "column {} is {} in {} and {} in {}",
                        column.name,
                        before.ty.sql(),
                        label::<Q>(),
                        column.ty.sql(),
                        label::<P>()
                    ));
                }
                shared.push(Shared {
                    column,
                    newer,
                    older,
                });
            }
        }
    }
    Ok(shared)
}

fn compare(
    shared: &[Shared],
    ours: &[Option<Vec<u8>>],
    theirs: &[Option<Vec<u8>>],
) -> Option<String> {
    let mut lines = String::new();
    for Shared {
        column,
        newer,
        older,
    } in shared
    {
        let (found, expected) = (&ours[*newer], &theirs[*older]);
        if found != expected {
            lines.push_str(&show::line(column, expected.as_deref(), found.as_deref()));
        }
    }
    (!lines.is_empty()).then(|| show::headed(&lines))
}
