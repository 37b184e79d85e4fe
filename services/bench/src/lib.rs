//! What a benchmark needs beside the thing that it measures: an order of runs that drift
//! cannot favour, a record of finished runs that survives a kill, the accounts of the
//! machine's processors and disk, and the shapes in which figures are written down.
//!
//! Nothing here knows Refold: the measured program is the caller's.

pub mod accounts;
pub mod chart;
pub mod disk;
pub mod knee;
pub mod model;
pub mod order;
pub mod profile;
pub mod record;
pub mod spread;
pub mod table;
