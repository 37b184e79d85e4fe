//! The log in a Postgres table, on a real server.

mod conformance;
mod driven;
mod harm;
mod many;
mod refusals;
mod stage;
