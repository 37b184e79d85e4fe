//! The machine that figures were measured on.

use std::path::Path;

use crate::cli::Failure;

/// Processor, cores and memory in one line.
pub(crate) fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or_else(|| "unknown".to_owned(), |(_, v)| v.trim().to_owned())
    };
    let processor = field(&read("/proc/cpuinfo"), "model name");
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
    format!("{cores} cores of {processor}, {} GiB", kib >> 20)
}

/// Peak resident memory of this process in bytes.
pub(crate) fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

/// CPU time of this process, user and system, in seconds.
pub(crate) fn cpu_seconds() -> f64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}

/// Bytes that the file system of `dir` can still take.
///
/// # Errors
/// When the directory cannot be asked.
pub(crate) fn free_disk_bytes(dir: &Path) -> Result<u64, Failure> {
    let asked = rustix::fs::statvfs(dir);
    let answer = asked.map_err(|error| Failure::error(&format!("ask {}", dir.display()), error))?;
    Ok(answer.f_bavail * answer.f_frsize)
}

/// The revision that this binary was built from.
pub(crate) const fn revision() -> &'static str {
    env!("REFOLD_REVISION")
}
