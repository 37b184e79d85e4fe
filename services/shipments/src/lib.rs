//! A second read model, which has nothing in common with `accounts`: keys are
//! text, events are JSON read with serde, rows hold decimals, documents and
//! UUIDs, and an event can end a row.

pub mod event;
mod v1;

pub use event::{Service, ShipmentEvent};
pub use v1::{ShipmentV1, ShipmentsV1};
