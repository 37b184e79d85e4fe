//! The promises of `LogSource`.
