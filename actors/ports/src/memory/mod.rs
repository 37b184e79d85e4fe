//! Memory implementations of the ports, for tests of the core. They pass the
//! same conformance suites as the real ones.

pub mod log;
pub mod store;
