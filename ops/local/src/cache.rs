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
    // One lock for each name: filling one directory may need packages, which have their own.
    let _lock = DirectoryLock::acquire(&root().join(format!("{name}.lock")))?;
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn filling_one_directory_may_need_another() {
        let name = |part: &str| format!("test-{}-{part}", std::process::id());
        let (outer, inner) = (name("outer"), name("inner"));
        let (done, finished) = mpsc::channel();
        let names = (outer.clone(), inner.clone());
        thread::spawn(move || {
            let filled = directory(&names.0, |_| directory(&names.1, |_| Ok(())).map(drop));
            done.send(filled.is_ok())
        });
        let filled = finished.recv_timeout(Duration::from_secs(10));
        for name in [outer, inner] {
            drop(fs::remove_dir_all(root().join(&name)));
            drop(fs::remove_dir_all(root().join(format!("{name}.lock"))));
        }
        assert_eq!(filled, Ok(true), "the two must not wait for each other");
    }
}
