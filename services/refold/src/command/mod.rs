//! One module a command.

pub(crate) mod api;
pub(crate) mod as_of;
pub(crate) mod bench;
pub(crate) mod chaos;
pub(crate) mod cutover;
pub(crate) mod demo;
pub(crate) mod diff;
pub(crate) mod event_table;
pub(crate) mod list;
pub(crate) mod load;
pub(crate) mod parked;
pub(crate) mod projector;
pub(crate) mod repair;
pub(crate) mod reset;
pub(crate) mod retire;
pub(crate) mod seed;
pub(crate) mod verify;
