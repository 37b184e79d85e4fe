//! Facts about this machine: memory, users, randomness, boot.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use crate::{Error, Result};

/// A user that a server may run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Whether this process runs as root.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

/// The user that Postgres runs as: itself refuses root, so root hands over to the packaged
/// `postgres` user or, without one, to `nobody`. `None` means: run as the caller.
pub(crate) fn unprivileged() -> Option<Identity> {
    if !is_root() {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    find_user(&passwd, "postgres")
        .or_else(|| find_user(&passwd, "nobody"))
        .or(Some(Identity {
            uid: 65_534,
            gid: 65_534,
        }))
}

fn find_user(passwd: &str, name: &str) -> Option<Identity> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Identity { uid, gid })
    })
}

/// Installed memory in MiB; 4096 when the kernel does not say.
pub(crate) fn memory_mib() -> u64 {
    fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .map_or(4096, |kib| kib / 1024)
}

/// The kernel's id of this boot; process start times are only comparable within one boot.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// `N` random bytes from the kernel.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0_u8; N];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|e| Error::io("could not read /dev/urandom", &e))?;
    Ok(bytes)
}

/// One random number from the kernel.
pub(crate) fn random_u64() -> Result<u64> {
    random_bytes::<8>().map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let passwd = "post:x:1:2::/:/x\npostgres:x:101:104:admin,,,:/var/lib/x:/bin/bash\n";
        let expected = Identity { uid: 101, gid: 104 };
        assert_eq!(find_user(passwd, "postgres"), Some(expected));
        assert_eq!(find_user(passwd, "nobody"), None);
    }
}
