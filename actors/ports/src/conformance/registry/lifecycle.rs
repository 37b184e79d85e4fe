//! From registered to active.

use refold_domain::log::TopicIdentity;
use refold_domain::spec::ProjectionSpec;
use refold_domain::version::VersionState;

use super::is_conflict;
use super::state_of;
use crate::conformance::store::Case;
use crate::conformance::store::Failure;
use crate::conformance::store::StoreHarness;
use crate::conformance::store::barriers::ready;
use crate::conformance::store::barriers::ready_pair;
use crate::conformance::store::expect;
use crate::conformance::store::expect_equal;
use crate::conformance::store::expect_error;
use crate::conformance::store::fixtures::BY_TEXT;
use crate::conformance::store::fixtures::Picture;
use crate::conformance::store::fixtures::WIDE_V1;
use crate::conformance::store::fixtures::WIDE_V1_CHANGED;
use crate::conformance::store::fixtures::WIDE_V2;
use crate::conformance::store::fixtures::bulk_load;
use crate::conformance::store::fixtures::loaded;
use crate::conformance::store::fixtures::log;
use crate::conformance::store::fixtures::writer_of;
use crate::registry::ActiveRow;
use crate::registry::RegistryError;
use crate::store_cases;

pub(super) fn cases() -> Vec<Case> {
    store_cases![
        a_version_is_registered_as_building_and_found_by_its_label,
        registering_again_answers_the_same_row,
        changed_code_under_an_old_number_is_refused,
        another_log_under_an_old_number_is_refused,
        a_topic_id_is_learnt_and_then_held_to,
        an_unknown_label_is_named,
        versions_are_listed_oldest_first,
        a_version_without_all_tables_is_not_ready,
        a_version_that_never_reached_the_end_of_the_log_is_not_ready,
        a_ready_version_is_ready_when_asked_again,
        a_failed_version_keeps_its_reason_and_cannot_become_ready,
        the_active_version_cannot_fail,
        the_first_version_is_activated_once,
        a_version_that_is_not_ready_cannot_be_activated,
        a_second_version_is_not_activated_without_a_proof,
        marks_show_what_was_committed,
    ]
}

async fn a_version_is_registered_as_building_and_found_by_its_label(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let row = harness.registry().register(&WIDE_V1, &log()).await?;
    expect_equal("label", &row.label.as_str(), &"wide_v1")?;
    expect_equal("name", &row.name.as_str(), &"wide")?;
    expect_equal("state", &row.state, &VersionState::Building)?;
    expect_equal("log", &row.log, &log())?;
    expect_equal("code", &row.code_hash, &WIDE_V1.code_hash())?;
    let found = harness.registry().version("wide_v1").await?;
    expect_equal("the row found by its label", &found, &row)
}

async fn registering_again_answers_the_same_row(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let first = harness.registry().register(&WIDE_V1, &log()).await?;
    let again = harness.registry().register(&WIDE_V1, &log()).await?;
    expect_equal("the row", &again, &first)?;
    let versions = harness.registry().versions().await?;
    expect_equal("versions", &versions.len(), &1)
}

async fn changed_code_under_an_old_number_is_refused(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    harness.registry().register(&WIDE_V1, &log()).await?;
    let again = harness.registry().register(&WIDE_V1_CHANGED, &log()).await;
    expect_error("other code", again, |e| {
        matches!(e, RegistryError::CodeChanged { label, stored, running }
            if label == "wide_v1" && stored != running)
    })
}

async fn another_log_under_an_old_number_is_refused(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let known = TopicIdentity {
        topic_id: Some("one".to_owned()),
        ..log()
    };
    harness.registry().register(&WIDE_V1, &known).await?;
    let others = [
        TopicIdentity {
            cluster_id: "other".to_owned(),
            ..known.clone()
        },
        TopicIdentity {
            topic: "other".to_owned(),
            ..known.clone()
        },
        TopicIdentity {
            partitions: 3,
            ..known.clone()
        },
        TopicIdentity {
            topic_id: Some("two".to_owned()),
            ..known.clone()
        },
    ];
    for other in others {
        let refused = harness.registry().register(&WIDE_V1, &other).await;
        expect_error(
            "another log",
            refused,
            |e| matches!(e, RegistryError::LogChanged { label, .. } if label == "wide_v1"),
        )?;
    }
    // A client that cannot learn the topic's id is not refused for that.
    harness.registry().register(&WIDE_V1, &log()).await?;
    Ok(())
}

async fn a_topic_id_is_learnt_and_then_held_to(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let with_id = |id: &str| TopicIdentity {
        topic_id: Some(id.to_owned()),
        ..log()
    };
    harness.registry().register(&WIDE_V1, &log()).await?;
    harness
        .registry()
        .register(&WIDE_V1, &with_id("one"))
        .await?;
    let refused = harness.registry().register(&WIDE_V1, &with_id("two")).await;
    expect_error("another topic id", refused, |e| {
        matches!(e, RegistryError::LogChanged { .. })
    })
}

async fn an_unknown_label_is_named(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let unknown = harness.registry().version("wide_v9").await;
    expect_error("an unknown label", unknown, |e| {
        *e == RegistryError::UnknownVersion("wide_v9".to_owned())
    })
}

async fn versions_are_listed_oldest_first(harness: &dyn StoreHarness) -> Result<(), Failure> {
    for spec in [&WIDE_V2, &BY_TEXT, &WIDE_V1] {
        harness.registry().register(spec, &log()).await?;
    }
    let versions = harness.registry().versions().await?;
    let labels: Vec<_> = versions.iter().map(|v| v.label.as_str()).collect();
    expect_equal("labels", &labels, &vec!["wide_v2", "by_text_v1", "wide_v1"])
}

async fn a_version_without_all_tables_is_not_ready(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (writer, _) = loaded(harness, &WIDE_V1, 0, 5).await?;
    let version = writer.lease().version;
    let ready = harness.registry().make_ready(version).await?;
    expect_equal("ready with one of two tables", &ready, &false)?;
    expect_equal(
        "state",
        &state_of(harness, version).await?,
        &VersionState::Building,
    )
}

async fn a_version_that_never_reached_the_end_of_the_log_is_not_ready(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    loaded(harness, &WIDE_V1, 1, 5).await?;
    let mut writer = writer_of(harness, &WIDE_V1, 0).await?;
    let mut picture = Picture::new(&WIDE_V1);
    bulk_load(writer.as_mut(), &mut picture, 5).await?;
    let version = writer.lease().version;
    let before = harness.registry().make_ready(version).await?;
    expect_equal("ready before the end of the log", &before, &false)?;
    picture.at_log_end = true;
    writer.commit(&picture.batch(5, 5)?).await?;
    let after = harness.registry().make_ready(version).await?;
    expect_equal("ready at the end of the log", &after, &true)
}

async fn a_ready_version_is_ready_when_asked_again(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let built = ready(harness, &WIDE_V1).await?;
    expect_equal(
        "state",
        &state_of(harness, built.version).await?,
        &VersionState::Ready,
    )?;
    let again = harness.registry().make_ready(built.version).await?;
    expect_equal("ready again", &again, &true)?;
    harness
        .registry()
        .activate_first(built.version, "test", None)
        .await?;
    let active = harness.registry().make_ready(built.version).await?;
    expect_equal("an active version counts as ready", &active, &true)?;
    expect_equal(
        "state",
        &state_of(harness, built.version).await?,
        &VersionState::Active,
    )
}

async fn a_failed_version_keeps_its_reason_and_cannot_become_ready(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let built = ready(harness, &WIDE_V1).await?;
    harness
        .registry()
        .fail(built.version, "the disk is gone")
        .await?;
    let row = harness.registry().version("wide_v1").await?;
    expect_equal("state", &row.state, &VersionState::Failed)?;
    expect_equal("note", &row.note.as_deref(), &Some("the disk is gone"))?;
    let ready = harness.registry().make_ready(built.version).await;
    expect_error("ready after a failure", ready, is_conflict)?;
    let active = harness
        .registry()
        .activate_first(built.version, "test", None)
        .await;
    expect_error("active after a failure", active, is_conflict)
}

async fn the_active_version_cannot_fail(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let (old, _) = ready_pair(harness).await?;
    let failed = harness.registry().fail(old.version, "for a try").await;
    expect_error("failing the active version", failed, is_conflict)?;
    expect_equal(
        "state",
        &state_of(harness, old.version).await?,
        &VersionState::Active,
    )
}

async fn the_first_version_is_activated_once(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let built = ready(harness, &WIDE_V1).await?;
    let nobody = harness.registry().active("wide").await?;
    expect_equal("active before", &nobody, &None)?;
    let row = ActiveRow {
        version: built.version,
        generation: 1,
    };
    for _ in 0..2 {
        let active = harness
            .registry()
            .activate_first(built.version, "test", None)
            .await?;
        expect_equal("the active row", &active.active, &row)?;
    }
    let active = harness.registry().active("wide").await?;
    expect_equal("active after", &active, &Some(row))
}

async fn a_version_that_is_not_ready_cannot_be_activated(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let version = harness.registry().register(&WIDE_V1, &log()).await?.id;
    let active = harness
        .registry()
        .activate_first(version, "test", None)
        .await;
    expect_error("activating a building version", active, is_conflict)?;
    let nobody = harness.registry().active("wide").await?;
    expect("nothing is active", nobody.is_none())
}

async fn a_second_version_is_not_activated_without_a_proof(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (_, new) = ready_pair(harness).await?;
    let active = harness
        .registry()
        .activate_first(new.version, "test", None)
        .await;
    expect_error("activating a second version", active, is_conflict)
}

async fn marks_show_what_was_committed(harness: &dyn StoreHarness) -> Result<(), Failure> {
    async fn seen(
        harness: &dyn StoreHarness,
        spec: &ProjectionSpec,
    ) -> Result<Vec<(i32, i64, bool, bool, u64)>, Failure> {
        let version = harness.registry().version(&spec.label()).await?;
        let marks = harness.registry().marks(version.id).await?;
        let seen = marks.iter().map(|m| {
            (
                m.partition.0,
                m.next.0,
                m.has_leaf,
                m.reached_log_end,
                m.rows,
            )
        });
        Ok(seen.collect())
    }
    let (mut writer, mut picture) = loaded(harness, &WIDE_V1, 1, 5).await?;
    writer_of(harness, &WIDE_V1, 0).await?;
    let expected = vec![(0, 0, false, false, 0), (1, 5, true, true, 5)];
    expect_equal("marks", &seen(harness, &WIDE_V1).await?, &expected)?;
    picture.delete(&crate::conformance::store::fixtures::int_cell(3), 2, 5);
    writer.commit(&picture.batch(5, 6)?).await?;
    let expected = vec![(0, 0, false, false, 0), (1, 6, true, true, 4)];
    expect_equal(
        "marks after a delete",
        &seen(harness, &WIDE_V1).await?,
        &expected,
    )
}
