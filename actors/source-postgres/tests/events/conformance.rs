//! The log's conformance suite on a real server.

use std::sync::Arc;

use refold_ports::conformance::log;

use crate::stage::Server;

#[tokio::test(flavor = "multi_thread")]
async fn an_event_table_keeps_the_promises_of_a_log() {
    let server = Server::fresh("log_conformance").await;
    let passed = log::run("event table", Arc::new(server)).await;
    assert_eq!(passed, log::case_count());
}
