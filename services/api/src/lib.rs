//! refold-api.
