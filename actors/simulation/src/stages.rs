//! Blows at the named points of a projector.

use async_trait::async_trait;
use refold_ports::probe::Point;
use refold_ports::probe::Probe;

use crate::branch::Branch;
use crate::network::Process;
use crate::plan::Fault;
use crate::world::World;
use crate::world::pass;

/// The text of every panic that a simulation causes.
pub(crate) const BLOW: &str = "a blow of the simulation";

/// Strikes where the seed says so.
pub(crate) struct Stages {
    pub(crate) world: World,
    pub(crate) process: Process,
}

#[async_trait]
impl Probe for Stages {
    async fn reach(&self, point: Point) -> Result<(), String> {
        self.process.awake().await;
        let world = &self.world;
        if world.meets(Fault::StageStalls) {
            pass(world.chance.time(std::time::Duration::from_secs(5))).await;
        }
        if world.meets(Fault::StageFails) {
            return Err(format!("{BLOW} at {point}"));
        }
        if world.meets(Fault::StagePanics) {
            world.take(Branch::ProjectorRestarted);
            panic!("{BLOW} at {point}");
        }
        Ok(())
    }
}
