//! The Kafka log on a real broker.

mod broker;
mod conformance;
mod stage;
