//! Conformance suites: the promises of the ports as test cases that every
//! implementation runs.

pub mod log;
pub mod registry;
pub mod store;
