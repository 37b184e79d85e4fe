//! People, and the processes that drive promotions for them. They do not know of each other.

use std::time::Duration;

use refold_domain::cutover::Gate;
use refold_domain::version::VersionId;
use refold_domain::version::VersionState;
use refold_ports::Registry as _;
use refold_ports::registry::Promotion;
use refold_ports::registry::RegistryError;
use refold_system::barrier::PromotionOrder;
use refold_system::barrier::drive;

use crate::branch::Branch;
use crate::ledger;
use crate::ledger::WRONG;
use crate::network::Process;
use crate::registry::SimRegistry;
use crate::world::World;
use crate::world::pass;

/// An operator.
#[derive(Clone)]
pub(crate) struct Operator {
    world: World,
    registry: SimRegistry,
}

impl Operator {
    pub(crate) fn new(world: World) -> Self {
        let registry = SimRegistry {
            world: world.clone(),
            process: Process::new(0),
        };
        Self { world, registry }
    }

    /// Does one thing after another until the trouble is over.
    pub(crate) async fn run(self) {
        let world = self.world.clone();
        while world.is_troubled() {
            pass(world.chance.time(world.plan.operator_every)).await;
            match world.chance.between(0..=99) {
                0..=59 => self.promote_any().await,
                60..=72 => self.promote_two().await,
                73..=76 => self.retire_in_promotion().await,
                77..=84 => self.die_in_promotion().await,
                85..=91 => self.retire_any().await,
                _ => self.drop_any().await,
            }
        }
    }

    async fn any(&self) -> u32 {
        // The first version is compared with nothing: a wrong one would be nobody's fault.
        match self.generation().await {
            None => self.world.chance.pick(&[1, 2]),
            Some(_) => self.world.chance.pick(&[1, 1, 2, 2, 2, WRONG]),
        }
    }

    /// An order for a version, now and then with a generation that has passed.
    fn order(&self, number: u32, generation: Option<i64>) -> PromotionOrder {
        let chance = &self.world.chance;
        PromotionOrder {
            if_generation: generation.filter(|_| chance.odds(0.3)).map(|g| {
                match chance.odds(0.5) {
                    true => g - 1,
                    false => g,
                }
            }),
            allowed_lag: chance.pick(&[10_000, 10_000, 3]),
            deadline: Duration::from_secs(30),
            poll: Duration::from_millis(300),
            dry_run: chance.odds(0.05),
            ..PromotionOrder::of(ledger::label(number), "operator")
        }
    }

    async fn generation(&self) -> Option<i64> {
        let active = self.world.store.active(ledger::NAME).await;
        active.ok().flatten().map(|row| row.generation)
    }

    async fn promote_any(&self) {
        let number = self.any().await;
        let order = self.order(number, self.generation().await);
        if self.world.chance.odds(0.6) {
            // The marks move then, and one version is ahead of the other.
            let world = &self.world;
            let moves = match world.plan.waits_for_marks && world.chance.odds(0.5) {
                true => world.straddled.notified(),
                false => world.grown.notified(),
            };
            let _ = tokio::time::timeout(Duration::from_secs(120), moves).await;
        }
        let answer = self.drive(&order).await;
        self.note(number, &answer).await;
    }

    async fn drive(&self, order: &PromotionOrder) -> Result<Promotion, RegistryError> {
        drive(&self.registry, &ledger::specs(), order).await
    }

    /// Two orders through two processes at once.
    async fn promote_two(&self) {
        let numbers = [self.any().await, self.any().await];
        let generation = self.generation().await;
        let orders = numbers.map(|number| self.order(number, generation));
        let (one, two) = tokio::join!(self.drive(&orders[0]), self.drive(&orders[1]));
        self.note(numbers[0], &one).await;
        self.note(numbers[1], &two).await;
    }

    /// The process that drives a promotion ends in the middle of it.
    async fn die_in_promotion(&self) {
        let order = self.order(self.any().await, None);
        let driver = self.clone();
        let driving = tokio::spawn(async move { driver.drive(&order).await });
        pass(
            self.world
                .chance
                .time(self.world.plan.way * 6 + Duration::from_millis(300)),
        )
        .await;
        if !driving.is_finished() {
            driving.abort();
            self.world.count_fault();
            self.world.take(Branch::DriverDied);
        }
    }

    async fn retire_any(&self) {
        let world = &self.world;
        // While there is much to see yet, only what cannot be promoted is retired.
        let number = if self.is_early() {
            WRONG
        } else {
            self.any().await
        };
        let Ok(row) = world.store.version(&ledger::label(number)).await else {
            return;
        };
        if self.generation().await.is_none() {
            // Something has to serve one day.
            return;
        }
        match self.registry.retire(row.id, "operator", "not needed").await {
            Ok(()) => world.take(Branch::Retired),
            Err(RegistryError::Conflict(_)) if row.state == VersionState::Active => {
                world.take(Branch::ActiveKept);
            }
            Err(error) => world.note(format_args!("not retired: {error}")),
        }
    }

    fn is_early(&self) -> bool {
        self.world.now() < self.world.plan.trouble.mul_f64(0.7)
    }

    /// A version is retired while somebody else promotes it.
    async fn retire_in_promotion(&self) {
        let world = &self.world;
        let number = self.any().await;
        let Ok(row) = world.store.version(&ledger::label(number)).await else {
            return;
        };
        if self.is_early() || self.generation().await.is_none() {
            return;
        }
        let order = self.order(number, None);
        let wait = world
            .chance
            .time(world.plan.way * 12 + Duration::from_millis(100));
        let sees_proof = world.chance.odds(0.5);
        let in_hurry = world.chance.odds(0.5);
        let retire = async {
            if sees_proof {
                // The proof is on its way back to whoever drives, who does not know of this.
                let compared = world.compared.notified();
                let _ = tokio::time::timeout(order.deadline, compared).await;
            } else {
                pass(wait).await;
            }
            let retired = self.registry.retire(row.id, "operator", "a race").await;
            if retired.is_ok() && in_hurry {
                self.drop_now(row.id, Duration::ZERO).await;
            }
            retired
        };
        let (promoted, retired) = tokio::join!(self.drive(&order), retire);
        if retired.is_ok() {
            world.take(Branch::Retired);
        }
        self.note(number, &promoted).await;
    }

    async fn drop_any(&self) {
        let world = &self.world;
        let Ok(row) = world.store.version(&ledger::label(self.any().await)).await else {
            return;
        };
        let grace = Duration::from_secs(world.chance.pick(&[0, 600]));
        let was_retired = row.state == VersionState::Retired;
        if self.drop_now(row.id, grace).await && was_retired {
            world.take(Branch::GraceKept);
        }
    }

    /// Drops the tables of a version; whether the registry refused to.
    async fn drop_now(&self, version: VersionId, grace: Duration) -> bool {
        let dropped = self.registry.drop_retired(version, grace, "operator").await;
        match &dropped {
            Ok(()) => self.world.take(Branch::Dropped),
            Err(error) => self.world.note(format_args!("not dropped: {error}")),
        }
        matches!(dropped, Err(RegistryError::Conflict(_)))
    }

    async fn note(&self, number: u32, answer: &Result<Promotion, RegistryError>) {
        let world = &self.world;
        world.note(format_args!(
            "promotion of v{number}: {}",
            match answer {
                Ok(promotion) if promotion.changed => "done".to_owned(),
                Ok(_) => "nothing changed".to_owned(),
                Err(error) => error.to_string(),
            }
        ));
        let state = world.store.version(&ledger::label(number)).await;
        let state = state.map(|row| row.state);
        match answer {
            Ok(promotion) if promotion.changed && promotion.from.is_some() => {
                world.take(Branch::Promoted);
                if number == 1 {
                    world.take(Branch::RolledBack);
                }
            }
            Ok(_) => {}
            Err(RegistryError::GateRefused(gates)) => {
                let Some(gate) = gates.iter().find(|gate| !gate.passes()) else {
                    return;
                };
                match gate.gate {
                    Gate::Verified if number == WRONG => world.take(Branch::WrongFoldRefused),
                    Gate::Gaps => world.take(Branch::GapRefused),
                    Gate::CaughtUp => world.take(Branch::BarrierTimedOut),
                    _ => {}
                }
            }
            Err(RegistryError::GenerationChanged { .. }) => {
                world.take(Branch::StaleGenerationRefused);
            }
            Err(RegistryError::Conflict(_)) => match state {
                Ok(VersionState::Retired | VersionState::Dropped) => {
                    world.take(Branch::RetiredRefused);
                }
                _ => world.take(Branch::ConcurrentPromotion),
            },
            Err(_) => {}
        }
    }

    /// Promotes a version while nothing disturbs it.
    ///
    /// # Errors
    /// Whatever the promotion says.
    pub(crate) async fn promote_in_peace(&self, number: u32) -> Result<(), String> {
        let order = PromotionOrder {
            poll: Duration::from_millis(300),
            ..PromotionOrder::of(ledger::label(number), "operator")
        };
        let answer = self.drive(&order).await;
        self.note(number, &answer).await;
        answer.map(drop).map_err(|error| error.to_string())
    }
}
