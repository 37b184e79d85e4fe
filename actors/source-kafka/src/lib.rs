//! refold-source-kafka.
