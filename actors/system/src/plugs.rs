//! What a projector process is plugged into.

use std::fmt;
use std::sync::Arc;

use refold_domain::fold::AnyProjection;
use refold_domain::position::Partition;
use refold_ports::LogSource;
use refold_ports::Pressure;
use refold_ports::Registry;
use refold_ports::Sink;
use refold_ports::membership::Group;

use crate::dice::Dice;
use crate::dice::SeededDice;
use crate::labour::Labour;
use crate::labour::Threads;
use crate::observer::BatchObserver;
use refold_ports::probe::Edge;
use refold_ports::probe::Point;
use refold_ports::probe::Probe;
use refold_ports::probe::Word;

/// The projection, the log, the store and the registry of a process. Cheap to clone.
#[derive(Clone)]
pub struct Plugs {
    pub(crate) projection: Arc<dyn AnyProjection>,
    pub(crate) source: Arc<dyn LogSource>,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) dice: Arc<dyn Dice>,
    pub(crate) labour: Arc<dyn Labour>,
    pub(crate) probe: Option<Arc<dyn Probe>>,
    pub(crate) observer: Option<Arc<dyn BatchObserver>>,
    pub(crate) group: Option<Arc<dyn Group>>,
    pub(crate) pressure: Option<Arc<dyn Pressure>>,
}

impl Plugs {
    /// Plugs without a probe, with dice and threads of their own.
    pub fn new(
        projection: Arc<dyn AnyProjection>,
        source: Arc<dyn LogSource>,
        sink: Arc<dyn Sink>,
        registry: Arc<dyn Registry>,
    ) -> Self {
        Self {
            projection,
            source,
            sink,
            registry,
            dice: Arc::new(SeededDice::of_this_process()),
            labour: Arc::new(Threads),
            probe: None,
            observer: None,
            group: None,
            pressure: None,
        }
    }

    /// The same with a group that shares the partitions out among several processes.
    #[must_use]
    pub fn with_group(mut self, group: Arc<dyn Group>) -> Self {
        self.group = Some(group);
        self
    }

    /// The same with somebody who looks at what a rebuild bears on. Without one nothing but the rate
    /// limit holds a rebuild back.
    #[must_use]
    pub fn with_pressure(mut self, pressure: Arc<dyn Pressure>) -> Self {
        self.pressure = Some(pressure);
        self
    }

    /// The same with other dice.
    #[must_use]
    pub fn with_dice(mut self, dice: Arc<dyn Dice>) -> Self {
        self.dice = dice;
        self
    }

    /// The same with somebody else to do the work that blocks.
    #[must_use]
    pub fn with_labour(mut self, labour: Arc<dyn Labour>) -> Self {
        self.labour = labour;
        self
    }

    /// The same with a hook at every point.
    #[must_use]
    pub fn with_probe(mut self, probe: Arc<dyn Probe>) -> Self {
        self.probe = Some(probe);
        self
    }

    /// The same with somebody who is told of every transaction.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn BatchObserver>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Passes a point; free without a probe.
    pub(crate) async fn pass(
        &self,
        word: Word,
        edge: Edge,
        partition: Partition,
    ) -> Result<(), String> {
        match &self.probe {
            None => Ok(()),
            Some(probe) => {
                probe
                    .reach(Point {
                        word,
                        edge,
                        partition,
                    })
                    .await
            }
        }
    }
}

impl fmt::Debug for Plugs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugs")
            .field("projection", &self.projection)
            .finish_non_exhaustive()
    }
}
