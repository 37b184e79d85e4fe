//! refold-telemetry.
