//! The unpacker against batches made by hand, by another library, at random,
//! and damaged.

mod cases;
mod codecs;
mod corruption;
mod differential;
mod encode;
mod limits;
mod properties;
mod reading;
mod refusals;
mod transactions;
