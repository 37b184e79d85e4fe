//! Refold's store on Postgres: control tables, the fence, the writers of
//! leaves, the registry, reads and verification.
//!
//! A leaf is one plain table for one version and one Kafka partition. Whatever
//! moves a mark goes through the fence in the transaction that writes the rows.

mod apply;
mod array;
mod barrier;
mod bulk;
mod checkpoint;
mod commit;
mod copy_stream;
mod ddl;
mod error;
mod export;
mod leaf_rows;
mod mark_follower;
mod migrate;
mod pair_reads;
mod parameter;
mod parked;
mod portions;
mod pressure;
mod promote;
mod read_model;
mod readable;
mod registry;
mod repair;
mod reset;
mod retire;
mod session;
mod shared_client;
mod stored;
mod takeover;
mod transaction;
mod verify;
mod views;
mod writer;

pub use export::ExportReport;
pub use export::PartitionExport;
pub use migrate::migrate;
pub use pair_reads::PgPairReads;
pub use pressure::PgPressure;
pub use read_model::PgReadModel;
pub use read_model::ReadOptions;
pub use registry::PgRegistry;
pub use repair::PgRepairer;
pub use repair::RepairOrder;
pub use repair::RowChange;
pub use repair::Wanted;
pub use repair::changes_of;
pub use session::Pooler;
pub use session::SessionOptions;
pub use takeover::PostgresSink;
pub use verify::FoundKey;
pub use verify::PartitionScan;
pub use verify::PgVerifier;
pub use verify::RecordedScan;
pub use verify::ScanOptions;
pub use verify::ScanProgress;
pub use verify::ScanReport;
pub use verify::Testimony;
