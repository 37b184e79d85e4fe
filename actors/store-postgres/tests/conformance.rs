//! The store on Postgres keeps the promises of the store.

mod support;

use refold_ports::conformance::store::cases;
use refold_ports::conformance::store::run;

use support::Postgres;

#[tokio::test]
async fn the_store_on_postgres_keeps_every_promise() {
    let report = run(&cases(), |_| Postgres::fresh()).await;
    println!("store conformance on Postgres: {report}");
    assert!(report.failed.is_empty(), "{report}");
}
