//! The Kafka log on a real broker.

mod broker;
mod bytes;
mod conformance;
mod passing;
mod stage;
