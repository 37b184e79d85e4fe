//! The trait that an author implements.

use crate::Change;
use crate::DecodeError;
use crate::Differences;
use crate::Envelope;
use crate::Fingerprint;
use crate::Key;
use crate::Payload;
use crate::Row;

/// How writes of an event merge into a table that other writers touch too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Merge {
    /// The fold needs every event of an aggregate in order. The default; such a
    /// projection refuses to replay a window into a live table.
    Ordered,
    /// Immutable facts: the first write of a key wins.
    KeepFirst,
    /// Corrections: the highest per-aggregate version wins.
    HighestVersion,
}

/// A read model as a pure left fold over one topic.
///
/// # Promise of the author
/// `fold` is a function of its arguments alone: no clock, no randomness, no
/// I/O, no iteration over a hash map. The engine cuts the log into batches
/// wherever it likes, re-reads any part of it after a crash, and relies on the
/// same result each time.
///
/// # Promise of the engine
/// Per aggregate, `fold` sees every event of [`Projection::HANDLES`] once and in offset
/// order, with the row that the event before it left.
pub trait Projection: Send + Sync + 'static {
    /// Type of the aggregate's id.
    type Key: Key;
    /// The decoded event; it may borrow from the payload.
    type Event<'a>;
    /// The row struct, which is the schema.
    type Row: Row;

    /// Name of the read model, shared by all its versions: `[a-z][a-z0-9_]{0,30}`.
    const NAME: &'static str;
    /// Version number. A changed schema or fold is a new number, never an ALTER.
    const VERSION: u32;
    /// The event types that `fold` wants to see. Others advance the aggregate's
    /// position and are counted as unhandled.
    const HANDLES: &'static [&'static str];
    /// Fingerprint of the code, by `refold_projection::source_fingerprint!()` in
    /// the file that holds the fold. A changed fold under an old number refuses to run.
    const CODE: Fingerprint;
    /// The version that this one replaces and is compared with.
    const REPLACES: Option<u32> = None;
    /// How its rows differ from those of the version that it replaces, by
    /// [`Differences::between`]. Without a rule, every difference in a column that is
    /// declared `differs` is taken for a meant one.
    const DIFFERENCES: Option<Differences> = None;
    /// Whether `decode` refuses every JSON payload that is not one well-formed object from its
    /// first to its last byte, as `serde_json::from_str` does for a struct. A rebuild then leaves
    /// it to `decode` to find out, and reads the payload once instead of twice.
    const REFUSES_MALFORMED_JSON: bool = false;
    /// How writes merge in subwindow replay.
    const MERGE: Merge = Merge::Ordered;

    /// Decodes the payload of an event of type `kind`, one of [`Projection::HANDLES`].
    ///
    /// # Errors
    /// [`DecodeError`] halts the partition at this event.
    fn decode<'a>(kind: &'a str, payload: Payload<'a>) -> Result<Self::Event<'a>, DecodeError>;

    /// Folds one event into the aggregate's row (`None`: it has none yet, or it was deleted).
    fn fold(
        &self,
        row: Option<Self::Row>,
        event: &Envelope<'_, Self::Event<'_>>,
    ) -> Change<Self::Row>;
}

/// The label of a version, `NAME_vVERSION`, as operators type it.
pub fn label<P: Projection>() -> String {
    format!("{}_v{}", P::NAME, P::VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Column;
    use crate::cell::CellError;
    use crate::cell::CellReader;

    /// A row that says nothing of its memory.
    #[derive(Debug, Clone, PartialEq)]
    struct Nothing;

    impl Row for Nothing {
        const COLUMNS: &'static [Column] = &[];
        fn encode(&self, _: &mut Vec<u8>) {}
        fn decode(_: &mut CellReader<'_>) -> Result<Self, CellError> {
            Ok(Self)
        }
    }

    struct Orders;

    impl Projection for Orders {
        type Key = i64;
        type Event<'a> = ();
        type Row = Nothing;
        const NAME: &'static str = "orders";
        const VERSION: u32 = 12;
        const HANDLES: &'static [&'static str] = &[];
        const CODE: Fingerprint = Fingerprint(1);

        fn decode<'a>(_: &'a str, _: Payload<'a>) -> Result<(), DecodeError> {
            Ok(())
        }

        fn fold(&self, _: Option<Nothing>, _: &Envelope<'_, ()>) -> Change<Nothing> {
            Change::Skip
        }
    }

    #[test]
    fn a_version_is_called_by_name_and_number() {
        assert_eq!(label::<Orders>(), "orders_v12");
        assert_eq!(Row::heap_bytes(&Nothing), 0);
    }
}
