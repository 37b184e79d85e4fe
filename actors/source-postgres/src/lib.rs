//! A Postgres table as Refold's log.
//!
//! ```text
//! EventTable --- identity -------------------> a session of its own
//!     |
//!     +- watermarks, open ------> Follower --> asks for the settled end, one for all readers
//!     +- open(Bulk) -> EventReader ----------> a session of its own
//!     +- open(Tail) -> EventReader ----------> a session shared by all tail readers
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | `options` | how the server is reached, and how long an answer is waited for |
//! | `session` | one connection, whose every answer has a deadline |
//! | `failure` | which error means what |
//! | `facts` | what a table is, and what is refused |
//! | `settle` | the rule by which an end is settled; pure |
//! | `follower` | the task that settles ends for all readers of a process |
//! | `lines` | the sessions that rows are read by |
//! | `reader` | the `ChunkReader` over a session |
//! | `source` | the `LogSource` |
//! | `table` | event tables created, and their head deleted |
//! | `witness` | the plain reader of those who testify about the others |
//!
//! All partitions of a table share one sequence of positions, which are the log's offsets: those
//! of one partition ascend and have holes, as in a compacted topic. Positions are handed out in
//! another order than transactions commit in, and some for nothing; `settle` says how far the
//! table is nevertheless a log (ADR 27).

mod facts;
mod failure;
mod follower;
mod lines;
mod options;
mod reader;
mod session;
mod settle;
mod source;
mod table;
mod witness;

pub use options::EventStoreError;
pub use options::EventStoreOptions;
pub use source::EventTable;
pub use table::create;
pub use table::delete_below;
pub use table::install;
pub use witness::each_record;
