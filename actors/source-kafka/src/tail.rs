//! Which tail client a partition is read through.
//!
//! One client serves all tail readers of a source: one connection and one
//! request in flight per broker, however many partitions. A client can read a
//! partition once only, so a second reader of the same partition (another
//! version in the same process) goes to the next client.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use refold_domain::position::Partition;
use refold_ports::source::SourceError;

use crate::client::Client;
use crate::config::KafkaConfig;
use crate::settings::Purpose;

/// The tail clients of a source. Those that nobody reads through are gone.
#[derive(Default)]
pub(crate) struct TailClients {
    clients: Mutex<Vec<Weak<TailClient>>>,
}

/// A client and the partitions that are read through it.
struct TailClient {
    client: Arc<Client>,
    taken: Mutex<HashSet<Partition>>,
    /// Whether it delivers nothing any more: who reads through it goes on until it notices as
    /// well, and nobody else comes.
    given_up: AtomicBool,
}

impl TailClient {
    fn taken(&self) -> MutexGuard<'_, HashSet<Partition>> {
        // A panic between two operations on a set leaves the set usable.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to read one partition through one tail client; ends when dropped.
pub(crate) struct TailSlot {
    owner: Arc<TailClient>,
    partition: Partition,
}

impl TailSlot {
    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.owner.client
    }

    /// Lets no reader take the client of this slot any more.
    pub(crate) fn give_client_up(&self) {
        self.owner.given_up.store(true, Ordering::Relaxed);
    }
}

impl Drop for TailSlot {
    fn drop(&mut self) {
        self.owner.taken().remove(&self.partition);
    }
}

impl TailClients {
    /// A slot for `partition` in the first client that does not read it yet;
    /// a new client if all of them do.
    pub(crate) fn slot(
        &self,
        config: &KafkaConfig,
        partition: Partition,
    ) -> Result<TailSlot, SourceError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|client| client.strong_count() > 0);
        for client in clients.iter().filter_map(Weak::upgrade) {
            // One that has known another log fails all its readers.
            let usable = !client.given_up.load(Ordering::Relaxed);
            if usable && client.client.check_log().is_ok() && client.taken().insert(partition) {
                return Ok(TailSlot {
                    owner: client,
                    partition,
                });
            }
        }
        let owner = Arc::new(TailClient {
            client: Arc::new(Client::start(config, Purpose::Tail)?),
            taken: Mutex::new(HashSet::from([partition])),
            given_up: AtomicBool::new(false),
        });
        clients.push(Arc::downgrade(&owner));
        Ok(TailSlot { owner, partition })
    }
}

#[cfg(test)]
impl TailClients {
    /// A slot in a client that has lost its cluster, the only one so far.
    pub(crate) fn lost_slot(&self, config: &KafkaConfig, partition: Partition) -> TailSlot {
        let owner = Arc::new(TailClient {
            client: Arc::new(Client::lost(config, Purpose::Tail)),
            taken: Mutex::new(HashSet::from([partition])),
            given_up: AtomicBool::new(false),
        });
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.push(Arc::downgrade(&owner));
        TailSlot { owner, partition }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot_of(clients: &TailClients, partition: i32) -> TailSlot {
        clients
            .slot(&KafkaConfig::new("127.0.0.1:1"), Partition(partition))
            .expect("no connection is needed for a slot")
    }

    #[test]
    fn partitions_share_a_client_and_a_second_reader_of_one_gets_another() {
        let clients = TailClients::default();
        let slot = |partition| slot_of(&clients, partition);
        let (first, other, second) = (slot(0), slot(1), slot(0));
        assert!(Arc::ptr_eq(first.client(), other.client()));
        assert!(!Arc::ptr_eq(first.client(), second.client()));

        drop(first);
        let again = slot(0);
        assert!(Arc::ptr_eq(again.client(), other.client()));
    }

    #[test]
    fn a_client_that_was_given_up_is_taken_by_nobody_any_more() {
        let clients = TailClients::default();
        let slot = |partition| slot_of(&clients, partition);
        let first = slot(0);
        first.give_client_up();
        let (other, again) = (slot(1), slot(0));
        assert!(!Arc::ptr_eq(first.client(), other.client()));
        assert!(Arc::ptr_eq(other.client(), again.client()));
    }

    #[test]
    fn a_client_ends_with_its_last_slot() {
        let clients = TailClients::default();
        let slot = slot_of(&clients, 0);
        let client = Arc::downgrade(slot.client());
        drop(slot);
        assert_eq!(client.strong_count(), 0);
    }
}
