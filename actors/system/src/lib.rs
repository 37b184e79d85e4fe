//! refold-system.
