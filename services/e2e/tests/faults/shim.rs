//! The library that makes calls into the system go wrong, and the directory that tells it when.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use refold_e2e::Launch;
use refold_local::testing::ScratchDir;

/// `preload.rs`, built.
pub(crate) struct Shim {
    library: PathBuf,
}

impl Shim {
    /// Builds it into a directory of the test.
    pub(crate) fn build(scratch: &ScratchDir) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/preload.rs");
        let library = scratch.path().join("librefold_faults.so");
        // Beside the cargo that runs the test, if one does.
        let rustc = env::var_os("CARGO").map(|cargo| PathBuf::from(cargo).with_file_name("rustc"));
        let rustc = rustc.filter(|rustc| rustc.is_file());
        let built = Command::new(rustc.unwrap_or_else(|| "rustc".into()))
            .args(["--edition=2024", "--crate-type=cdylib", "-O"])
            .args(["--crate-name=refold_faults", "-Cpanic=abort", "-Clto"])
            .arg("-o")
            .args([&library, &source])
            .status();
        assert!(
            built.is_ok_and(|status| status.success()),
            "preload.rs is built"
        );
        Self { library }
    }

    /// A directory of faults, for one process or several that share them.
    pub(crate) fn faults(&self, name: &str) -> Faults {
        let dir = self.library.with_file_name(name);
        fs::create_dir(&dir).expect("a directory");
        let faults = Faults {
            dir,
            library: self.library.clone(),
        };
        faults.arm("struck");
        faults
    }
}

/// What goes wrong in the processes that were started with it.
pub(crate) struct Faults {
    dir: PathBuf,
    library: PathBuf,
}

impl Faults {
    /// From now on.
    pub(crate) fn arm(&self, fault: &str) {
        let file = self.dir.join(fault);
        fs::write(&file, "").expect("a file");
        // A server of another user notes there what it has met.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("its rights");
    }

    /// No longer.
    pub(crate) fn lift(&self, fault: &str) {
        fs::remove_file(self.dir.join(fault)).expect("a fault");
    }

    /// How often it was met.
    pub(crate) fn met(&self, fault: &str) -> u64 {
        let file = fs::metadata(self.dir.join(fault));
        file.expect("a file that counts").len()
    }

    /// The variables that put a process under it.
    pub(crate) fn env(&self) -> [(String, OsString); 2] {
        [
            ("LD_PRELOAD".to_owned(), self.library.clone().into()),
            ("REFOLD_FAULTS".to_owned(), self.dir.clone().into()),
        ]
    }

    /// The same for a process of the product.
    pub(crate) fn over(&self, launch: Launch) -> Launch {
        self.env()
            .into_iter()
            .fold(launch, |launch, (name, value)| {
                launch.env(&name, value.to_string_lossy())
            })
    }
}
