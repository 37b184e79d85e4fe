//! The rebuild of a new version beside the one that serves.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;

use refold_bench::accounts::Account;
use refold_domain::version::VersionState;
use refold_ports::Registry;
use refold_ports::registry::MarkRow;
use refold_telemetry::names::ACTOR_STATE;

use super::Scene;
use super::past;
use crate::cli::Failure;
use crate::demo::figures::Rebuild;
use crate::demo::processes::Role;
use crate::demo::processes::free_address;
use crate::machine;

/// How long one step on the way to two versions may take before it counts as hung.
const STEP_BOUND: Duration = Duration::from_secs(600);

/// A rebuild that takes no longer than this tells its end only.
const TELL_AFTER: Duration = Duration::from_secs(10);

impl Scene {
    /// From an empty log to two versions at its moving end, the first of them read.
    pub(in crate::demo) async fn build_both(
        &mut self,
        live: &str,
        new: &str,
    ) -> Result<Rebuild, Failure> {
        let stream = self.args.stream.clone();
        self.step(&format!(
            "seed {} events of {} accounts into {} partitions",
            stream.events, stream.aggregates, stream.partitions
        ));
        self.seed().await?;
        self.step(&format!("start {live} live and the api"));
        self.start_live(live).await?;
        self.start_api().await?;
        self.wait_state(live, VersionState::Active, STEP_BOUND)
            .await?;
        self.step(&format!(
            "read at {}/s, append {} events/s",
            self.args.read_rate, self.args.tail_rate
        ));
        self.start_load();
        self.start_tail()?;
        self.wait_tail(STEP_BOUND).await?;
        self.step(&format!(
            "rebuild {new} from offset 0 beside it, and catch up"
        ));
        let rebuild = self.rebuild(new, 0).await?;
        self.wait_state(new, VersionState::Ready, STEP_BOUND)
            .await?;
        Ok(rebuild)
    }

    /// Rebuilds a version; the projector is SIGKILLed `kills` times in the middle and started again.
    pub(in crate::demo) async fn rebuild(
        &mut self,
        version: &str,
        kills: u32,
    ) -> Result<Rebuild, Failure> {
        let registry = self.registry().await?;
        let metrics = free_address()?;
        let mode = [
            format!("--metrics-listen={metrics}"),
            "--mode=replay".to_owned(),
            "--from-offset=0".to_owned(),
            "--catch-up".to_owned(),
            format!("--rate-limit={}", self.args.rate_limit.0),
        ];
        let partitions = self.args.stream.partitions as usize;
        let history = self.args.stream.events.0;
        let began = Instant::now();
        let mut replay = self.projector(version, &mode, "replay")?;
        let mut killed = 0;
        let deadline = began + Duration::from_secs(60 + history / 100_000);
        let mut account = self.open_account(&replay);
        let mut own = machine::cpu_seconds();
        let (mut peak, mut told) = (0, 0);
        loop {
            self.check_roles()?;
            replay.check()?;
            peak = peak.max(replay.peak_memory_bytes());
            let marks = match registry.version(version).await {
                Ok(row) => registry.marks(row.id).await?,
                Err(_) => Vec::new(),
            };
            let loaded = marks.iter().filter(|mark| mark.has_leaf).count();
            // A kill counts while some partitions are in and others are not:
            // the workers hold folded events that no transaction has seen.
            let due = partitions * (killed as usize + 1) / (kills as usize + 1);
            if killed < kills && loaded >= due.max(1) && loaded < partitions {
                replay.kill().await?;
                killed += 1;
                self.note(&format!(
                    "SIGKILL with {loaded} of {partitions} partitions loaded"
                ));
                replay = self.projector(version, &mode, "replay")?;
                account = self.open_account(&replay);
                own = machine::cpu_seconds();
            }
            if loaded == partitions && reached(&marks) {
                break;
            }
            if loaded > told && began.elapsed() > TELL_AFTER {
                told = loaded;
                self.note(&format!("{loaded} of {partitions} partitions loaded"));
            }
            past(deadline, || format!("{version} was not rebuilt in time"))?;
            tokio::time::sleep(self.staging.look).await;
        }
        let seconds = began.elapsed().as_secs_f64();
        let rebuild = Rebuild {
            events: history,
            seconds,
            kills: killed,
            peak_memory_bytes: peak.max(replay.peak_memory_bytes()),
            spent: account.close(&[("reads", machine::cpu_seconds() - own)]),
            stages: stages(&metrics).await,
        };
        self.roles.push(replay);
        Ok(rebuild)
    }

    /// Opens the account of a rebuild: the projector that builds, the rest of ours, and the
    /// servers. What this process spends is the reads'.
    fn open_account(&self, replay: &Role) -> Account {
        let named = |part: &str| {
            let servers = self.stack().map(|stack| stack.status().servers);
            let servers = servers.into_iter().flatten();
            let named = servers.filter(|server| server.name.contains(part));
            named.map(|server| server.pid).collect::<Vec<_>>()
        };
        let others = self.roles.iter().filter_map(Role::pid).collect();
        Account::open(&[
            ("projector", replay.pid().into_iter().collect()),
            ("other processes of ours", others),
            ("broker", named("Kafka")),
            ("postgres", named("Postgres")),
        ])
    }
}

fn reached(marks: &[MarkRow]) -> bool {
    marks.iter().all(|mark| mark.reached_log_end)
}

/// Wall clock by stage, summed over partitions, from the metrics of a projector; empty when
/// it does not answer.
async fn stages(address: &str) -> BTreeMap<String, f64> {
    let address = address.to_owned();
    let asked = tokio::task::spawn_blocking(move || refold_local::http_get(&address, "/metrics"));
    match asked.await {
        Ok(Ok((200, text))) => stage_sums(&text),
        _ => BTreeMap::new(),
    }
}

fn stage_sums(metrics: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    let lines = metrics.lines();
    for line in lines.filter(|line| line.starts_with(ACTOR_STATE.name)) {
        let stage = line
            .split("state=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        let value = line
            .rsplit(' ')
            .next()
            .and_then(|value| value.parse::<f64>().ok());
        if let (Some(stage), Some(value)) = (stage, value) {
            *sums.entry(stage.to_owned()).or_insert(0.0) += value;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_summed_over_partitions() {
        let name = ACTOR_STATE.name;
        let text = format!(
            "# TYPE {name} counter\n\
             {name}{{partition=\"0\",state=\"fold\"}} 1.5\n\
             {name}{{partition=\"1\",state=\"fold\"}} 2\n\
             {name}{{partition=\"1\",state=\"write\"}} 3\n"
        );
        let sums = stage_sums(&text);
        let expected = BTreeMap::from([("fold".to_owned(), 3.5), ("write".to_owned(), 3.0)]);
        assert_eq!(sums, expected);
    }
}
