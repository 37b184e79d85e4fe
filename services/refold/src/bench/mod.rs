//! The benchmarks that are kept as experiments: settings in shuffled rounds, every run in
//! processes of its own, and no figure without a comparison with the known final state.

pub(crate) mod batching;
mod child;
pub(crate) mod client_cost;
pub(crate) mod codec;
mod evidence;
pub(crate) mod linearity;
pub(crate) mod overlap;
pub(crate) mod part;
mod phases;
pub(crate) mod read;
pub(crate) mod report;
pub(crate) mod scale_model;
mod shortened;
mod site;
pub(crate) mod speed_up;
mod sweep;
pub(crate) mod upsert;
pub(crate) mod zombies;

pub(crate) use phases::Phases;
