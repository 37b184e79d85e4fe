//! The pure core of Refold: decisions and data, one module a word of
//! `log -> decode -> fold -> batch -> write -> commit -> barrier -> cutover -> read`.
//! Nothing here waits, reads a clock, draws a random number or talks to a server.

pub mod as_of;
pub mod barrier;
pub mod batch;
pub mod cutover;
pub mod decode;
pub mod diff;
pub mod duration;
pub mod duty;
pub mod fence;
pub mod fold;
pub mod log;
pub mod observe;
pub mod pace;
pub mod parking;
pub mod partitioner;
pub mod position;
pub mod restart;
pub mod rows;
pub mod spec;
pub mod sums;
pub mod throttle;
pub mod version;
