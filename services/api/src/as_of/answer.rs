//! The answer about the past as JSON.

use std::fmt;

use poem::IntoResponse;
use poem::Response;
use poem::http::StatusCode;
use poem_openapi::Object;
use poem_openapi::payload::Payload;
use poem_openapi::registry::MetaSchemaRef;
use poem_openapi::registry::Registry;
use poem_openapi::types::Any;
use poem_openapi::types::Type;
use refold_domain::as_of::Event;
use refold_domain::as_of::Step;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::history::Question;
use refold_ports::history::Remembered;
use refold_projection::Column;
use refold_projection::column_json;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de::MapAccess;
use serde::de::Visitor;
use serde::ser::SerializeMap;
use serde_json::value::RawValue;

use crate::aggregate::id_json;
use crate::problem::Problem;

/// An aggregate as it was.
#[derive(Debug, Object)]
#[oai(rename = "AsOf")]
struct AsOfSchema {
    /// The id that was asked for: a number or a string, as the projection's key type is.
    aggregate_id: Any<serde_json::Value>,
    /// The projection's columns.
    state: Any<serde_json::Value>,
    /// The last event that is in the state.
    stopped_at: EventSchema,
    /// The first event that is not in it, where it was seen.
    next: Option<EventSchema>,
    /// Events that were folded for this answer.
    folded_events: u64,
    /// Whether the times of the aggregate's events go up with their offsets: monotone or
    /// disordered. By time, an event is in the state when its own time is not behind the asked
    /// one, wherever it stands.
    ts_order: Option<String>,
    /// Whether the state is the serving row, because the log does not go back to its first event.
    from_snapshot: bool,
    /// Always true: no event is missing in front of the point.
    complete: bool,
    /// The version whose fold and columns these are.
    projection_version: String,
    /// Each folded event with the columns that it changed, when `trace` is given: the last 1,000.
    trace: Option<Vec<Any<serde_json::Value>>>,
}

/// An event of the log.
#[derive(Debug, Object)]
#[oai(rename = "AsOfEvent")]
struct EventSchema {
    /// The aggregate's partition.
    partition: i32,
    /// Its offset there.
    offset: i64,
    /// Its number in the aggregate, counted from 1.
    seq: u64,
    /// When it happened, as it says itself; not known of a serving row.
    ts: Option<String>,
    /// Its type; not known of a serving row.
    #[oai(rename = "type")]
    kind: Option<String>,
}

/// A body that is JSON already, as [`AsOfSchema`] describes it.
#[derive(Debug)]
pub(crate) struct AsOfJson(pub(super) String);

impl Payload for AsOfJson {
    const CONTENT_TYPE: &'static str = "application/json; charset=utf-8";

    fn schema_ref() -> MetaSchemaRef {
        AsOfSchema::schema_ref()
    }

    fn register(registry: &mut Registry) {
        AsOfSchema::register(registry);
    }
}

impl IntoResponse for AsOfJson {
    fn into_response(self) -> Response {
        let response = Response::builder().content_type(Self::CONTENT_TYPE);
        response.body(self.0)
    }
}

/// Names and values in their order, the values as they were written.
#[derive(Debug, Default)]
struct Columns(Vec<(String, Box<RawValue>)>);

impl Columns {
    fn of(columns: &[Column], cells: Option<&[u8]>) -> Result<Option<Self>, String> {
        let Some(cells) = cells else {
            return Ok(None);
        };
        let parts = column_json(columns, cells).map_err(|error| error.to_string())?;
        let parts = parts.into_iter();
        let parts = parts.map(|(name, text)| Ok((name.to_owned(), raw(text)?)));
        Ok(Some(Self(parts.collect::<Result<_, String>>()?)))
    }
}

impl Serialize for Columns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Columns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the columns of a row")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Columns, M::Error> {
                let mut columns = Columns::default();
                while let Some(column) = map.next_entry()? {
                    columns.0.push(column);
                }
                Ok(columns)
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

#[derive(Serialize)]
struct EventJson {
    partition: i32,
    offset: i64,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
}

impl EventJson {
    fn of(event: &Event, partition: Partition) -> Self {
        Self {
            partition: partition.0,
            offset: event.offset.0,
            seq: event.seq,
            ts: Some(event.time.to_string()),
            kind: Some(event.kind.clone()),
        }
    }
}

#[derive(Serialize)]
struct StepJson {
    #[serde(flatten)]
    event: EventJson,
    before: Option<Columns>,
    after: Option<Columns>,
}

impl StepJson {
    /// The columns that the event changed; all of them where the row came or went.
    fn of(step: &Step, columns: &[Column], partition: Partition) -> Result<Self, String> {
        let mut before = Columns::of(columns, step.before.as_deref())?;
        let mut after = Columns::of(columns, step.after.as_deref())?;
        if let (Some(Columns(before)), Some(Columns(after))) = (&mut before, &mut after) {
            let pairs = before.iter().zip(after.iter());
            let differ: Vec<bool> = pairs.map(|(a, b)| a.1.get() != b.1.get()).collect();
            for side in [before, after] {
                let mut differ = differ.iter();
                side.retain(|_| differ.next() == Some(&true));
            }
        }
        Ok(Self {
            event: EventJson::of(&step.event, partition),
            before,
            after,
        })
    }
}

#[derive(Serialize)]
struct AsOfBody<'a> {
    aggregate_id: Box<RawValue>,
    state: Option<Columns>,
    stopped_at: Option<EventJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<EventJson>,
    folded_events: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ts_order: Option<&'static str>,
    from_snapshot: bool,
    complete: bool,
    projection_version: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    trace: Vec<StepJson>,
}

impl AsOfBody<'_> {
    fn text(&self) -> Result<String, String> {
        serde_json::to_string(self).map_err(|error| error.to_string())
    }
}

/// What an aggregate was, as the API and the command line answer it.
///
/// # Errors
/// One sentence when the cells are not what the columns declare.
pub fn past_json(found: &Remembered, id: &str, version: &str) -> Result<String, String> {
    let Remembered {
        past,
        columns,
        partition,
        ..
    } = found;
    let steps = past.steps.iter();
    let trace = steps.map(|step| StepJson::of(step, columns, *partition));
    let event = |event: &Option<Event>| event.as_ref().map(|e| EventJson::of(e, *partition));
    let body = AsOfBody {
        aggregate_id: raw(id_json(id))?,
        state: Columns::of(columns, past.cells.as_deref())?,
        stopped_at: event(&past.stopped_at),
        next: event(&past.next),
        folded_events: past.folded,
        ts_order: Some(past.order.word()),
        from_snapshot: false,
        complete: true,
        projection_version: version,
        trace: trace.collect::<Result<_, _>>()?,
    };
    body.text()
}

/// The serving row as an answer about the past.
pub(super) fn row_json(
    row: &str,
    partition: Partition,
    id: &str,
    version: &str,
) -> Result<String, String> {
    let applied = applied(row)?;
    let columns: Columns = serde_json::from_str(row).map_err(|error| error.to_string())?;
    let is_own = |name: &str| name != "applied_seq" && name != "applied_offset";
    let own = columns.0.into_iter().filter(|(name, _)| is_own(name));
    let body = AsOfBody {
        aggregate_id: raw(id_json(id))?,
        state: Some(Columns(own.collect())),
        stopped_at: Some(EventJson {
            partition: partition.0,
            offset: applied.applied_offset,
            seq: applied.applied_seq,
            ts: None,
            kind: None,
        }),
        next: None,
        folded_events: 0,
        ts_order: None,
        from_snapshot: true,
        complete: true,
        projection_version: version,
        trace: Vec::new(),
    };
    body.text()
}

/// What the engine adds to a row.
#[derive(Deserialize)]
struct Applied {
    applied_seq: u64,
    applied_offset: i64,
}

fn applied(row: &str) -> Result<Applied, String> {
    serde_json::from_str(row).map_err(|error| error.to_string())
}

fn raw(text: String) -> Result<Box<RawValue>, String> {
    RawValue::from_string(text).map_err(|error| error.to_string())
}

/// Offset of the last event in a serving row.
pub(super) fn applied_offset(row: &str) -> Result<Offset, String> {
    Ok(Offset(applied(row)?.applied_offset))
}

/// There was no such aggregate then.
pub(super) fn absent(found: &Remembered, question: &Question) -> Problem {
    let (id, point) = (&question.key, question.point);
    let detail = match (&found.past.stopped_at, &found.past.next) {
        (Some(last), _) => format!(
            "aggregate {id} had no row as of {point}: its event {} ({}) at offset {} left none",
            last.seq, last.kind, last.offset
        ),
        (None, Some(first)) => format!(
            "aggregate {id} had no event as of {point}: its first one is at offset {}, {}",
            first.offset, first.time
        ),
        (None, None) => format!("aggregate {id} had no event as of {point}"),
    };
    let title = "No such aggregate";
    Problem {
        projection_version: Some(question.version.clone()),
        partition: Some(found.partition.0),
        ..Problem::new(StatusCode::NOT_FOUND, "aggregate-not-found", title, detail)
    }
}
