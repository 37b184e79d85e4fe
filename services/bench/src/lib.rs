//! refold-bench.
