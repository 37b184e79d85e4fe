//! Which columns of two versions are compared, and how.

use refold_projection::Column;
use refold_projection::ColumnType;
use refold_projection::Compare;
use refold_projection::Differences;
use refold_projection::Expected;
use refold_projection::KeyType;
use refold_projection::cell::CellReader;

use super::Kind;
use super::RowRef;
use super::text::cell_text;
use crate::spec::ProjectionSpec;
use crate::sums::APPLIED_SEQ;

/// Two versions that cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotComparable {
    /// Nothing says how.
    #[error(
        "neither {from} nor {to} declares that it replaces the other, \
         so nothing says which columns must be equal"
    )]
    Unrelated {
        /// One version.
        from: String,
        /// The other one.
        to: String,
    },
    /// A column is compared that is not in both, or not of one type.
    #[error("{new} compares its column {column} with {old}, which has no such column of that type")]
    NoSuchColumn {
        /// The version that is replaced.
        old: String,
        /// The version that replaces it.
        new: String,
        /// The column.
        column: &'static str,
    },
}

/// How two versions stand to each other.
enum Relation {
    /// Both run the same fold.
    SameFold,
    /// The second replaces the first.
    Forward,
    /// The first replaces the second.
    Backward,
}

fn relation(from: &ProjectionSpec, to: &ProjectionSpec) -> Result<Relation, NotComparable> {
    if from.code == to.code && from.columns == to.columns {
        Ok(Relation::SameFold)
    } else if to.replaces == Some(from.number) {
        Ok(Relation::Forward)
    } else if from.replaces == Some(to.number) {
        Ok(Relation::Backward)
    } else {
        Err(NotComparable::Unrelated {
            from: from.label(),
            to: to.label(),
        })
    }
}

/// The columns that two versions must agree on at every offset, in either
/// direction: all of them when both run the same fold, else those that the
/// newer one declares `same`. [`APPLIED_SEQ`] is among them when both see the same events.
///
/// # Errors
/// [`NotComparable`]: a switch without a proof is not offered.
pub fn comparable_columns(
    from: &ProjectionSpec,
    to: &ProjectionSpec,
) -> Result<Vec<&'static str>, NotComparable> {
    let mut columns = match relation(from, to)? {
        Relation::SameFold => to.columns.iter().map(|column| column.name).collect(),
        Relation::Forward => to.same_columns(),
        Relation::Backward => from.same_columns(),
    };
    if from.handles == to.handles {
        columns.push(APPLIED_SEQ);
    }
    Ok(columns)
}

/// A column that both versions have.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shared {
    name: &'static str,
    /// Its place in the old version's row.
    old: usize,
    /// Its place in the new version's row.
    new: usize,
    ty: ColumnType,
}

impl Shared {
    /// The column at `at` of `new`, which `old` must have too.
    fn find(old: &ProjectionSpec, new: &ProjectionSpec, at: usize) -> Result<Self, NotComparable> {
        let column = &new.columns[at];
        let fits = |c: &Column| c.name == column.name && c.ty == column.ty;
        let place = old.columns.iter().position(fits);
        let place = place.ok_or_else(|| NotComparable::NoSuchColumn {
            old: old.label(),
            new: new.label(),
            column: column.name,
        })?;
        Ok(Self {
            name: column.name,
            old: place,
            new: at,
            ty: column.ty,
        })
    }
}

/// How the rows of two versions are compared.
#[derive(Debug, Clone)]
pub struct PairPlan {
    /// Whether the first of both versions is the newer one.
    swapped: bool,
    key_type: KeyType,
    same: Vec<Shared>,
    differs: Vec<Shared>,
    /// Whether a row's position in its aggregate and in the log must be equal too.
    positions: bool,
    rule: Option<Differences>,
    old: &'static [Column],
    new: &'static [Column],
}

/// The verdict on the two rows of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// `None`: the rows are equal, and rightly so.
    pub(super) kind: Option<Kind>,
    /// What to tell a person.
    pub(super) detail: String,
}

/// Where the cells of a row begin and end. Kept between rows, so that none is allocated.
#[derive(Debug, Default)]
pub(super) struct Cells(Vec<(usize, usize)>);

impl Cells {
    /// Cuts `bytes` into `count` cells; `false` when they are not so many.
    fn cut(&mut self, bytes: &[u8], count: usize) -> bool {
        self.0.clear();
        let mut reader = CellReader::new(bytes);
        for _ in 0..count {
            let start = bytes.len() - reader.rest().len();
            if reader.next_raw().is_err() {
                return false;
            }
            self.0.push((start, bytes.len() - reader.rest().len()));
        }
        reader.rest().is_empty()
    }

    fn get<'a>(&self, bytes: &'a [u8], at: usize) -> &'a [u8] {
        self.0
            .get(at)
            .map_or(&[], |(start, end)| &bytes[*start..*end])
    }
}

/// Room for both rows' cells.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    old: Cells,
    new: Cells,
}

impl PairPlan {
    /// How `from` and `to` are compared, whichever of them is the newer one.
    ///
    /// # Errors
    /// [`NotComparable`].
    pub fn of(from: &ProjectionSpec, to: &ProjectionSpec) -> Result<Self, NotComparable> {
        let relation = relation(from, to)?;
        let swapped = matches!(relation, Relation::Backward);
        let (old, new) = if swapped { (to, from) } else { (from, to) };
        let (mut same, mut differs) = (Vec::new(), Vec::new());
        for (at, column) in new.columns.iter().enumerate() {
            let same_fold = matches!(relation, Relation::SameFold);
            if column.compare == Compare::New && !same_fold {
                continue;
            }
            let shared = Shared::find(old, new, at)?;
            match column.compare {
                Compare::Differs if !same_fold => differs.push(shared),
                _ => same.push(shared),
            }
        }
        let rule = match relation {
            Relation::SameFold => None,
            _ => new
                .differences
                .filter(|rule| rule.replaced() == old.label()),
        };
        Ok(Self {
            swapped,
            key_type: new.key_type,
            same,
            differs,
            positions: old.handles == new.handles,
            rule,
            old: old.columns,
            new: new.columns,
        })
    }

    /// Whether the first of both versions is the newer one.
    pub fn is_swapped(&self) -> bool {
        self.swapped
    }

    /// The columns that must be equal.
    pub fn same_columns(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.same.iter().map(|c| c.name).collect();
        if self.positions {
            names.push(APPLIED_SEQ);
        }
        names
    }

    /// The columns that may differ.
    pub fn differing_columns(&self) -> Vec<&'static str> {
        self.differs.iter().map(|c| c.name).collect()
    }

    /// The author's rule for them.
    pub fn rule(&self) -> Option<&Differences> {
        self.rule.as_ref()
    }

    /// The key's text.
    pub(super) fn key_text(&self, key: &[u8]) -> String {
        super::text::key_text(self.key_type, key)
    }

    /// The columns of both rows as text.
    pub(super) fn row_texts(
        &self,
        old: Option<&RowRef<'_>>,
        new: Option<&RowRef<'_>>,
    ) -> (Option<Vec<String>>, Option<Vec<String>>) {
        let text = |columns, row: &RowRef<'_>| super::text::row_text(columns, row.cells);
        (
            old.map(|row| text(self.old, row)),
            new.map(|row| text(self.new, row)),
        )
    }

    /// Judges the two rows of a key.
    pub(super) fn judge(
        &self,
        old: &RowRef<'_>,
        new: &RowRef<'_>,
        scratch: &mut Scratch,
    ) -> Verdict {
        let whole = scratch.old.cut(old.cells, self.old.len())
            && scratch.new.cut(new.cells, self.new.len());
        if !whole {
            return unexpected("a row has other columns than its version declares".to_owned());
        }
        let cell_pair = |shared: &Shared| {
            (
                scratch.old.get(old.cells, shared.old),
                scratch.new.get(new.cells, shared.new),
            )
        };
        let differing = |columns: &[Shared]| {
            columns.iter().position(|shared| {
                let (a, b) = cell_pair(shared);
                a != b
            })
        };
        let tell = |shared: &Shared| {
            let (a, b) = cell_pair(shared);
            let (a, b) = (cell_text(shared.ty, a), cell_text(shared.ty, b));
            format!("{} is {a} and {b}", shared.name)
        };
        if let Some(at) = differing(&self.same) {
            return unexpected(tell(&self.same[at]));
        }
        if self.positions && (old.applied_seq, old.off) != (new.applied_seq, new.off) {
            return unexpected(format!(
                "the last event is number {} at offset {} and number {} at offset {}",
                old.applied_seq, old.off, new.applied_seq, new.off
            ));
        }
        let first = differing(&self.differs);
        let told = || first.map(|at| tell(&self.differs[at])).unwrap_or_default();
        self.by_rule(old, new, first.is_some(), told)
    }

    /// Judges the columns that may differ, which do when `differ`.
    fn by_rule(
        &self,
        old: &RowRef<'_>,
        new: &RowRef<'_>,
        differ: bool,
        told: impl Fn() -> String,
    ) -> Verdict {
        let verdict = |kind, detail| Verdict {
            kind: Some(kind),
            detail,
        };
        let Some(rule) = &self.rule else {
            return match differ {
                true => verdict(Kind::Expected, told()),
                false => EQUAL,
            };
        };
        match (rule.expect(old.cells, new.cells), differ) {
            (Ok(Expected::Equal | Expected::Either(_)), false) => EQUAL,
            (Ok(Expected::Different(reason)), false) => verdict(
                Kind::MissingExpected,
                format!("equal, but the rule says: {reason}"),
            ),
            (Ok(Expected::Equal), true) => unexpected(told()),
            (Ok(Expected::Different(reason) | Expected::Either(reason)), true) => {
                verdict(Kind::Expected, format!("{}: {reason}", told()))
            }
            (Err(error), _) => unexpected(format!("a row cannot be read: {error}")),
        }
    }

    /// Whether the rule lets rows pass that are of different aggregates and differ where
    /// they may; `None` where there is nothing to learn.
    pub(super) fn lets_pass(
        &self,
        old: &RowRef<'_>,
        new: &RowRef<'_>,
        scratch: &mut Scratch,
    ) -> Option<bool> {
        let rule = self.rule.as_ref()?;
        let whole = scratch.old.cut(old.cells, self.old.len())
            && scratch.new.cut(new.cells, self.new.len());
        let differ = self.differs.iter().any(|shared| {
            scratch.old.get(old.cells, shared.old) != scratch.new.get(new.cells, shared.new)
        });
        let answer = rule.expect(old.cells, new.cells).ok()?;
        (whole && differ).then_some(answer != Expected::Equal)
    }
}

const EQUAL: Verdict = Verdict {
    kind: None,
    detail: String::new(),
};

fn unexpected(detail: String) -> Verdict {
    Verdict {
        kind: Some(Kind::Unexpected),
        detail,
    }
}
