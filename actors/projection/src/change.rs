//! What one event does to one row.

/// The outcome of folding one event into one aggregate's row.
///
/// Nothing is silent: an event that should not change a row says [`Change::Skip`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<R> {
    /// The row after the event.
    Put(R),
    /// The aggregate has no row any more. The engine keeps a tombstone that
    /// remembers the position, so that an overlapping replay cannot revive it.
    Delete,
    /// The event leaves the row as it was. The aggregate's position still advances.
    Skip,
}
