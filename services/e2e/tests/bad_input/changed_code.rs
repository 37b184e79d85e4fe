//! A fold that was changed under an old number.

use refold_domain::log::TopicIdentity;
use refold_domain::spec::ProjectionSpec;
use refold_e2e::Mode;
use refold_e2e::World;
use refold_local::testing;
use refold_ports::Registry;
use refold_ports::registry::RegistryError;
use refold_projection::Projection;
use refold_store_postgres::PgRegistry;
use refold_store_postgres::SessionOptions;

use super::SMALL;
use super::refused;

#[path = "changed_code/after.rs"]
mod after;
#[path = "changed_code/before.rs"]
mod before;
#[path = "changed_code/commented.rs"]
mod commented;

#[test]
fn a_version_that_other_code_built_is_not_projected_and_not_promoted() {
    let world = World::seeded("code", SMALL);
    world.replay("accounts_v3");
    let before = world.marks("accounts_v3");
    let stored = world.cell("select code_hash from refold.versions");
    world.sql("update refold.versions set code_hash = repeat('0', 32)");
    for mode in [Mode::Live, Mode::Replay] {
        let (code, sentence) = refused(&world.projector(mode, "accounts_v3"));
        assert_eq!(code, 3, "{sentence}");
        assert!(sentence.contains("was built by other code"), "{sentence}");
        assert!(sentence.contains("new version number"), "{sentence}");
        assert!(sentence.contains(&stored), "{sentence}");
    }
    assert_eq!(world.marks("accounts_v3"), before);
    let api = world.api("accounts");
    let refused = api.cutover("accounts_v3");
    assert_eq!(refused.status, 409, "{refused:?}");
    refused.problem("code_changed");
    world.sql(&format!(
        "update refold.versions set code_hash = '{stored}'"
    ));
    world.replay("accounts_v3");
    assert_eq!(api.cutover("accounts_v3").status, 200);
}

#[test]
fn a_changed_fold_has_another_fingerprint_and_the_registry_refuses_it() {
    let built = ProjectionSpec::of::<before::TotalsV1>();
    let changed = ProjectionSpec::of::<after::TotalsV1>();
    let commented = ProjectionSpec::of::<commented::TotalsV1>();
    assert_eq!(built.label(), changed.label());
    assert_eq!(before::TotalsV1::VERSION, after::TotalsV1::VERSION);
    assert_ne!(built.code_hash(), changed.code_hash());
    assert_eq!(
        built.code_hash(),
        commented.code_hash(),
        "a comment is no code"
    );

    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let dsn = testing::fresh_database("changed_code").expect("a database");
        let session = SessionOptions::parse(&dsn).expect("an address");
        let migrated = refold_store_postgres::migrate(&session).await;
        migrated.expect("migrations");
        let registry = PgRegistry::new(&session);
        let log = TopicIdentity {
            cluster_id: "c".to_owned(),
            topic: "t".to_owned(),
            topic_id: None,
            partitions: 1,
        };
        let first = registry.register(&built, &log).await.expect("registered");
        let again = registry.register(&commented, &log).await;
        assert_eq!(again.map(|row| row.id), Ok(first.id));
        let refused = registry.register(&changed, &log).await;
        let expected = RegistryError::CodeChanged {
            label: "totals_v1".to_owned(),
            stored: built.code_hash(),
            running: changed.code_hash(),
        };
        assert_eq!(refused.map(|row| row.id), Err(expected));
    });
}
