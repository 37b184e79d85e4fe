//! What the C parts of the dependencies are built with.

use std::env;
use std::process::{Command, Stdio};

use crate::install::{Wanted, install};
use crate::{Result, locate};

/// The variable by which the build is told where OpenSSL comes from: `1` for the system's, `0`
/// for one that is compiled from source. `.cargo/config.toml` says `1`.
pub const OPENSSL_VARIABLE: &str = "OPENSSL_NO_VENDOR";

/// What of the machine the build rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildTools {
    system_openssl: bool,
}

impl BuildTools {
    /// The variables that every build is to be given.
    pub fn variables(self) -> [(&'static str, &'static str); 1] {
        [(
            OPENSSL_VARIABLE,
            if self.system_openssl { "1" } else { "0" },
        )]
    }
}

/// Installs what building the workspace needs beyond Rust and is missing, when that is allowed:
/// librdkafka's configure script refuses to run without a C++ compiler, although the part of it
/// that is linked here is C.
///
/// The system's OpenSSL is linked when it is there or can be installed; compiling it takes four
/// minutes on two cores, and needs perl.
///
/// # Errors
/// When something is missing and may not be installed: the sentence has the command to run.
pub fn ensure() -> Result<BuildTools> {
    let wants_own = env::var(OPENSSL_VARIABLE).is_ok_and(|value| value == "0");
    let system_openssl = !wants_own && ensure_openssl();
    let mut tools = vec![
        ("cc", wanted("a C compiler", &["gcc"])),
        ("c++", wanted("a C++ compiler", &["g++"])),
        ("make", wanted("make", &["make"])),
    ];
    if !system_openssl {
        tools.push(("perl", wanted("perl", &["perl"])));
    }
    let missing: Vec<Wanted> = tools
        .into_iter()
        .filter(|(program, _)| locate::on_path(program).is_none())
        .map(|(_, wanted)| wanted)
        .collect();
    if !missing.is_empty() {
        install(&missing)?;
    }
    Ok(BuildTools { system_openssl })
}

/// Whether the system's OpenSSL can be linked, if need be after installing it.
fn ensure_openssl() -> bool {
    if has_openssl() {
        return true;
    }
    let wanted = [
        wanted("pkg-config", &["pkg-config", "pkgconf"]),
        wanted("OpenSSL's headers", &["libssl-dev"]),
    ];
    if let Err(error) = install(&wanted) {
        eprintln!("{error}; until then OpenSSL is compiled from source, which takes minutes");
        return false;
    }
    has_openssl()
}

fn has_openssl() -> bool {
    Command::new("pkg-config")
        .args(["--exists", "openssl >= 1.1.1"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

const fn wanted(what: &'static str, packages: &'static [&'static str]) -> Wanted {
    Wanted { what, packages }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_built_this_has_everything() {
        assert!(ensure().is_ok());
    }

    #[test]
    fn a_build_is_told_which_openssl_it_links() {
        let told = |system_openssl| BuildTools { system_openssl }.variables();
        assert_eq!(told(true), [("OPENSSL_NO_VENDOR", "1")]);
        assert_eq!(told(false), [("OPENSSL_NO_VENDOR", "0")]);
    }
}
