//! The answer of a point read.

use poem::IntoResponse;
use poem::Response;
use poem::http::StatusCode;
use poem_openapi::Object;
use poem_openapi::payload::Payload;
use poem_openapi::registry::MetaSchemaRef;
use poem_openapi::registry::Registry;
use poem_openapi::types::Any;
use poem_openapi::types::Type;
use refold_ports::registry::ReadAnswer;
use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::freshness;
use crate::freshness::Fresh;
use crate::problem::Problem;
use crate::state::ApiState;

/// The current state of an aggregate: the projection's own columns beside these fields.
#[derive(Debug, Object)]
#[oai(rename = "Aggregate")]
struct AggregateSchema {
    /// The id that was asked for: a number or a string, as the projection's key type is.
    aggregate_id: Any<serde_json::Value>,
    /// Version of the aggregate's last event in the row.
    applied_seq: i64,
    /// Offset of that event in its partition.
    applied_offset: i64,
    /// The partition that the aggregate lives in.
    partition: i32,
    /// The version that answered.
    projection_version: String,
    /// Generation of the registry in the same snapshot; grows with every switch.
    generation: i64,
}

/// A body that is JSON already: the row's columns as the database wrote them,
/// with the fields of [`AggregateSchema`] around them. It is never parsed here.
#[derive(Debug)]
pub(crate) struct AggregateJson(String);

impl Payload for AggregateJson {
    const CONTENT_TYPE: &'static str = "application/json; charset=utf-8";

    fn schema_ref() -> MetaSchemaRef {
        AggregateSchema::schema_ref()
    }

    fn register(registry: &mut Registry) {
        AggregateSchema::register(registry);
    }
}

impl IntoResponse for AggregateJson {
    fn into_response(self) -> Response {
        Response::builder()
            .content_type(Self::CONTENT_TYPE)
            .body(self.0)
    }
}

/// A found aggregate and what its headers say.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) body: AggregateJson,
    pub(crate) version: String,
    /// `PARTITION:OFFSET`.
    pub(crate) applied_offset: String,
    /// Names the answer, see [`tag`].
    pub(crate) etag: String,
}

impl Found {
    /// Whether an `If-None-Match` header names this answer.
    pub(crate) fn is_known(&self, if_none_match: Option<&str>) -> bool {
        let names = |header: &str| {
            let mut tags = header.split(',').map(str::trim);
            tags.any(|tag| tag == "*" || tag.trim_start_matches("W/") == self.etag)
        };
        if_none_match.is_some_and(names)
    }
}

/// The one field that the headers need of the row's text.
#[derive(Deserialize)]
struct Applied {
    applied_offset: i64,
}

/// Reads one aggregate of the projection `name`, no older than `fresh`.
pub(crate) async fn read(
    state: &ApiState,
    name: &'static str,
    id: &str,
    fresh: Option<Fresh>,
) -> Result<Found, Problem> {
    let answer = match fresh {
        None => state.measured.measure(state.reads.read(name, id)).await?,
        Some(fresh) => freshness::read(state, name, id, fresh).await?,
    };
    if let Some(shadow) = &state.shadow {
        shadow.offer(name, id, &answer);
    }
    let version = state.label(answer.version).await?;
    let Some(row) = &answer.row else {
        return Err(not_found(id, &version, &answer));
    };
    let applied: Applied = serde_json::from_str(row).map_err(|e| broken_row(&e.to_string()))?;
    let body = around(row, id, &version, &answer).ok_or_else(|| broken_row("not an object"))?;
    let (partition, offset) = (answer.partition.0, applied.applied_offset);
    Ok(Found {
        body: AggregateJson(body),
        version: version.to_string(),
        applied_offset: format!("{partition}:{offset}"),
        etag: tag(&version, &answer, offset, row),
    })
}

/// The tag of an answer: version, partition, offset of the row's last event, generation, and XXH3
/// of the row. The version names the answer for people; the hash is what makes two answers of
/// one tag the same, because a repair changes a row and not its offset.
fn tag(version: &str, answer: &ReadAnswer, offset: i64, row: &str) -> String {
    let (partition, generation) = (answer.partition.0, answer.generation);
    let hash = xxh3_64(row.as_bytes());
    format!("\"{version}-p{partition}-{offset}-g{generation}-{hash:016x}\"")
}

/// Puts the engine's fields around the row's own: `{"aggregate_id":..,ROW,"partition":..}`.
fn around(row: &str, id: &str, version: &str, answer: &ReadAnswer) -> Option<String> {
    let fields = row.trim().strip_prefix('{')?.strip_suffix('}')?;
    let id = id_json(id);
    let version = serde_json::Value::from(version);
    let (partition, generation) = (answer.partition.0, answer.generation);
    Some(format!(
        "{{\"aggregate_id\":{id},{fields},\"partition\":{partition},\
         \"projection_version\":{version},\"generation\":{generation}}}"
    ))
}

/// An id as JSON text: a number for numeric ids, as every other 64-bit value of an answer.
pub(crate) fn id_json(id: &str) -> String {
    match id.parse::<i64>() {
        Ok(number) if number.to_string() == id => id.to_owned(),
        _ => serde_json::Value::from(id).to_string(),
    }
}

fn not_found(id: &str, version: &str, answer: &ReadAnswer) -> Problem {
    let detail = format!("{version} holds no aggregate {id}");
    let code = "aggregate-not-found";
    Problem {
        projection_version: Some(version.to_owned()),
        generation: Some(answer.generation),
        partition: Some(answer.partition.0),
        ..Problem::new(StatusCode::NOT_FOUND, code, "No such aggregate", detail)
    }
}

fn broken_row(why: &str) -> Problem {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "The server failed",
        format!("the read model answered with a row that cannot be shown: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use refold_domain::position::Partition;
    use refold_domain::version::VersionId;

    use super::*;

    #[test]
    fn a_row_that_was_put_right_is_another_answer_although_its_offset_is_the_same() {
        let answer = ReadAnswer {
            version: VersionId(7),
            generation: 3,
            partition: Partition(19),
            row: None,
        };
        let wrong = tag(
            "accounts_v4",
            &answer,
            8,
            r#"{"balance":1,"applied_offset":8}"#,
        );
        let right = tag(
            "accounts_v4",
            &answer,
            8,
            r#"{"balance":2,"applied_offset":8}"#,
        );
        assert!(wrong.starts_with("\"accounts_v4-p19-8-g3-"), "{wrong}");
        assert_ne!(wrong, right);
    }
}
