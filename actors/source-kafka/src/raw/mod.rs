//! The raw bulk reader: a fetch loop of our own on Kafka's protocol.
//!
//! ```text
//! RawReader -- Fetcher -- Cluster -- Connection -- Inbox -- Transport -> a broker
//!     |           asks      where       frames,    buffers   clear or TLS
//!     |           ahead     it is led   versions
//!     +- Unpacker: batches of an answer into a chunk, in place
//! ```
//!
//! Everything blocks on the caller's thread. One request is on its way at a
//! time: it is sent as soon as the answer before it was looked at, and before
//! that one is unpacked, so that the broker and the kernel work meanwhile.
//!
//! Positions are the caller's: no group, no commit, no session. A lost
//! connection or leader is found again at the same position; a position that
//! the log does not have, another log behind the same name, and bytes that
//! cannot be read are errors.

mod cluster;
mod connection;
mod fault;
mod fetcher;
mod frame;
mod headers;
mod login;
mod message;
mod options;
mod reader;
mod scram;
mod tls;
mod transport;
pub mod unpack;
mod wire;

pub(crate) use options::Choice;
pub(crate) use options::Options;
pub(crate) use reader::RawReader;
