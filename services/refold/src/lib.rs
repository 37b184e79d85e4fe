//! refold.
