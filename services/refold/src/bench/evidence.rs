//! What one run is looked at with: threads, the database's waits and counters, the disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use refold_bench::accounts::thread_cpu_seconds;
use refold_bench::disk;
use refold_bench::profile::fold;
use refold_bench::table::csv;
use serde_json::Value;
use serde_json::json;
use tokio::process::Child;
use tokio::process::Command;

use super::report::write;
use super::site::SeededLog;
use super::site::Site;
use crate::cli::Failure;
use crate::connect::query;

/// Between two looks at threads and waits. A look at the waits is a session of its own.
const EVERY: Duration = Duration::from_millis(500);

/// The counters of the database and the server, as one JSON object.
const COUNTERS: &str = "select json_build_object(\
    'pg_stat_wal', (select to_json(w) from pg_stat_wal w), \
    'pg_stat_bgwriter', (select to_json(b) from pg_stat_bgwriter b), \
    'pg_stat_database', (select to_json(d) from pg_stat_database d where datname = current_database()))";

/// What the sessions of this database are waiting for now; running ones wait for nothing.
const WAITS: &str = "select coalesce(wait_event_type || ':' || wait_event, 'running') \
    from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and state = 'active'";

/// Runs one part under observation. Writes `PREFIX-threads.folded`, `PREFIX-waits.csv`,
/// `PREFIX-diskstats.csv` and `PREFIX-postgres.json`, and `PREFIX-stacks.folded` where there
/// is `perf`; answers the run's figures.
pub(super) async fn collect(
    site: &Site,
    log: &SeededLog,
    (database, flags): (&str, &[String]),
    prefix: &Path,
) -> Result<Value, Failure> {
    let named = |suffix: &str| {
        let name = prefix.file_name().unwrap_or_default().to_string_lossy();
        prefix.with_file_name(format!("{name}-{suffix}"))
    };
    let before = counters(database).await?;
    let sampler = disk::Sampler::start()
        .map_err(|error| Failure::error("sample the block devices", error))?;
    let account = site.account();
    let part = site.start("part", log, (database, flags, None))?;
    let pid = part.pid();
    let recording = named("perf.data");
    let profiler = pid.and_then(|pid| Profiler::start(pid, &site.server_pids(), &recording));
    let mut ended = Box::pin(part.figures(site.dir()));
    let mut seen = Seen::default();
    let mut figures = loop {
        tokio::select! {
            figures = &mut ended => break figures?,
            () = tokio::time::sleep(EVERY) => seen.look(pid, database).await,
        }
    };
    figures["profile"] = match profiler {
        Some(profiler) => profiler.fold(&named("stacks.folded")).await,
        None => json!("no perf on this machine: CPU by thread only"),
    };
    let client = figures["client_cpu_seconds"].as_f64().unwrap_or_default();
    let spent = account.close(&[("client", client)]);
    write(
        &named("diskstats.csv"),
        &csv(&disk::HEADER, &sampler.finish()),
    )?;
    let after = counters(database).await?;
    let both = json!({ "before": before, "after": after });
    write(&named("postgres.json"), &format!("{both:#}\n"))?;
    write(&named("threads.folded"), &seen.folded())?;
    let waits = seen
        .waits
        .iter()
        .map(|(wait, n)| vec![wait.clone(), n.to_string()]);
    write(
        &named("waits.csv"),
        &csv(&["wait", "samples"], &waits.collect::<Vec<_>>()),
    )?;
    site.compare(log, database, &mut figures).await?;
    figures["bound"] = json!(spent.bound());
    figures["core_seconds"] = json!(spent);
    Ok(figures)
}

/// `perf`, sampling the measured process and the servers 99 times a CPU second.
struct Profiler {
    child: Child,
    recording: PathBuf,
}

impl Profiler {
    /// `None` where there is no `perf`.
    fn start(pid: u32, servers: &[u32], recording: &Path) -> Option<Self> {
        let all = servers.iter().chain([&pid]).map(ToString::to_string);
        let pids = all.collect::<Vec<_>>().join(",");
        // A clock, not a hardware counter: virtual machines often have none.
        let child = Command::new("perf")
            .args([
                "record",
                "-e",
                "cpu-clock",
                "-F",
                "99",
                "-g",
                "-p",
                &pids,
                "-o",
            ])
            .arg(recording)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .ok()?;
        Some(Self {
            child,
            recording: recording.to_path_buf(),
        })
    }

    /// Ends the sampling and writes the folded stacks; answers what came of it.
    async fn fold(mut self, into: &Path) -> Value {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            // It writes its file out at SIGINT; when it is gone already, there is nothing to end.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
        let _ = self.child.wait().await;
        let script = Command::new("perf")
            .args(["script", "-i"])
            .arg(&self.recording)
            .output()
            .await;
        let _ = std::fs::remove_file(&self.recording);
        let folded = script.map(|out| fold(&String::from_utf8_lossy(&out.stdout)));
        match folded {
            Ok(folded) if !folded.is_empty() => match write(into, &folded) {
                Ok(()) => {
                    json!("perf record -e cpu-clock -F 99 -g over projector, broker and postgres")
                }
                Err(failure) => json!(failure.to_string()),
            },
            _ => json!("perf gave no samples: CPU by thread only"),
        }
    }
}

/// The database's counters; the server publishes a session's at its end or within a second.
async fn counters(database: &str) -> Result<Value, Failure> {
    let text = query(database, COUNTERS).await?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::error("read the database's counters", error))
}

#[derive(Default)]
struct Seen {
    /// CPU seconds by thread name; a process's last sample stands for it.
    threads: BTreeMap<String, f64>,
    /// How often a session was seen waiting for what.
    waits: BTreeMap<String, u64>,
}

impl Seen {
    async fn look(&mut self, pid: Option<u32>, database: &str) {
        for (name, seconds) in pid.map(thread_cpu_seconds).unwrap_or_default() {
            // Bulk threads end with their partition: a sum that fell has lost some of them.
            let most = self.threads.entry(name).or_insert(0.0);
            *most = most.max(seconds);
        }
        // A look that fails is one sample less.
        let waits = query(database, WAITS).await.unwrap_or_default();
        for wait in waits.lines() {
            *self.waits.entry(wait.to_owned()).or_insert(0) += 1;
        }
    }

    /// Hundredths of a CPU second by thread, one `process;thread count` a line, as flame graph
    /// programs read it.
    fn folded(&self) -> String {
        let lines = self.threads.iter();
        lines
            .map(|(name, seconds)| format!("refold;{name} {:.0}\n", seconds * 100.0))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_folded_in_hundredths_of_a_second() {
        let threads = BTreeMap::from([("bulk".to_owned(), 1.25), ("rdk:broker".to_owned(), 0.5)]);
        let seen = Seen {
            threads,
            ..Seen::default()
        };
        assert_eq!(seen.folded(), "refold;bulk 125\nrefold;rdk:broker 50\n");
    }
}
