//! The Kafka log on a real broker.

mod broker;
mod bytes;
mod conformance;
mod harm;
mod leader;
mod passing;
mod proxy;
mod same;
mod secure;
mod stage;
