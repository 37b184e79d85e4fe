//! What a scene tells.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use crate::cli::Failure;

/// Where a scene tells what it does.
pub(super) struct Console {
    began: Instant,
    file: Option<File>,
}

impl Console {
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let append = |path| File::options().create(true).append(true).open(path);
        let file = path.map(append).transpose();
        Ok(Self {
            began: Instant::now(),
            file: file.map_err(|error| Failure::error("open the console log", error))?,
        })
    }

    pub(super) fn say(&self, what: &str) {
        let line = format!("[{:7.2} s] {what}\n", self.began.elapsed().as_secs_f64());
        eprint!("{line}");
        if let Some(mut file) = self.file.as_ref() {
            // The same words went to stderr; a log that cannot grow ends no measurement.
            let _ = file.write_all(line.as_bytes());
        }
    }
}
