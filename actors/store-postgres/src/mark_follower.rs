//! Waiting for marks: one look for everybody who waits.
//!
//! A reader that wants its own write back waits until the mark has passed it. However many
//! wait, the marks of the serving versions are read once every few milliseconds, by one
//! statement, and only while somebody waits.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use refold_domain::position::Offset;
use refold_domain::position::Partition;
use tokio::sync::Notify;
use tokio::sync::oneshot;

/// Who waits for one partition: the offset that has to be passed, and the way to say so.
type Waiters = Vec<(Offset, oneshot::Sender<()>)>;

/// Everybody who waits, by projection and partition.
#[derive(Debug, Default)]
pub(crate) struct MarkFollower {
    waiting: Mutex<HashMap<String, HashMap<Partition, Waiters>>>,
    somebody: Notify,
}

impl MarkFollower {
    /// Resolves when a look saw the mark past `offset`; never, when none does.
    pub(crate) async fn passes(&self, name: &str, partition: Partition, offset: Offset) {
        let (seen, passed) = oneshot::channel();
        {
            let mut waiting = self.lock();
            let of_name = waiting.entry(name.to_owned()).or_default();
            of_name.entry(partition).or_default().push((offset, seen));
        }
        self.somebody.notify_one();
        if passed.await.is_err() {
            // The follower ended with its read model: there is nothing to wait for.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until somebody waits, and tells for which projections.
    pub(crate) async fn wanted(&self) -> Vec<String> {
        loop {
            let names = self.names();
            if !names.is_empty() {
                return names;
            }
            self.somebody.notified().await;
        }
    }

    /// Drops whoever gave up, and names the projections of those who are left.
    fn names(&self) -> Vec<String> {
        let mut waiting = self.lock();
        waiting.retain(|_, of_name| {
            of_name.retain(|_, waiters| {
                waiters.retain(|(_, seen)| !seen.is_closed());
                !waiters.is_empty()
            });
            !of_name.is_empty()
        });
        waiting.keys().cloned().collect()
    }

    /// Tells everybody whose offset this mark has passed.
    pub(crate) fn seen(&self, name: &str, partition: Partition, next: Offset) {
        let mut waiting = self.lock();
        let Some(waiters) = waiting
            .get_mut(name)
            .and_then(|of_name| of_name.get_mut(&partition))
        else {
            return;
        };
        for (_, seen) in waiters.extract_if(.., |(offset, _)| next > *offset) {
            // Whoever gave up in the meantime does not want to know.
            let _ = seen.send(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, HashMap<Partition, Waiters>>> {
        // Plain values: a panic elsewhere cannot leave them half-written.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn those_whose_offset_is_passed_are_told_and_those_who_gave_up_are_forgotten() {
        let follower = MarkFollower::default();
        let place = Partition(3);
        assert_eq!(follower.wanted().now_or_never(), None);
        let mut near = Box::pin(follower.passes("wide", place, Offset(10)));
        let mut far = Box::pin(follower.passes("wide", place, Offset(11)));
        assert_eq!((&mut near).now_or_never(), None);
        assert_eq!((&mut far).now_or_never(), None);
        assert_eq!(follower.wanted().await, ["wide"]);
        // Exclusive: a mark at the offset has not passed it.
        follower.seen("wide", place, Offset(10));
        assert_eq!((&mut near).now_or_never(), None);
        follower.seen("wide", Partition(4), Offset(99));
        follower.seen("other", place, Offset(99));
        assert_eq!((&mut near).now_or_never(), None);
        follower.seen("wide", place, Offset(11));
        assert_eq!((&mut near).now_or_never(), Some(()));
        assert_eq!((&mut far).now_or_never(), None);
        drop(far);
        assert_eq!(follower.wanted().now_or_never(), None);
    }
}
