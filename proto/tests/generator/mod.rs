//! Generates Rust from the `.proto` files without protoc.

use std::error::Error;
use std::path::{Path, PathBuf};

use protox::prost::Message;

/// The files that generation yields.
pub(crate) const FILES: [&str; 2] = ["refold.v1.rs", "refold.accounts.v1.rs"];

/// Where the committed code is.
pub(crate) fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated")
}

/// Generates both files into `target`.
pub(crate) fn generate(target: &Path) -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let set = protox::compile(
        [root.join("envelope.proto"), root.join("accounts.proto")],
        [root],
    )?;
    // protox and prost-build may be built against different releases of
    // prost-types; the encoded descriptor set is the same for all of them.
    let set = prost_types::FileDescriptorSet::decode(set.encode_to_vec().as_slice())?;
    std::fs::create_dir_all(target)?;
    prost_build::Config::new()
        .out_dir(target)
        .compile_fds(set)?;
    Ok(())
}
