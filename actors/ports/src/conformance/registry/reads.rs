//! Point reads: one snapshot for the version and the row.

use refold_domain::partitioner::partition_of;
use refold_domain::position::Partition;
use refold_projection::Json;

use super::compared_barrier;
use super::request;
use crate::conformance::store::Case;
use crate::conformance::store::Failure;
use crate::conformance::store::StoreHarness;
use crate::conformance::store::barriers::Built;
use crate::conformance::store::barriers::ready;
use crate::conformance::store::barriers::ready_pair;
use crate::conformance::store::expect_equal;
use crate::conformance::store::expect_error;
use crate::conformance::store::fixtures::PARTITIONS;
use crate::conformance::store::fixtures::WIDE_V1;
use crate::conformance::store::fixtures::WIDE_V2;
use crate::conformance::store::fixtures::int_cell;
use crate::registry::ReadAnswer;
use crate::registry::ReadError;
use crate::store_cases;

pub(super) fn cases() -> Vec<Case> {
    store_cases![
        a_row_is_read_with_every_column_and_its_position,
        a_row_without_values_is_read_with_nulls,
        an_aggregate_that_never_was_is_absent_and_the_version_is_named,
        a_deleted_aggregate_reads_as_absent_until_it_comes_back,
        a_read_sees_the_latest_commit,
        a_text_that_is_no_key_is_refused,
        nothing_is_read_before_a_version_is_active,
        after_a_switch_reads_come_from_the_new_version,
    ]
}

/// A key whose home is the partition that [`Built::writer`] writes.
fn key_at_home() -> i64 {
    let at_home = |k: &i64| partition_of(k.to_string().as_bytes(), PARTITIONS) == Partition(0);
    // Half of all keys live there.
    (0..10).find(at_home).unwrap_or_default()
}

async fn active(harness: &dyn StoreHarness) -> Result<Built, Failure> {
    let built = ready(harness, &WIDE_V1).await?;
    harness
        .registry()
        .activate_first(built.version, "test", None)
        .await?;
    Ok(built)
}

async fn read(harness: &dyn StoreHarness, key: &str) -> Result<ReadAnswer, Failure> {
    let answer = harness.read_model().read("wide", key).await;
    answer.map_err(|e| Failure(format!("the read model answered: {e}")))
}

/// The row in the server's canonical form of JSON, so that spaces and order do not count.
fn canonical(row: Option<&str>) -> Result<Option<String>, Failure> {
    let parsed = row.map(Json::parse).transpose();
    let parsed = parsed.map_err(|e| Failure(format!("{row:?}: {e}")))?;
    Ok(parsed.map(|json| json.as_str().to_owned()))
}

async fn a_row_is_read_with_every_column_and_its_position(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let built = active(harness).await?;
    let answer = read(harness, "1").await?;
    expect_equal("version", &answer.version, &built.version)?;
    expect_equal("generation", &answer.generation, &1)?;
    expect_equal(
        "partition",
        &answer.partition,
        &partition_of(b"1", PARTITIONS),
    )?;
    let wanted = r#"{"total": 1000, "small": -1, "flag": false, "title": "number 1, über \"all\"",
        "seen_at": "2023-11-14T22:13:21.000001+00:00", "price": 1234567890.1227,
        "document": {"n": 1, "names": ["a\"b", null, true]}, "blob": "\\x00ff01",
        "tag": "01010101-0101-0101-0101-010101010101", "order": 6,
        "applied_seq": 1, "applied_offset": 1}"#;
    let found = canonical(answer.row.as_deref())?;
    expect_equal("row", &found, &canonical(Some(wanted))?)
}

async fn a_row_without_values_is_read_with_nulls(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    active(harness).await?;
    let answer = read(harness, "3").await?;
    let wanted = r#"{"total": 3000, "small": null, "flag": null, "title": null, "seen_at": null,
        "price": null, "document": null, "blob": null, "tag": null, "order": null,
        "applied_seq": 1, "applied_offset": 3}"#;
    let found = canonical(answer.row.as_deref())?;
    expect_equal("row", &found, &canonical(Some(wanted))?)
}

async fn an_aggregate_that_never_was_is_absent_and_the_version_is_named(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let built = active(harness).await?;
    let answer = read(harness, "4711").await?;
    let wanted = ReadAnswer {
        version: built.version,
        generation: 1,
        partition: partition_of(b"4711", PARTITIONS),
        row: None,
    };
    expect_equal("answer", &answer, &wanted)
}

async fn a_deleted_aggregate_reads_as_absent_until_it_comes_back(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let mut built = active(harness).await?;
    let key = key_at_home();
    built.picture.delete(&int_cell(key), 2, 10);
    built.writer.commit(&built.picture.batch(10, 11)?).await?;
    let gone = read(harness, &key.to_string()).await?;
    expect_equal("row after the delete", &gone.row, &None)?;
    built.picture.put(&int_cell(key), 6, 3, 11)?;
    built.writer.commit(&built.picture.batch(11, 12)?).await?;
    let back = read(harness, &key.to_string()).await?;
    let row = canonical(back.row.as_deref())?.unwrap_or_default();
    expect_equal(
        "total after it came back",
        &row.contains("\"total\": 6000"),
        &true,
    )
}

async fn a_read_sees_the_latest_commit(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let mut built = active(harness).await?;
    let key = key_at_home();
    for off in 10..15 {
        built.picture.put(&int_cell(key), off, off, off)?;
        built
            .writer
            .commit(&built.picture.batch(off, off + 1)?)
            .await?;
        let answer = read(harness, &key.to_string()).await?;
        let row = canonical(answer.row.as_deref())?.unwrap_or_default();
        let seen = row.contains(&format!("\"applied_offset\": {off}"));
        expect_equal("the row just written", &seen, &true)?;
    }
    Ok(())
}

async fn a_text_that_is_no_key_is_refused(harness: &dyn StoreHarness) -> Result<(), Failure> {
    active(harness).await?;
    for text in ["", "abc", "1.5", "99999999999999999999"] {
        let answer = harness.read_model().read("wide", text).await;
        expect_error(text, answer, |e| matches!(e, ReadError::BadKey(_)))?;
    }
    Ok(())
}

async fn nothing_is_read_before_a_version_is_active(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let wanted = ReadError::NoActiveVersion("wide".to_owned());
    let unknown = harness.read_model().read("wide", "1").await;
    expect_error("no version at all", unknown, |e| *e == wanted)?;
    ready(harness, &WIDE_V1).await?;
    let ready = harness.read_model().read("wide", "1").await;
    expect_error("a ready version only", ready, |e| *e == wanted)
}

async fn after_a_switch_reads_come_from_the_new_version(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (old, new) = ready_pair(harness).await?;
    let before = read(harness, "1").await?;
    expect_equal(
        "before",
        &(before.version, before.generation),
        &(old.version, 1),
    )?;
    let barrier =
        compared_barrier(harness, (old.version, &WIDE_V1), (new.version, &WIDE_V2)).await?;
    let request = request(new.version, barrier);
    harness
        .registry()
        .promote(&request, &WIDE_V1, &WIDE_V2)
        .await?;
    let after = read(harness, "1").await?;
    expect_equal(
        "after",
        &(after.version, after.generation),
        &(new.version, 2),
    )?;
    expect_equal("the same row", &after.row, &before.row)
}
