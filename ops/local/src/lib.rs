//! Private Kafka, Postgres and Prometheus servers as plain local processes.
//!
//! Two ways in:
//! * [`Stack`] is long-lived: it writes down in its directory what it started, so that a later
//!   process finds the same servers and only those are ever stopped.
//! * [`KafkaCluster`], [`PostgresServer`] and [`PrometheusServer`] are guards: the servers end
//!   when the value is dropped, and a watchdog ends them when the owning process is killed.
//!
//! Every server listens on 127.0.0.1 only, keeps its files in a directory it was given, and is
//! identified by pid *and* process start time, so that a reused pid is never signalled. The
//! settings of the broker and of the database are one table each, in [`settings`].

pub mod board;
pub mod build_tools;
mod cache;
mod error;
mod http;
mod install;
mod kafka;
mod kafka_node;
mod kafka_probe;
mod locate;
mod lock;
mod machine;
mod outage;
mod pgbouncer;
mod port;
mod postgres;
mod process;
mod prometheus;
pub mod session;
pub mod settings;
mod stack;
pub mod testing;
mod watchdog;

pub use error::{Error, Result};
pub use http::get as http_get;
pub use kafka::KafkaCluster;
pub use kafka_node::KafkaExtras;
pub use outage::Server;
pub use pgbouncer::PgBouncer;
pub use postgres::{PostgresOptions, PostgresServer};
pub use prometheus::{PrometheusOptions, PrometheusServer, ScrapeTarget, promtool};
pub use stack::{Addresses, ServerStatus, Stack, StackGuard, StackOptions, StackStatus};
