//! The faults, each from its beginning to its end.

use std::time::Duration;
use std::time::Instant;

use refold_chaos::Actors;
use refold_chaos::CommitCut;
use refold_chaos::Harm;
use refold_chaos::Kind;
use refold_chaos::Phase;
use refold_chaos::Pick;
use refold_chaos::Version;
use refold_domain::version::VersionState;
use refold_local::Server;

use super::Chaos;
use super::LOOK;
use super::crew::label;
use super::crew::wake;
use crate::cli::Failure;
use crate::cli::Kind as FailureKind;
use crate::command::cutover::ask_proven;
use crate::demo::LIVE;
use crate::demo::NEW;
use crate::demo::Role;

/// How long a fault that waits for its moment, such as a commit, may wait for it.
const MOMENT: Duration = Duration::from_secs(30);

/// How long a switch may be refused, and how long it is waited for in between.
const SWITCHED_WITHIN: Duration = Duration::from_secs(30);

/// How old the scan may be that a switch rests on: one was made when the version was built.
const SCAN_AGE: Duration = Duration::from_secs(24 * 3600);

/// The points that loads and batches have in common.
const POINTS: [&str; 7] = [
    "fold::before",
    "fold::after",
    "write::before",
    "send::before",
    "send::after",
    "answer::after",
    "commit::after",
];

/// Ends every session that owns a partition of any version.
const TERMINATE: &str = "select count(pg_terminate_backend(a.pid)) from refold.offsets o \
    join pg_stat_activity a on a.pid = o.owner_pid and a.backend_start = o.owner_backend_start";

/// A fault that is over.
pub(super) struct Strike {
    /// When it began.
    pub(super) injected: Instant,
    /// From when on nothing is in the way any more but what it has left behind.
    pub(super) lifted: Instant,
    /// A stopped process that does not know yet that it has a successor.
    zombie: Option<Role>,
    /// Where it hit, for people.
    pub(super) detail: String,
}

impl Strike {
    fn since(injected: Instant, detail: impl Into<String>) -> Self {
        Self {
            injected,
            lifted: Instant::now(),
            zombie: None,
            detail: detail.into(),
        }
    }

    /// One that is over when it has begun: its processes start again at once, and that is theirs.
    fn sudden(injected: Instant, detail: impl Into<String>) -> Self {
        Self {
            lifted: injected,
            ..Self::since(injected, detail)
        }
    }
}

impl Chaos {
    /// Injects a fault, and lifts it.
    pub(super) async fn strike(&mut self, pick: &Pick, phase: Phase) -> Result<Strike, Failure> {
        if let Some(actors) = pick.kind.at_a_point() {
            return self.strike_at_a_point(pick, actors, phase).await;
        }
        if self.detour.harm(pick.kind, pick.dice).is_some() {
            return self.strike_connections(pick).await;
        }
        let version = pick.target.unwrap_or(Version::Live);
        let whose = label(version);
        let injected = Instant::now();
        match pick.kind {
            Kind::ProjectorKill => {
                self.crew.kill(&self.scene, version).await?;
                Ok(Strike::sudden(injected, whose))
            }
            Kind::ProjectorTerm => {
                self.crew.drain(&self.scene, version).await?;
                Ok(Strike::since(injected, whose))
            }
            Kind::ProjectorPause => {
                self.crew.pause(version)?;
                tokio::time::sleep(pick.lasts).await;
                self.crew.resume(version)?;
                Ok(Strike::since(injected, whose))
            }
            Kind::BrokerKill => self.kill_broker().await,
            Kind::PostgresKill => self.kill_server(Server::Postgres).await,
            Kind::BrokerPause => self.pause_server(Server::Kafka, pick.lasts).await,
            Kind::PostgresPause => self.pause_server(Server::Postgres, pick.lasts).await,
            Kind::SessionsTerminated => self.terminate_sessions().await,
            Kind::PostgresReset => reset("Postgres", injected, self.detour.postgres.reset()),
            Kind::KafkaReset => reset("Kafka", injected, self.detour.kafka.reset()),
            Kind::CommitLost => self.cut_commit(CommitCut::Before).await,
            Kind::AnswerLost => self.cut_commit(CommitCut::AfterCommitted).await,
            Kind::Switch => self.switch().await,
            other => Err(unable(format!("{other} is not injected by anything"))),
        }
    }

    /// What is left to be done behind the gate of a fault.
    pub(super) async fn finish(&mut self, strike: Strike) -> Result<(), Failure> {
        match strike.zombie {
            Some(zombie) => wake(zombie).await,
            None => Ok(()),
        }
    }

    async fn strike_at_a_point(
        &mut self,
        pick: &Pick,
        actors: Actors,
        phase: Phase,
    ) -> Result<Strike, Failure> {
        let version = pick.target.unwrap_or(Version::Live);
        let point = POINTS[pick.dice as usize % POINTS.len()];
        // A load passes most of these points once a partition.
        let nth = match phase {
            Phase::Build => 1,
            Phase::Live => 1 + pick.dice / 64 % 8,
        };
        let action = match actors {
            Actors::Panic => "panic".to_owned(),
            Actors::Error => "error".to_owned(),
            Actors::Delay => format!("delay({})", pick.lasts.as_millis()),
            Actors::Kill => "kill".to_owned(),
            Actors::Stop => "stop".to_owned(),
        };
        self.crew
            .arm(version, &format!("{point}:*={action}@{nth}"))?;
        let deadline = Instant::now() + MOMENT;
        while !self.crew.has_fired(version)? {
            self.check_moment(deadline, &format!("{point} in {}", label(version)))?;
            tokio::time::sleep(LOOK / 4).await;
        }
        let injected = Instant::now();
        let detail = format!("{} at {point}", label(version));
        match actors {
            Actors::Panic | Actors::Error => Ok(Strike::sudden(injected, detail)),
            Actors::Delay => {
                tokio::time::sleep(pick.lasts).await;
                Ok(Strike::since(injected, detail))
            }
            Actors::Kill => {
                self.crew.bury(&self.scene, version).await?;
                Ok(Strike::sudden(injected, detail))
            }
            Actors::Stop => {
                let zombie = self.crew.replace(&self.scene, version)?;
                Ok(Strike {
                    zombie: Some(zombie),
                    ..Strike::sudden(injected, detail)
                })
            }
        }
    }

    async fn strike_connections(&mut self, pick: &Pick) -> Result<Strike, Failure> {
        let found = self.detour.harm(pick.kind, pick.dice);
        let (proxy, harm) = found.ok_or_else(|| unable("there is no such harm"))?;
        let injected = Instant::now();
        proxy.harm(harm);
        tokio::time::sleep(pick.lasts).await;
        proxy.harm(Harm::default());
        let detail = match harm.latency {
            Duration::ZERO => String::new(),
            latency => format!("by {} ms", latency.as_millis()),
        };
        Ok(Strike::since(injected, detail))
    }

    async fn kill_server(&mut self, server: Server) -> Result<Strike, Failure> {
        let injected = Instant::now();
        self.scene.kill_server(server).await?;
        self.scene.revive_servers().await?;
        Ok(Strike::since(injected, ""))
    }

    /// Nothing is on its way to the broker when it is killed: one that comes back has forgotten
    /// the sequence numbers of producers whose records carry old times, as a seeded log's do,
    /// and appends twice what they send again.
    async fn kill_broker(&mut self) -> Result<Strike, Failure> {
        self.scene.hold_tail().await?;
        let killed = self.kill_server(Server::Kafka).await?;
        self.scene.let_tail_go().await?;
        Ok(Strike::since(killed.injected, killed.detail))
    }

    async fn pause_server(&mut self, server: Server, lasts: Duration) -> Result<Strike, Failure> {
        let injected = Instant::now();
        self.scene.pause_server(server).await?;
        tokio::time::sleep(lasts).await;
        self.scene.resume_server(server).await?;
        Ok(Strike::since(injected, ""))
    }

    async fn terminate_sessions(&mut self) -> Result<Strike, Failure> {
        let url = self.scene.postgres().to_owned();
        let injected = Instant::now();
        let asked =
            tokio::task::spawn_blocking(move || refold_local::testing::query(&url, TERMINATE));
        let answer = asked
            .await
            .map_err(|error| Failure::error("end the sessions", error))?
            .map_err(|error| Failure::error("end the sessions", error))?;
        let sessions = answer.trim().parse().unwrap_or(0_u64);
        if sessions == 0 {
            return Err(unable("no session owns a partition"));
        }
        Ok(Strike::sudden(injected, format!("{sessions} sessions")))
    }

    async fn cut_commit(&mut self, cut: CommitCut) -> Result<Strike, Failure> {
        let before = self.detour.postgres.cuts();
        self.detour.postgres.cut_next_commit(cut);
        let deadline = Instant::now() + MOMENT;
        while self.detour.postgres.cuts() == before {
            self.check_moment(deadline, "a commit")?;
            tokio::time::sleep(LOOK / 4).await;
        }
        Ok(Strike::sudden(Instant::now(), ""))
    }

    /// Promotes the version that does not serve.
    async fn switch(&mut self) -> Result<Strike, Failure> {
        let to = match self.state(NEW).await {
            Some(VersionState::Active) => LIVE,
            Some(_) => NEW,
            None => return Err(unable("nobody tells which version serves")),
        };
        let injected = Instant::now();
        loop {
            let answer = ask_proven(self.scene.api(), to, false, SCAN_AGE).await?;
            if answer.status == 200 {
                return Ok(Strike::since(injected, format!("to {to}")));
            }
            if injected.elapsed() > SWITCHED_WITHIN {
                let why = answer.problem();
                return Err(unable(format!("the switch to {to} was refused: {why}")));
            }
            self.pass(LOOK * 10).await?;
        }
    }

    fn check_moment(&mut self, deadline: Instant, what: &str) -> Result<(), Failure> {
        self.scene.check_roles()?;
        match Instant::now() < deadline {
            true => Ok(()),
            false => Err(unable(format!(
                "{what} did not come in {} s",
                MOMENT.as_secs()
            ))),
        }
    }
}

fn reset(what: &str, injected: Instant, connections: u64) -> Result<Strike, Failure> {
    match connections {
        0 => Err(unable(format!("there is no connection with {what}"))),
        n => Ok(Strike::sudden(injected, format!("{n} connections"))),
    }
}

/// A fault that was not injected: a run that goes on without it would prove less than it says.
fn unable(why: impl std::fmt::Display) -> Failure {
    Failure::new(
        FailureKind::Error,
        format!("a fault was not injected: {why}"),
    )
}
