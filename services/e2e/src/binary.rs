//! The binary under test.

use std::env;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// Names a binary to test instead of the one that this checkout builds.
const BINARY_VARIABLE: &str = "REFOLD_E2E_BINARY";

/// The `refold` binary of this checkout, in the profile of the test; built once per
/// test program when it is missing or older than its sources.
///
/// # Panics
/// When it cannot be built.
pub fn refold_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match env::var_os(BINARY_VARIABLE) {
        Some(path) => PathBuf::from(path),
        None => build(),
    })
}

fn build() -> PathBuf {
    let test = env::current_exe().expect("the path of this test program");
    // target/PROFILE/deps/TEST
    let profile = test.ancestors().nth(2).expect("a Cargo build directory");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    // The programs alone, without the features that tests ask of what they depend on, so that they
    // are built apart from the tests. `cargo x test` builds both at once and names its own.
    build
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .args(["build", "--quiet", "--workspace", "--bins"]);
    if profile.file_name().is_some_and(|name| name == "release") {
        build.arg("--release");
    }
    let status = build.status().expect("cargo starts");
    assert!(status.success(), "the refold binary does not build");
    let binary = profile.join("refold");
    assert!(binary.is_file(), "no binary at {}", binary.display());
    binary
}
