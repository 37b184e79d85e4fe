//! refold-e2e.
