//! Partitions that a group gives and takes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;

use async_trait::async_trait;
use refold_domain::observe::Phase;
use refold_domain::position::Partition;
use refold_ports::membership::Group;
use refold_ports::membership::Membership;
use refold_ports::source::SourceError;
use refold_system::Outcome;
use refold_system::PartitionSelection;
use refold_system::ProjectorOptions;
use tokio::sync::watch;

use crate::world::*;

/// What one process is told to work on.
#[derive(Clone)]
struct Given(Arc<Mutex<watch::Sender<BTreeSet<Partition>>>>);

impl Given {
    fn nothing() -> Self {
        Self(Arc::new(Mutex::new(watch::Sender::default())))
    }

    fn sender(&self) -> MutexGuard<'_, watch::Sender<BTreeSet<Partition>>> {
        self.0.lock().expect("no test panics with it")
    }

    fn give(&self, partitions: &[i32]) {
        let partitions = partitions.iter().map(|p| Partition(*p)).collect();
        self.sender().send_replace(partitions);
    }

    /// Whoever has joined hears nothing any more, and has to join again.
    fn cut(&self) {
        let partitions = self.sender().borrow().clone();
        *self.sender() = watch::Sender::new(partitions);
    }
}

impl Group for Given {
    fn join(&self) -> Result<Box<dyn Membership>, SourceError> {
        let mut heard = self.sender().subscribe();
        heard.mark_changed();
        Ok(Box::new(Heard(heard)))
    }
}

struct Heard(watch::Receiver<BTreeSet<Partition>>);

#[async_trait]
impl Membership for Heard {
    async fn changed(&mut self) -> Result<BTreeSet<Partition>, SourceError> {
        let changed = self.0.changed().await;
        changed.map_err(|_| SourceError::Unreachable("nobody gives anything".to_owned()))?;
        Ok(self.0.borrow_and_update().clone())
    }
}

async fn member(world: &World, given: &Given) -> Process {
    let options = ProjectorOptions {
        partitions: PartitionSelection::ByGroup,
        ..live()
    };
    let plugs = world.plugs(v1()).with_group(Arc::new(given.clone()));
    let started = Process::try_start(plugs, "ledger_v1".to_owned(), options).await;
    started.expect("the process starts")
}

/// The partitions on a process's board.
fn seats(process: &Process) -> Vec<i32> {
    let all = process.board.all();
    all.iter().map(|(id, _)| id.partition.0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_works_on_what_its_group_gives_it_and_lets_go_of_what_it_takes() {
    let world = World::with_events(200);
    let (one, other) = (Given::nothing(), Given::nothing());
    let mut first = member(&world, &one).await;
    let second = member(&world, &other).await;
    assert!(seats(&first).is_empty());
    one.give(&[0, 2]);
    other.give(&[1]);
    world.caught_up(V1).await;
    first.ready().await;
    second.ready().await;
    assert_eq!((seats(&first), seats(&second)), (vec![0, 2], vec![1]));

    one.give(&[0]);
    other.give(&[1, 2]);
    until("the partition has moved", || {
        seats(&first) == [0] && seats(&second) == [1, 2]
    })
    .await;
    world.append(200);
    world.caught_up(V1).await;

    // Nothing at all is no end: the group may give it others.
    one.give(&[]);
    other.give(&[0, 1, 2]);
    until("all have moved", || seats(&first).is_empty()).await;
    world.append(200);
    world.caught_up(V1).await;
    assert!(second.all().iter().all(|o| o.restarts == 0));
    assert_eq!(first.handle.drain().await, Ok(Outcome::Drained));
    assert!(second.handle.status().borrow().ended.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_not_heard_any_more_is_joined_again() {
    let world = World::with_events(100);
    let given = Given::nothing();
    let process = member(&world, &given).await;
    given.give(&[0, 1]);
    until("two partitions", || seats(&process) == [0, 1]).await;
    given.cut();
    given.give(&[0, 1, 2]);
    world.caught_up(V1).await;
    assert_eq!(seats(&process), [0, 1, 2]);
    assert!(process.all().iter().all(|o| o.restarts == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_two_were_given_is_taken_back_once_the_other_one_is_told() {
    let world = World::with_events(100);
    let (one, other) = (Given::nothing(), Given::nothing());
    let first = member(&world, &one).await;
    one.give(&[0, 1, 2]);
    world.caught_up(V1).await;
    let second = member(&world, &other).await;
    other.give(&[0]);
    first.in_phase(Partition(0), Phase::Fenced).await;
    assert!(
        first.handle.status().borrow().ended.is_none(),
        "it is left alone, and not for good"
    );
    other.give(&[]);
    until("the other one lets go", || seats(&second).is_empty()).await;
    first.in_phase(Partition(0), Phase::Live).await;
    world.append(100);
    world.caught_up(V1).await;
    assert_eq!(seats(&first), [0, 1, 2]);
}
