//! Finding installed programs, and getting those that are missing.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::install::{self, Wanted};
use crate::{Error, Result};

const JAVA: Wanted = Wanted {
    what: "Java 17",
    packages: &["openjdk-17-jre-headless", "default-jre-headless"],
};
const MAVEN: Wanted = Wanted {
    what: "Maven",
    packages: &["maven"],
};
const POSTGRES: Wanted = Wanted {
    what: "Postgres",
    packages: &["postgresql-15", "postgresql"],
};

/// The first executable file of that name on PATH.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|dir| dir.join(program))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// A Java of at least version 17, installed if need be.
pub(crate) fn java() -> Result<PathBuf> {
    if let Some(found) = find_java() {
        return Ok(found);
    }
    install::install(&[JAVA])?;
    find_java().ok_or_else(|| Error::new("Java 17 was installed but `java` is not on PATH"))
}

/// Java and Maven, installed together if one is missing.
pub(crate) fn java_and_maven() -> Result<(PathBuf, PathBuf)> {
    let missing: Vec<Wanted> = [(find_java(), JAVA), (on_path("mvn"), MAVEN)]
        .into_iter()
        .filter_map(|(found, wanted)| found.is_none().then_some(wanted))
        .collect();
    if !missing.is_empty() {
        install::install(&missing)?;
    }
    let maven =
        on_path("mvn").ok_or_else(|| Error::new("Maven was installed but `mvn` is not on PATH"))?;
    Ok((java()?, maven))
}

fn find_java() -> Option<PathBuf> {
    let home = env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    home.into_iter()
        .filter(|path| is_executable(path))
        .chain(on_path("java"))
        .find(|java| {
            Command::new(java)
                .arg("-version")
                .stdin(Stdio::null())
                .output()
                .ok()
                .and_then(|out| java_major(&String::from_utf8_lossy(&out.stderr)))
                .is_some_and(|major| major >= 17)
        })
}

/// `openjdk version "17.0.15" 2025-04-15` and the old `"1.8.0"` style.
fn java_major(banner: &str) -> Option<u32> {
    let version = banner.split('"').nth(1)?;
    let mut parts = version.split(['.', '-', '+']);
    let first: u32 = parts.next()?.parse().ok()?;
    if first == 1 {
        return parts.next()?.parse().ok();
    }
    Some(first)
}

/// The directory with `postgres`, `initdb` and `psql`, installed if need be.
pub(crate) fn postgres_bin() -> Result<PathBuf> {
    if let Some(found) = find_postgres_bin() {
        return Ok(found);
    }
    install::install(&[POSTGRES])?;
    find_postgres_bin().ok_or_else(|| {
        Error::new("Postgres was installed but its programs are not under /usr/lib/postgresql")
    })
}

/// A found installation, without installing anything: `pg_config` on PATH, else the newest
/// under Debian's directory.
pub(crate) fn find_postgres_bin() -> Option<PathBuf> {
    let complete = |dir: &PathBuf| {
        ["postgres", "initdb", "psql"]
            .iter()
            .all(|program| is_executable(&dir.join(program)))
    };
    let configured = on_path("pg_config").and_then(|pg_config| {
        let out = Command::new(pg_config).arg("--bindir").output().ok()?;
        Some(PathBuf::from(String::from_utf8(out.stdout).ok()?.trim()))
    });
    configured
        .filter(complete)
        .or_else(|| newest_debian_postgres(Path::new("/usr/lib/postgresql"), complete))
}

fn newest_debian_postgres(root: &Path, complete: impl Fn(&PathBuf) -> bool) -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(root)
        .ok()?
        .filter_map(std::result::Result::ok)
        .filter_map(|entry| {
            let major = entry.file_name().to_str()?.parse().ok()?;
            Some((major, entry.path().join("bin")))
        })
        .filter(|(_, bin)| complete(bin))
        .collect();
    found.sort();
    found.pop().map(|(_, bin)| bin)
}

/// The Prometheus program: on PATH, else unpacked from Debian's package into the cache.
pub(crate) fn prometheus() -> Result<PathBuf> {
    unpacked("prometheus", "prometheus")
}

/// Prometheus' rule checker, which is in the same package.
pub(crate) fn promtool() -> Result<PathBuf> {
    unpacked("prometheus", "promtool")
}

/// PgBouncer and the libraries that it needs and a machine may not have: on PATH, else unpacked
/// from Debian's packages into the cache.
pub(crate) fn pgbouncer() -> Result<Vec<PathBuf>> {
    if let Some(found) = on_path("pgbouncer") {
        return Ok(vec![found]);
    }
    let program = install::unpack("pgbouncer")?.join("usr/sbin/pgbouncer");
    if !is_executable(&program) {
        return Err(Error::new(format!(
            "the pgbouncer package has no program at {}",
            program.display()
        )));
    }
    let mut files = vec![program];
    for package in ["libc-ares2", "libevent-2.1-7"] {
        let root = install::unpack(package)?.join("usr/lib");
        let directories = fs::read_dir(&root)
            .map_err(|e| Error::io(format_args!("could not read {}", root.display()), &e))?;
        let within = directories
            .filter_map(std::result::Result::ok)
            .filter_map(|entry| fs::read_dir(entry.path()).ok())
            .flatten()
            .filter_map(std::result::Result::ok);
        let libraries = within.map(|entry| entry.path()).filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            path.is_file() && name.contains(".so.")
        });
        files.extend(libraries);
    }
    Ok(files)
}

fn unpacked(package: &'static str, program: &str) -> Result<PathBuf> {
    if let Some(found) = on_path(program) {
        return Ok(found);
    }
    let path = install::unpack(package)?.join("usr/bin").join(program);
    if is_executable(&path) {
        return Ok(path);
    }
    Err(Error::new(format!(
        "the {package} package has no program at {}",
        path.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_versions_are_read_in_old_and_new_style() {
        assert_eq!(
            java_major("openjdk version \"17.0.15\" 2025-04-15"),
            Some(17)
        );
        assert_eq!(java_major("java version \"1.8.0_402\""), Some(8));
        assert_eq!(java_major("openjdk version \"25-ea\" 2025-09-16"), Some(25));
        assert_eq!(java_major("command not found"), None);
    }

    #[test]
    fn the_newest_complete_installation_wins_by_number_not_by_name() {
        let root = std::env::temp_dir().join(format!("refold-pg-{}", std::process::id()));
        for major in ["9", "15", "17"] {
            fs::create_dir_all(root.join(major).join("bin")).expect("temp directories");
        }
        let found = newest_debian_postgres(&root, |bin| !bin.ends_with("17/bin"));
        fs::remove_dir_all(&root).expect("temp directories");
        assert_eq!(found, Some(root.join("15/bin")));
    }
}
