//! Whoever keeps the projector processes of one version running, as an orchestrator does: it
//! starts one when there is none, and now and then kills it, drains it, or starts a second one
//! while the first stands still.

use std::sync::Arc;
use std::time::Duration;

use refold_domain::observe::Board;
use refold_domain::observe::Phase;
use refold_domain::position::Offset;
use refold_ports::Registry as _;
use refold_system::Failure;
use refold_system::Mode;
use refold_system::Outcome;
use refold_system::Plugs;
use refold_system::ProjectorHandle;
use refold_system::ProjectorOptions;
use refold_system::dice::SeededDice;
use refold_system::start_projector;

use crate::branch::Branch;
use crate::labour::Tasks;
use crate::ledger;
use crate::log::SimLog;
use crate::network::Process;
use crate::registry::SimRegistry;
use crate::stages::Stages;
use crate::store::SimSink;
use crate::world::World;
use crate::world::pass;

/// A running process.
struct Running {
    process: Process,
    board: Board,
    handle: ProjectorHandle,
}

/// Keeps one version.
pub(crate) struct Keeper {
    pub(crate) world: World,
    pub(crate) number: u32,
}

/// How often somebody who waits looks whether the trouble is over.
const LOOKS_EVERY: Duration = Duration::from_secs(20);

/// What happens to a process that works.
#[derive(Debug, Clone, Copy)]
enum Doom {
    Kill,
    Drain,
    /// It stands still, and another one is started beside it.
    Freeze,
    /// Another one is started beside it.
    Overlap,
}

impl Keeper {
    /// Keeps processes running until the version is projected no more.
    pub(crate) async fn run(self) {
        loop {
            if self.is_over().await {
                return;
            }
            match self.start().await {
                Ok(running) => self.watch(running).await,
                Err(failure) => {
                    let number = self.number;
                    self.world
                        .note(format_args!("v{number} not started: {failure}"));
                    self.world.take(Branch::StartFailed);
                }
            }
            pass(self.world.chance.time(Duration::from_secs(3))).await;
        }
    }

    /// Whether the version will never be projected again.
    async fn is_over(&self) -> bool {
        let version = self.world.store.version(&ledger::label(self.number)).await;
        version.is_ok_and(|row| !row.state.is_projected())
    }

    fn options(&self) -> ProjectorOptions {
        let world = &self.world;
        let mode = if self.number == 1 {
            Mode::Live
        } else {
            Mode::Replay
        };
        let again = world.is_troubled() && world.chance.odds(0.1);
        ProjectorOptions {
            from_offset: again.then_some(Offset(0)),
            ..world.plan.options(mode, &world.chance)
        }
    }

    async fn start(&self) -> Result<Running, Failure> {
        let world = &self.world;
        let process = Process::new(world.next_process());
        world.note(format_args!(
            "p{} starts for v{}",
            process.number(),
            self.number
        ));
        let registry = SimRegistry {
            world: world.clone(),
            process: process.clone(),
        };
        let log = SimLog {
            world: world.clone(),
            process: process.clone(),
        };
        let sink = SimSink {
            world: world.clone(),
            process: process.clone(),
            unknown: Arc::default(),
        };
        let plugs = Plugs::new(
            ledger::projection(self.number),
            Arc::new(log),
            Arc::new(sink),
            Arc::new(registry),
        )
        .with_dice(Arc::new(SeededDice::new(
            world.chance.between(0..=u64::MAX),
        )))
        .with_labour(Arc::new(Tasks {
            world: world.clone(),
            process: process.clone(),
        }))
        .with_probe(Arc::new(Stages {
            world: world.clone(),
            process: process.clone(),
        }));
        let board = Board::new();
        let handle = start_projector(plugs, board.clone(), self.options()).await?;
        Ok(Running {
            process,
            board,
            handle,
        })
    }

    /// Watches a process until there must be another one.
    async fn watch(&self, mut running: Running) {
        let world = &self.world;
        if !world.is_troubled() {
            return self.watch_in_peace(running).await;
        }
        let until = world.now() + world.chance.time(world.plan.life);
        if let Some(ended) = self.wait(&mut running, until).await {
            return self.note_end(&running, &ended);
        }
        if !world.is_troubled() {
            return self.watch_in_peace(running).await;
        }
        world.count_fault();
        let dooms = [
            Doom::Kill,
            Doom::Kill,
            Doom::Drain,
            Doom::Freeze,
            Doom::Overlap,
        ];
        let doom = world.chance.pick(&dooms);
        world.note(format_args!("p{} meets {doom:?}", running.process.number()));
        match doom {
            Doom::Kill => {
                world.take(Branch::ProcessKilled);
                running.handle.kill();
            }
            Doom::Drain => {
                let ended = running.handle.drain().await;
                if ended == Ok(Outcome::Drained) {
                    world.take(Branch::ProcessDrained);
                }
                self.note_end(&running, &ended);
            }
            Doom::Freeze => {
                world.take(Branch::ProcessFrozen);
                let time = world.chance.time(Duration::from_secs(30));
                running.process.freeze(time);
                self.leave(running);
            }
            Doom::Overlap => self.leave(running),
        }
    }

    /// Waits until a process ends, a time has come, or the trouble is over.
    async fn wait(
        &self,
        running: &mut Running,
        until: Duration,
    ) -> Option<Result<Outcome, Failure>> {
        while self.world.is_troubled() && self.world.now() < until {
            let look = (until - self.world.now()).min(LOOKS_EVERY);
            tokio::select! {
                biased;
                ended = running.handle.finished() => return Some(ended),
                () = pass(look) => {}
            }
        }
        None
    }

    /// Lets a process go on that nobody watches any more, until the trouble is over.
    fn leave(&self, mut running: Running) {
        let keeper = Self {
            world: self.world.clone(),
            number: self.number,
        };
        tokio::spawn(async move {
            if let Some(ended) = keeper.wait(&mut running, Duration::MAX).await {
                keeper.note_end(&running, &ended);
            }
            running.handle.kill();
        });
    }

    /// Watches a process that nothing disturbs; one that has lost a part of its work is replaced.
    async fn watch_in_peace(&self, mut running: Running) {
        running.process.thaw();
        loop {
            let ended = tokio::select! {
                biased;
                ended = running.handle.finished() => Some(ended),
                () = pass(LOOKS_EVERY) => None,
            };
            if let Some(ended) = ended {
                return self.note_end(&running, &ended);
            }
            let all = running.board.all();
            let lost = |phase| matches!(phase, Phase::Fenced | Phase::Broken | Phase::Stopped);
            if all.iter().any(|(_, observed)| lost(observed.phase)) {
                self.note_phases(&running);
                return running.handle.kill();
            }
        }
    }

    fn note_end(&self, running: &Running, ended: &Result<Outcome, Failure>) {
        let number = running.process.number();
        self.world.note(format_args!("p{number} ended: {ended:?}"));
        if let Err(Failure::Fenced { .. }) = ended {
            self.world.take(Branch::ZombieEnded);
        }
        self.note_phases(running);
    }

    fn note_phases(&self, running: &Running) {
        for (_, observed) in running.board.all() {
            let reason = observed.reason.as_deref().unwrap_or_default();
            match observed.phase {
                Phase::Broken if reason.contains("failed") => {
                    self.world.take(Branch::ProjectorBroken);
                }
                Phase::Fenced if reason.contains("taken over by another process") => {
                    self.world.take(Branch::TakeOverSeen);
                }
                Phase::Halted if reason.contains("were deleted") => {
                    self.world.take(Branch::HaltedByTruncation);
                }
                Phase::Halted => self.world.take(Branch::HaltedAtPoison),
                _ => {}
            }
        }
    }
}
