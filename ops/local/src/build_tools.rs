//! What the C parts of the dependencies are built with.

use crate::install::{Wanted, install};
use crate::{Result, locate};

/// Installs what building the workspace needs beyond Rust and is missing, when that is allowed:
/// librdkafka's configure script refuses to run without a C++ compiler, although the part of it
/// that is linked here is C.
///
/// # Errors
/// When something is missing and may not be installed: the sentence has the command to run.
pub fn ensure() -> Result<()> {
    const TOOLS: [(&str, Wanted); 4] = [
        ("cc", wanted("a C compiler", &["gcc"])),
        ("c++", wanted("a C++ compiler", &["g++"])),
        ("make", wanted("make", &["make"])),
        ("perl", wanted("perl", &["perl"])),
    ];
    let missing: Vec<Wanted> = TOOLS
        .into_iter()
        .filter(|(program, _)| locate::on_path(program).is_none())
        .map(|(_, wanted)| wanted)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing)
}

const fn wanted(what: &'static str, packages: &'static [&'static str]) -> Wanted {
    Wanted { what, packages }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_machine_that_built_this_has_everything() {
        assert!(super::ensure().is_ok());
    }
}
