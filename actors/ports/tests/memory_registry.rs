//! The store in memory keeps the promises of the registry and of the read model.

use refold_ports::Registry;
use refold_ports::Sink;
use refold_ports::conformance::registry::cases;
use refold_ports::conformance::store::Break;
use refold_ports::conformance::store::StoreHarness;
use refold_ports::conformance::store::run;
use refold_ports::memory::store::MemoryStore;
use refold_ports::registry::ReadModel;

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

    fn break_next_commit(&self, _moment: Break) {
        // No case of the registry breaks a connection.
    }
}

#[tokio::test]
async fn the_registry_in_memory_keeps_every_promise() {
    let report = run(&cases(), async |_| Memory(MemoryStore::new())).await;
    println!("registry conformance in memory: {report}");
    assert!(report.failed.is_empty(), "{report}");
}
