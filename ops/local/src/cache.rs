//! The per-user cache for downloaded programs, shared by all clones on a machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::lock::DirectoryLock;
use crate::{Error, Result};

/// `$XDG_CACHE_HOME/refold`, else `~/.cache/refold`, else a directory under `/var/tmp`.
pub(crate) fn root() -> PathBuf {
    let absolute = |name: &str| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(|| PathBuf::from("/var/tmp/refold-cache"))
        .join("refold")
}

/// The cached directory `name`, filled by `fill` when it does not exist yet.
///
/// `fill` works in a directory beside the final one which is renamed when it is complete, so a
/// download that was interrupted is never mistaken for a finished one.
pub(crate) fn directory(name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let done = root().join(name);
    if done.is_dir() {
        return Ok(done);
    }
    let _lock = DirectoryLock::acquire(&root())?;
    if done.is_dir() {
        return Ok(done);
    }
    let partial = root().join(format!("{name}.partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial)
            .map_err(|e| Error::io(format_args!("could not clear {}", partial.display()), &e))?;
    }
    fs::create_dir_all(&partial)
        .map_err(|e| Error::io(format_args!("could not create {}", partial.display()), &e))?;
    fill(&partial)?;
    fs::rename(&partial, &done)
        .map_err(|e| Error::io(format_args!("could not rename to {}", done.display()), &e))?;
    Ok(done)
}
