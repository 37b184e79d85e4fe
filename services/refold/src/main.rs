//! The reference binary: Refold with the example projections inside.

use refold_accounts::AccountsV3;
use refold_accounts::AccountsV3Rebuilt;
use refold_accounts::AccountsV4;
use refold_shipments::ShipmentsV1;

/// Folding and encoding allocate in bursts from several threads; mimalloc
/// returns that memory sooner and with less contention than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

refold::main!(AccountsV3, AccountsV4, AccountsV3Rebuilt, ShipmentsV1);
