//! Who spent the processors: CPU time by process tree and of the whole machine, from the
//! kernel's counters.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

/// The kernel counts CPU time in hundredths of a second for every program (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// The fields of a process that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// Own user and system time.
    own_ticks: u64,
    /// That of children that ended and were waited for.
    ended_children_ticks: u64,
}

/// Parses `/proc/PID/stat`.
fn parse_stat(text: &str) -> Option<Stat> {
    // The name in parentheses may hold blanks and parentheses.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        own_ticks: ticks(11)? + ticks(12)?,
        ended_children_ticks: ticks(13)? + ticks(14)?,
    })
}

/// CPU seconds of the processes `roots` and all of their descendants so far.
///
/// The time of a child that ended counts as soon as its parent has waited for it, so the sum
/// of a tree only grows as long as its roots live.
pub fn tree_cpu_seconds(roots: &[u32]) -> f64 {
    let mut stats = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let stat = fs::read_to_string(entry.path().join("stat"));
        if let (Some(pid), Some(stat)) = (pid, stat.ok().as_deref().and_then(parse_stat)) {
            stats.insert(pid, stat);
        }
    }
    sum_of_trees(&stats, roots)
}

fn sum_of_trees(stats: &BTreeMap<u32, Stat>, roots: &[u32]) -> f64 {
    let mut members = roots.to_vec();
    let mut at = 0;
    while let Some(&parent) = members.get(at) {
        let children = stats.iter().filter(|(_, stat)| stat.parent == parent);
        let new: Vec<u32> = children
            .map(|(pid, _)| *pid)
            .filter(|pid| !members.contains(pid))
            .collect();
        members.extend(new);
        at += 1;
    }
    let ticks: u64 = members
        .iter()
        .filter_map(|pid| stats.get(pid))
        .map(|stat| stat.own_ticks + stat.ended_children_ticks)
        .sum();
    ticks as f64 / TICKS_PER_SECOND
}

/// CPU time of the whole machine since it booted, in core-seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Machine {
    busy: f64,
    idle: f64,
    disk_wait: f64,
    stolen: f64,
}

fn parse_machine(text: &str) -> Option<Machine> {
    let line = text.lines().find(|line| line.starts_with("cpu "))?;
    let ticks: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .map_while(|field| field.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal
    let field = |at: usize| ticks.get(at).copied().unwrap_or_default() / TICKS_PER_SECOND;
    Some(Machine {
        busy: field(0) + field(1) + field(2) + field(5) + field(6),
        idle: field(3),
        disk_wait: field(4),
        stolen: field(7),
    })
}

/// An account that was opened: named process trees and the whole machine at one moment.
#[derive(Debug)]
pub struct Account {
    groups: Vec<(String, Vec<u32>, f64)>,
    machine: Machine,
    opened: Instant,
}

/// What was spent between opening and closing, in core-seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spent {
    /// Wall clock in between.
    pub seconds: f64,
    /// By named group.
    pub groups: BTreeMap<String, f64>,
    /// Busy, but in none of the groups.
    pub others: f64,
    /// Neither busy nor waiting for a disk.
    pub idle: f64,
    /// Idle with a disk request of ours outstanding.
    pub disk_wait: f64,
    /// Wanted, but given to other guests of the host.
    pub stolen: f64,
}

impl Account {
    /// Opens an account of named groups, each the pids of its roots.
    pub fn open(groups: &[(&str, Vec<u32>)]) -> Self {
        let groups = groups.iter();
        Self {
            groups: groups
                .map(|(name, roots)| ((*name).to_owned(), roots.clone(), tree_cpu_seconds(roots)))
                .collect(),
            machine: machine_now(),
            opened: Instant::now(),
        }
    }

    /// Closes it. `own` are core-seconds of groups that the caller accounts for itself,
    /// such as processes that have ended by now.
    pub fn close(self, own: &[(&str, f64)]) -> Spent {
        let now = machine_now();
        let known = self.groups.iter().map(|(name, roots, before)| {
            (name.clone(), (tree_cpu_seconds(roots) - before).max(0.0))
        });
        let mut groups: BTreeMap<String, f64> = known.collect();
        for (name, seconds) in own {
            groups.insert((*name).to_owned(), *seconds);
        }
        let named: f64 = groups.values().sum();
        Spent {
            seconds: self.opened.elapsed().as_secs_f64(),
            others: (now.busy - self.machine.busy - named).max(0.0),
            idle: now.idle - self.machine.idle,
            disk_wait: now.disk_wait - self.machine.disk_wait,
            stolen: now.stolen - self.machine.stolen,
            groups,
        }
    }
}

fn machine_now() -> Machine {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    parse_machine(&text).unwrap_or_default()
}

impl Spent {
    /// The sum of it all: cores times wall clock.
    fn total(&self) -> f64 {
        let named: f64 = self.groups.values().sum();
        named + self.others + self.idle + self.disk_wait + self.stolen
    }

    /// What bounds the run, in words: the processors when nine tenths of them were busy (and
    /// who took the most), the disk when a tenth of the time went into waiting for it, else
    /// waiting of another kind, such as for a worker that is alone at the end.
    pub fn bound(&self) -> String {
        let total = self.total().max(1e-9);
        let free = (self.idle + self.disk_wait) / total;
        let all = self
            .groups
            .iter()
            .map(|(name, spent)| (name.as_str(), *spent));
        let all = all.chain([("processes outside the account", self.others)]);
        let largest = all.max_by(|a, b| a.1.total_cmp(&b.1));
        let (name, spent) = largest.unwrap_or(("nobody", 0.0));
        let most = format!("{name} took {:.0} % of the cores", 100.0 * spent / total);
        if free < 0.10 {
            format!("processors: {most}")
        } else if self.disk_wait / total >= 0.10 {
            format!(
                "disk: {:.0} % of the cores waited for it; {most}",
                100.0 * self.disk_wait / total
            )
        } else {
            format!(
                "waiting: {:.0} % of the cores had nothing to do; {most}",
                100.0 * free
            )
        }
    }
}

/// Peak resident memory of a process in bytes, while it lives.
pub fn peak_memory_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib * 1024)
}

/// CPU seconds by thread name of a process, while it lives; threads of one name are summed
/// and digits at a name's end are dropped, so that a pool is one line.
pub fn thread_cpu_seconds(pid: u32) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    for task in tasks.into_iter().flatten().flatten() {
        if let Some((name, seconds)) = thread_of(&task.path()) {
            *sums.entry(name).or_insert(0.0) += seconds;
        }
    }
    sums
}

fn thread_of(task: &Path) -> Option<(String, f64)> {
    let name = fs::read_to_string(task.join("comm")).ok()?;
    let stat = parse_stat(&fs::read_to_string(task.join("stat")).ok()?)?;
    let name = name.trim().trim_end_matches(|c: char| c.is_ascii_digit());
    let name = name.trim_end_matches(['-', 'p']).to_owned();
    Some((name, stat.own_ticks as f64 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(parent: u32, own: u64, ended: u64) -> Stat {
        Stat {
            parent,
            own_ticks: own,
            ended_children_ticks: ended,
        }
    }

    #[test]
    fn a_name_with_blanks_and_parentheses_is_no_field() {
        let text = "17 (a (b) c) S 3 17 17 0 -1 4194560 1 2 3 4 150 50 30 20 20 0 1 0 5";
        assert_eq!(parse_stat(text), Some(stat(3, 200, 50)));
    }

    #[test]
    fn a_tree_counts_descendants_and_ended_children_once() {
        let stats = BTreeMap::from([
            (10, stat(1, 100, 40)),
            (11, stat(10, 50, 0)),
            (12, stat(11, 10, 0)),
            (20, stat(1, 1_000, 0)),
        ]);
        assert_eq!(sum_of_trees(&stats, &[10]), 2.0);
        // A root below another root is not counted twice.
        assert_eq!(sum_of_trees(&stats, &[10, 11]), 2.0);
    }

    #[test]
    fn own_work_shows_in_the_account() {
        let account = Account::open(&[("us", vec![std::process::id()])]);
        let begun = Instant::now();
        let mut number = 1u64;
        while tree_cpu_seconds(&[std::process::id()]) - account.groups[0].2 < 0.05 {
            number = number
                .wrapping_mul(6_364_136_223_846_793_005)
                .rotate_left(7);
            assert!(
                begun.elapsed().as_secs() < 60,
                "no CPU time was accounted ({number})"
            );
        }
        let spent = account.close(&[("given", 1.5)]);
        assert!(spent.groups["us"] >= 0.05, "{spent:?}");
        assert_eq!(spent.groups["given"], 1.5);
        assert!(peak_memory_bytes(std::process::id()).is_some_and(|bytes| bytes > 1 << 20));
        assert!(!thread_cpu_seconds(std::process::id()).is_empty());
    }

    fn spent(client: f64, idle: f64, disk_wait: f64) -> Spent {
        Spent {
            seconds: 10.0,
            groups: BTreeMap::from([("client".to_owned(), client), ("broker".to_owned(), 1.0)]),
            others: 0.0,
            idle,
            disk_wait,
            stolen: 0.0,
        }
    }

    #[test]
    fn the_bound_is_named_by_what_is_full() {
        assert!(
            spent(18.0, 1.0, 0.0)
                .bound()
                .starts_with("processors: client took 90 %")
        );
        assert!(spent(9.0, 2.0, 8.0).bound().starts_with("disk: 40 %"));
        assert!(spent(9.0, 10.0, 0.0).bound().starts_with("waiting: 50 %"));
        let crowded = Spent {
            others: 12.0,
            ..spent(7.0, 0.0, 0.0)
        };
        let bound = crowded.bound();
        assert!(
            bound.contains("processes outside the account took 60 %"),
            "{bound}"
        );
    }
}
