//! refold-store-postgres.
