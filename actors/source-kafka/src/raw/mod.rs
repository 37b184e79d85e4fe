//! The raw bulk reader: record batches taken from Fetch answers as they are.
//!
//! | module | what it holds |
//! |---|---|
//! | `unpack` | from the bytes of Fetch answers to chunks; pure |

pub mod unpack;
