//! Installing what is missing, when that is allowed.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::lock::DirectoryLock;
use crate::{Error, Result, cache, locate, machine};

/// A thing to install: for messages, and package names in order of preference, because Debian
/// releases carry different major versions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) what: &'static str,
    pub(crate) packages: &'static [&'static str],
}

/// Installs the first available package of every list, or says which command would.
pub(crate) fn install(wanted: &[Wanted]) -> Result<()> {
    let what: Vec<&str> = wanted.iter().map(|w| w.what).collect();
    let what = what.join(" and ");
    let first: Vec<&str> = wanted.iter().map(|w| w.packages[0]).collect();
    if !machine::is_root() || locate::on_path("apt-get").is_none() {
        return Err(Error::new(format!(
            "{what} not found; install what is missing, for example with: sudo apt-get update && \
             sudo apt-get install -y --no-install-recommends {}",
            first.join(" ")
        )));
    }
    // dpkg allows one at a time; waiting our turn beats failing on its lock.
    let _lock = DirectoryLock::acquire(&cache::root().join("packages"))?;
    let packages = available(wanted)?;
    eprintln!("installing {} (for {what})", packages.join(" "));
    let _no_services = NoServices::for_now()?;
    let mut args = vec!["install", "-y", "--no-install-recommends"];
    args.extend(packages.iter().map(String::as_str));
    apt(&args, Path::new("/"))
}

/// Unpacks one Debian package into the per-user cache without installing it: no system
/// service, no system files. Returns the root of the unpacked tree.
pub(crate) fn unpack(package: &'static str) -> Result<PathBuf> {
    let wanted = Wanted {
        what: package,
        packages: &[],
    };
    if locate::on_path("apt-get").is_none() || locate::on_path("dpkg-deb").is_none() {
        return Err(Error::new(format!(
            "{} not found, and there is no apt-get to fetch it; put its program on PATH",
            wanted.what
        )));
    }
    cache::directory(package, |dir| {
        eprintln!("fetching the {package} package");
        if apt(&["download", package], dir).is_err() {
            refresh_lists()?;
            apt(&["download", package], dir)?;
        }
        let archive = fs::read_dir(dir)
            .map_err(|e| Error::io(format_args!("could not read {}", dir.display()), &e))?
            .filter_map(std::result::Result::ok)
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|e| e == "deb"))
            .ok_or_else(|| Error::new(format!("apt-get downloaded no {package} package")))?;
        run(
            Command::new("dpkg-deb").arg("-x").arg(&archive).arg(dir),
            &format!("unpacking {}", archive.display()),
        )
    })
}

/// One existing package per list; refreshes apt's lists when one has none.
fn available(wanted: &[Wanted]) -> Result<Vec<String>> {
    let pick = |want: &Wanted| want.packages.iter().find(|p| is_known(p)).copied();
    if wanted.iter().any(|want| pick(want).is_none()) {
        refresh_lists()?;
    }
    wanted
        .iter()
        .map(|want| {
            pick(want).map(str::to_owned).ok_or_else(|| {
                Error::new(format!(
                    "{} not found, and apt knows none of: {}",
                    want.what,
                    want.packages.join(", ")
                ))
            })
        })
        .collect()
}

/// Whether apt could install the package (a name that is only referred to has no versions).
fn is_known(package: &str) -> bool {
    Command::new("apt-cache")
        .args(["show", "--no-all-versions", package])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|out| out.status.success() && !out.stdout.is_empty())
}

fn refresh_lists() -> Result<()> {
    apt(&["update"], Path::new("/"))
}

fn apt(args: &[&str], dir: &Path) -> Result<()> {
    run(
        Command::new("apt-get")
            .arg("-qq")
            .args(args)
            .current_dir(dir)
            .env("DEBIAN_FRONTEND", "noninteractive"),
        &format!("apt-get {}", args.join(" ")),
    )
}

fn run(command: &mut Command, what: &str) -> Result<()> {
    let out = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Error::io(what, &e))?;
    if out.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&out.stderr);
    let lines: Vec<&str> = errors.lines().collect();
    let last = lines[lines.len().saturating_sub(5)..].join("; ");
    Err(Error::new(format!("{what} failed: {last}")))
}

/// While it lives, packages may not start services: the system's own Postgres cluster is not
/// ours to start. An existing policy is respected and left alone.
struct NoServices {
    created: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    fn for_now() -> Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(POLICY);
        match file {
            Ok(mut file) => {
                file.write_all(b"#!/bin/sh\nexit 101\n")
                    .map_err(|e| Error::io(format_args!("could not write {POLICY}"), &e))?;
                Ok(Self { created: true })
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(Self { created: false }),
            Err(e) => Err(Error::io(format_args!("could not create {POLICY}"), &e)),
        }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.created {
            // Left behind it would only keep services from starting; say so rather than panic.
            if let Err(e) = fs::remove_file(POLICY) {
                eprintln!("could not remove {POLICY}: {e}; please remove it");
            }
        }
    }
}
