//! The registry and the read model on Postgres keep their promises.

mod support;

use refold_ports::conformance::registry::cases;
use refold_ports::conformance::store::run;

use support::Postgres;

#[tokio::test]
async fn the_registry_on_postgres_keeps_every_promise() {
    let report = run(&cases(), |_| Postgres::fresh()).await;
    println!("registry conformance on Postgres: {report}");
    assert!(report.failed.is_empty(), "{report}");
}
