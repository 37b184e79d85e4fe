//! The block devices, second by second, and what files take of them.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Counters of one device since the machine booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Reads completed.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Writes completed.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Milliseconds in which at least one request was in flight.
    pub busy_ms: u64,
    /// Flushes completed.
    pub flushes: u64,
}

/// The kernel counts sectors of 512 bytes whatever the device has.
const SECTOR: u64 = 512;

/// Sums the whole devices in the text of `/proc/diskstats`; partitions, loops and memory
/// devices are left out, so that nothing counts twice.
fn parse(text: &str) -> Counters {
    let mut sum = Counters::default();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let Some(name) = fields.get(2) else { continue };
        if !is_whole_device(name) {
            continue;
        }
        let field = |at: usize| {
            fields
                .get(at)
                .and_then(|f| f.parse::<u64>().ok())
                .unwrap_or(0)
        };
        sum.reads += field(3);
        sum.read_bytes += field(5) * SECTOR;
        sum.writes += field(7);
        sum.written_bytes += field(9) * SECTOR;
        sum.busy_ms += field(12);
        sum.flushes += field(18);
    }
    sum
}

fn is_whole_device(name: &str) -> bool {
    let letters = name.trim_end_matches(|c: char| c.is_ascii_digit());
    match name {
        _ if ["loop", "ram", "zram", "dm-", "sr", "fd", "md"].contains(&letters) => false,
        _ if name.starts_with("nvme") => !name.contains('p'),
        _ => letters == name,
    }
}

/// Samples the devices once a second until it is dropped or asked for its lines.
#[derive(Debug)]
pub struct Sampler {
    stop: Arc<AtomicBool>,
    rows: Arc<Mutex<Vec<Vec<String>>>>,
    thread: Option<JoinHandle<()>>,
}

/// What the columns of a sample are called.
pub const HEADER: [&str; 7] = [
    "second",
    "reads",
    "read_bytes",
    "writes",
    "written_bytes",
    "busy_ms",
    "flushes",
];

impl Sampler {
    /// Starts sampling.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start() -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let rows = Arc::new(Mutex::new(Vec::new()));
        let (stopped, kept) = (Arc::clone(&stop), Arc::clone(&rows));
        let thread = std::thread::Builder::new()
            .name("disk-sampler".to_owned())
            .spawn(move || sample(&stopped, &kept))?;
        Ok(Self {
            stop,
            rows,
            thread: Some(thread),
        })
    }

    /// Ends it and returns a row per second, as [`HEADER`] names its fields.
    pub fn finish(mut self) -> Vec<Vec<String>> {
        self.end();
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *rows)
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A sampler that panicked has told so on stderr; its rows so far are fine.
            let _ = thread.join();
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.end();
    }
}

fn sample(stop: &AtomicBool, rows: &Mutex<Vec<Vec<String>>>) {
    let begun = Instant::now();
    let mut last = now();
    for second in 1u32.. {
        let due = Duration::from_secs(1) * second;
        while let Some(left) = due.checked_sub(begun.elapsed()) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            std::thread::park_timeout(left);
        }
        let next = now();
        let deltas = [
            u64::from(second),
            next.reads - last.reads,
            next.read_bytes - last.read_bytes,
            next.writes - last.writes,
            next.written_bytes - last.written_bytes,
            next.busy_ms - last.busy_ms,
            next.flushes - last.flushes,
        ];
        let row = deltas.iter().map(ToString::to_string).collect();
        rows.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(row);
        last = next;
    }
}

/// The devices' counters now.
pub fn now() -> Counters {
    parse(&fs::read_to_string("/proc/diskstats").unwrap_or_default())
}

/// Bytes that the files below `dir` whose path passes `wanted` take on the disk: blocks, not
/// lengths, because logs and indexes are preallocated. Files that vanish meanwhile are not counted.
pub fn bytes_below(dir: &Path, wanted: &dyn Fn(&Path) -> bool) -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(data) = fs::symlink_metadata(&path) else {
            continue;
        };
        if data.is_dir() {
            sum += bytes_below(&path, wanted);
        } else if data.is_file() && wanted(&path) {
            sum += data.blocks() * SECTOR;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_devices_are_summed_and_nothing_counts_twice() {
        let line = |name: &str| format!(" 8 0 {name} 10 0 100 5 20 0 200 6 0 7 11 0 0 0 0 3 1\n");
        let names = [
            "sda",
            "sda1",
            "vdb",
            "nvme0n1",
            "nvme0n1p1",
            "loop0",
            "dm-0",
            "zram0",
        ];
        let text: String = names.iter().map(|name| line(name)).collect();
        let sum = parse(&text);
        let three = Counters {
            reads: 30,
            read_bytes: 300 * 512,
            writes: 60,
            written_bytes: 600 * 512,
            busy_ms: 21,
            flushes: 9,
        };
        assert_eq!(sum, three);
    }

    #[test]
    fn a_sampler_ends_when_it_is_asked() {
        let sampler = Sampler::start().expect("starts");
        let begun = Instant::now();
        let rows = sampler.finish();
        assert!(begun.elapsed() < Duration::from_secs(1));
        assert!(rows.iter().all(|row| row.len() == HEADER.len()));
    }

    #[test]
    fn only_wanted_files_are_counted() {
        let dir = std::env::temp_dir().join(format!("refold-disk-{}", std::process::id()));
        let below = dir.join("t-0");
        fs::create_dir_all(&below).expect("a directory");
        fs::write(below.join("a.log"), vec![1; 20_000]).expect("a file");
        fs::write(below.join("a.index"), vec![1; 20_000]).expect("a file");
        let wanted = |path: &Path| path.extension().is_some_and(|e| e == "log");
        let bytes = bytes_below(&dir, &wanted);
        let all = bytes_below(&dir, &|_: &Path| true);
        fs::remove_dir_all(&dir).expect("removed");
        assert!(bytes > 0 && all > bytes, "{bytes} of {all}");
    }
}
