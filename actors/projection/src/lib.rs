//! The author's API of Refold: a projection is a pure left fold of a log of
//! events into rows, and the row struct is the schema of its table.
//!
//! An author implements [`Projection`] and derives [`Row`], links both into a
//! binary of their own with `refold::main!`, and tests them with [`harness`].
//! This crate has no I/O, no clock and no async: whatever a fold sees comes in
//! as an argument, so that the same log always folds to the same table.

pub mod cell;
mod change;
mod column;
mod differences;
mod envelope;
pub mod fingerprint;
pub mod guard;
pub mod harness;
mod json;
mod key;
mod numeric;
mod projection;
mod row;
mod row_json;
mod text;
mod value;

pub use change::Change;
pub use column::{Column, ColumnType, Compare};
pub use differences::{Differences, Expected, Replaces};
pub use envelope::{DecodeError, Envelope, Payload};
pub use fingerprint::Fingerprint;
pub use json::{Json, JsonError};
pub use key::{Key, KeyError, KeyRef, KeyType};
pub use numeric::{Numeric, NumericError};
pub use projection::{Merge, Projection, label};
pub use refold_projection_derive::{Row, TextValue, source_fingerprint};
pub use row::Row;
pub use row_json::{column_json, row_json};
pub use text::{TextCell, TextValue};
pub use value::{CellValue, Timestamp, Uuid};
