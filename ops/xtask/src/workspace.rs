//! Where the workspace is.

use std::env;
use std::path::{Path, PathBuf};

use refold_local::build_tools::BuildTools;

use crate::outcome::{Failure, Outcome};

/// The root of the checkout that this command works on.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    tools: Option<BuildTools>,
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
                tools: None,
            })
            .ok_or_else(|| Failure::failed("run this inside a checkout of Refold"))
    }

    /// The same, built with these.
    pub(crate) fn built_with(self, tools: BuildTools) -> Self {
        Self {
            tools: Some(tools),
            ..self
        }
    }

    /// The variables that every build is to be given.
    pub(crate) fn build_variables(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.tools.into_iter().flat_map(BuildTools::variables)
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
