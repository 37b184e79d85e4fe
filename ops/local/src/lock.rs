//! One exclusive lock per directory, so that two starts at once take turns.

use std::fs::{self, File, OpenOptions};
use std::path::Path;

use crate::{Error, Result};

/// Holds the lock until dropped; the kernel frees it too when the process dies.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Creates `dir` if needed and waits until nobody else holds its lock.
    pub(crate) fn acquire(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)
            .map_err(|e| Error::io(format_args!("could not create {}", dir.display()), &e))?;
        let path = dir.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|e| Error::io(format_args!("could not open {}", path.display()), &e))?;
        file.lock()
            .map_err(|e| Error::io(format_args!("could not lock {}", path.display()), &e))?;
        Ok(Self { _file: file })
    }
}
