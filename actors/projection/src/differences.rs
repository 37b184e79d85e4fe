//! What an author says of rows that are meant to differ from the version before.
//!
//! A fix changes rows. Without a rule the proof can only count them; with one it
//! tells a row that differs as it should from one that differs and should not, and
//! from one that should differ and does not.

use std::fmt;

use crate::Fingerprint;
use crate::Projection;
use crate::Row;
use crate::cell::CellError;
use crate::cell::CellReader;
use crate::label;

/// What the columns that are declared `differs` of one aggregate must look like in both versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Nothing sets these two rows apart: all columns are equal.
    Equal,
    /// The rows differ in just this way; the reason is for the report.
    Different(&'static str),
    /// The rows do not tell; equal and different are both right.
    Either(&'static str),
}

/// A version that says how its rows differ from those of the version that it replaces.
///
/// The rule sees two rows of one aggregate at one offset, and nothing else. It has to
/// be narrow: what it lets pass, no comparison of rows will find.
pub trait Replaces<Old>: Projection
where
    Old: Projection<Key = <Self as Projection>::Key>,
{
    /// What is expected of the columns that differ, for these two rows. Of two rows that
    /// differ in a way that is not meant, it says [`Expected::Equal`].
    fn expect(old: &Old::Row, new: &Self::Row) -> Expected;
}

type Rule = fn(&[u8], &[u8]) -> Result<Expected, CellError>;

/// The rule of a [`Replaces`] without its types, as [`Projection::DIFFERENCES`] holds it.
#[derive(Clone, Copy)]
pub struct Differences {
    replaced: fn() -> String,
    rule: Rule,
    code: Fingerprint,
}

impl Differences {
    /// The rule between two versions. `code` is the fingerprint of the file that holds it,
    /// by `refold_projection::source_fingerprint!()`.
    pub const fn between<Old, New>(code: Fingerprint) -> Self
    where
        Old: Projection,
        New: Projection<Key = Old::Key> + Replaces<Old>,
    {
        Self {
            replaced: label::<Old>,
            rule: apply::<Old, New>,
            code,
        }
    }

    /// The label of the version that the rule compares with.
    pub fn replaced(&self) -> String {
        (self.replaced)()
    }

    /// Fingerprint of the rule's source.
    pub fn code(&self) -> Fingerprint {
        self.code
    }

    /// Asks the rule about the cells of two rows of one aggregate.
    ///
    /// # Errors
    /// [`CellError`] when a row is not what its version declares.
    pub fn expect(&self, old: &[u8], new: &[u8]) -> Result<Expected, CellError> {
        (self.rule)(old, new)
    }
}

/// Two rules are one when they compare with the same version and come from the same source.
impl PartialEq for Differences {
    fn eq(&self, other: &Self) -> bool {
        self.code == other.code && self.replaced() == other.replaced()
    }
}

impl Eq for Differences {}

impl fmt::Debug for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Differences")
            .field("replaced", &self.replaced())
            .field("code", &self.code)
            .finish_non_exhaustive()
    }
}

fn apply<Old, New>(old: &[u8], new: &[u8]) -> Result<Expected, CellError>
where
    Old: Projection,
    New: Projection<Key = Old::Key> + Replaces<Old>,
{
    let old = Old::Row::decode(&mut CellReader::new(old))?;
    let new = New::Row::decode(&mut CellReader::new(new))?;
    Ok(New::expect(&old, &new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CellValue;
    use crate::Change;
    use crate::Column;
    use crate::ColumnType;
    use crate::Compare;
    use crate::DecodeError;
    use crate::Envelope;
    use crate::Payload;

    #[derive(Debug, Clone, PartialEq)]
    struct Amount(i64);

    impl Row for Amount {
        const COLUMNS: &'static [Column] = &[Column {
            name: "amount",
            ty: ColumnType::Int8,
            nullable: false,
            compare: Compare::Differs,
        }];

        fn encode(&self, out: &mut Vec<u8>) {
            self.0.write(out);
        }

        fn decode(cells: &mut CellReader<'_>) -> Result<Self, CellError> {
            i64::read(cells).map(Self)
        }
    }

    struct Amounts<const V: u32>;

    impl<const V: u32> Projection for Amounts<V> {
        type Key = i64;
        type Event<'a> = ();
        type Row = Amount;
        const NAME: &'static str = "amounts";
        const VERSION: u32 = V;
        const HANDLES: &'static [&'static str] = &[];
        const CODE: Fingerprint = Fingerprint(V as u128);

        fn decode<'a>(_: &'a str, _: Payload<'a>) -> Result<(), DecodeError> {
            Ok(())
        }

        fn fold(&self, _: Option<Amount>, _: &Envelope<'_, ()>) -> Change<Amount> {
            Change::Skip
        }
    }

    impl<const OLD: u32> Replaces<Amounts<OLD>> for Amounts<9> {
        fn expect(old: &Amount, new: &Amount) -> Expected {
            match (old.0, new.0) {
                (..0, 0) => Expected::Different("below zero"),
                (..0, _) => Expected::Either("below zero"),
                _ => Expected::Equal,
            }
        }
    }

    const RULE: Differences = Differences::between::<Amounts<1>, Amounts<9>>(Fingerprint(5));

    #[test]
    fn a_rule_is_asked_about_the_cells_of_two_rows() {
        let cells = |amount: i64| {
            let mut cells = Vec::new();
            Amount(amount).encode(&mut cells);
            cells
        };
        let ask = |old, new| RULE.expect(&cells(old), &cells(new));
        assert_eq!(ask(3, 0), Ok(Expected::Equal));
        assert_eq!(ask(-3, 0), Ok(Expected::Different("below zero")));
        assert_eq!(ask(-3, -3), Ok(Expected::Either("below zero")));
        assert!(RULE.expect(&cells(1), &cells(1)[1..]).is_err());
        assert!(RULE.expect(&cells(1)[1..], &cells(1)).is_err());
    }

    #[test]
    fn rules_are_one_when_both_source_and_replaced_version_are() {
        assert_eq!(
            (RULE.replaced().as_str(), RULE.code()),
            ("amounts_v1", Fingerprint(5))
        );
        let same = Differences::between::<Amounts<1>, Amounts<9>>(Fingerprint(5));
        let other_code = Differences::between::<Amounts<1>, Amounts<9>>(Fingerprint(6));
        let other_version = Differences::between::<Amounts<2>, Amounts<9>>(Fingerprint(5));
        assert!(RULE == same);
        assert!(RULE != other_code);
        assert!(RULE != other_version);
        assert_eq!(
            format!("{RULE:?}"),
            "Differences { replaced: \"amounts_v1\", code: Fingerprint(5), .. }"
        );
    }
}
