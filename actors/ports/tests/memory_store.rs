//! The store in memory keeps the promises of the store.

use refold_ports::conformance::store::Break;
use refold_ports::conformance::store::StoreHarness;
use refold_ports::conformance::store::cases;
use refold_ports::conformance::store::run;
use refold_ports::memory::store::CommitFault;
use refold_ports::memory::store::MemoryStore;
use refold_ports::registry::ReadModel;
use refold_ports::registry::Registry;
use refold_ports::sink::Sink;

struct Memory(MemoryStore);

impl StoreHarness for Memory {
    fn sink(&self) -> &dyn Sink {
        &self.0
    }

    fn registry(&self) -> &dyn Registry {
        &self.0
    }

    fn read_model(&self) -> &dyn ReadModel {
        &self.0
    }

    fn break_next_commit(&self, moment: Break) {
        let fault = match moment {
            Break::Before => CommitFault::LostBefore,
            Break::After => CommitFault::LostAfter,
        };
        self.0.fail_commit(1, fault);
    }
}

#[tokio::test]
async fn the_store_in_memory_keeps_every_promise() {
    let report = run(&cases(), async |_| Memory(MemoryStore::new())).await;
    println!("store conformance on memory: {report}");
    assert!(report.failed.is_empty(), "{report}");
}
