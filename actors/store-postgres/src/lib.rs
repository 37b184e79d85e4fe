//! Refold's store on Postgres: control tables, the fence, the writers of
//! leaves, the registry, reads and verification.
//!
//! A leaf is one plain table for one version and one Kafka partition. Whatever
//! moves a mark goes through the fence in the transaction that writes the rows.

mod apply;
mod array;
mod barrier;
mod bulk;
mod ddl;
mod error;
mod migrate;
mod promote;
mod registry;
mod session;
mod takeover;
mod transaction;
mod views;
mod writer;

pub use migrate::migrate;
pub use registry::PgRegistry;
pub use session::SessionOptions;
pub use takeover::PostgresSink;
