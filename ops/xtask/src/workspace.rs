//! Where the workspace is.

use std::env;
use std::path::{Path, PathBuf};

use crate::outcome::{Failure, Outcome};

/// The root of the checkout that this command works on.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// From the directory Cargo names when it runs us, else upwards from the current one.
    pub(crate) fn find() -> Outcome<Self> {
        let named = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let current = env::current_dir().ok();
        named
            .iter()
            .chain(&current)
            .flat_map(|start| start.ancestors())
            .find(|dir| dir.join("Cargo.lock").exists() && dir.join("ops/xtask").is_dir())
            .map(|root| Self {
                root: root.to_path_buf(),
            })
            .ok_or_else(|| Failure::failed("run this inside a checkout of Refold"))
    }

    /// The root itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path below the root.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// Cargo's build directory.
    pub(crate) fn target(&self) -> PathBuf {
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| self.path("target"), PathBuf::from)
    }
}
