//! An api without its database.

use std::time::Duration;
use std::time::Instant;

use refold_e2e::World;
use refold_local::PostgresOptions;
use refold_local::PostgresServer;
use refold_local::testing;
use refold_local::testing::ScratchDir;

use super::scene::BOUND;
use super::scene::PAIR;
use super::scene::STREAM;
use super::scene::api;
use super::scene::row;

/// A read has two seconds, the registry waits three for a connection.
const DEADLINE: Duration = Duration::from_secs(5);

#[test]
fn an_api_without_a_database_says_so_in_time_and_serves_when_it_is_back() {
    let scratch = ScratchDir::new("refold-api-away").expect("a directory");
    let server = PostgresServer::start(scratch.path(), PostgresOptions::default());
    let mut server = server.expect("a server");
    let world = World::at(&testing::stack().kafka, &server.dsn(), "api-away", STREAM);
    world.seed();
    let _live = world.start(refold_e2e::Mode::Live, PAIR[0], "active");
    let api = api(&world, &[]);
    row(&api.get("/aggregate/1"));
    for round in 0..2 {
        server.crash().expect("a crash");
        for path in [
            "/aggregate/1",
            "/aggregate/1?min_offset=0:1&wait=100ms",
            "/projections",
        ] {
            let asked = Instant::now();
            let reply = api.get(path);
            let waited = asked.elapsed();
            assert_eq!(reply.status, 503, "round {round}: {reply:?}");
            let away = reply.problem("store_unreachable");
            assert_eq!(away["retryable"], true);
            assert_eq!(reply.header("retry-after"), Some("1"), "{reply:?}");
            assert!(waited < DEADLINE, "{path}: {waited:?}");
        }
        assert_eq!(api.get("/livez").status, 200);
        assert_eq!(api.get("/readyz").status, 503);
        server.ensure().expect("the server comes back");
        let serves = || api.get("/aggregate/1").status == 200;
        assert!(testing::wait_until(BOUND, serves), "round {round}");
    }
}
