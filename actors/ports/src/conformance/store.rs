//! The promises of `Sink` and `Registry`.
