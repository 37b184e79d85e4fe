//! One aggregate as of a point of its log.
//!
//! The log answers wherever it can. Where compaction or retention took away what it would need,
//! the serving row still stands for the points from its own last event up to its mark, and
//! everything in between is refused: a state is never guessed.

mod answer;

use poem::http::StatusCode;
use refold_domain::as_of::NotAPoint;
use refold_domain::as_of::Point;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::History;
use refold_ports::history::HistoryError;
use refold_ports::history::Question;
use refold_ports::registry::MarkedAnswer;
use refold_ports::registry::ReadError;
use refold_ports::registry::RegistryError;

pub(crate) use answer::AsOfJson;
pub use answer::past_json;

use crate::problem::Problem;
use crate::state::ApiState;

/// What a request says about the past, as it stands in the path and the query.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) id: String,
    version: Option<String>,
    offset: Option<String>,
    ts: Option<String>,
    seq: Option<String>,
    trace: bool,
}

impl Asked {
    /// An aggregate at a point, which is one of offset, time and number of an event.
    pub(crate) fn of(
        id: &str,
        version: Option<String>,
        (offset, ts, seq): (Option<String>, Option<String>, Option<String>),
    ) -> Self {
        Self {
            id: id.to_owned(),
            version,
            offset,
            ts,
            seq,
            trace: false,
        }
    }

    /// The same, with what each event changed.
    pub(crate) fn traced(self) -> Self {
        Self {
            trace: true,
            ..self
        }
    }

    fn point(&self) -> Result<Point, Box<Problem>> {
        let given = (&self.offset, &self.ts, &self.seq);
        let (name, point): (_, Result<Point, NotAPoint>) = match given {
            (Some(offset), None, None) => ("offset", Point::offset(offset)),
            (None, Some(ts), None) => ("ts", Point::time(ts)),
            (None, None, Some(seq)) => ("seq", Point::seq(seq)),
            _ => {
                let detail = "name one of ts, offset and seq";
                return Err(Problem::unreadable(detail).into());
            }
        };
        point.map_err(|error| Problem::unreadable(format!("{name}: {error}")).into())
    }
}

/// Answers what an aggregate was.
pub(crate) async fn read(state: &ApiState, asked: Asked) -> Result<AsOfJson, Problem> {
    let point = asked.point()?;
    let history = state.history.as_ref().ok_or_else(no_log)?;
    let question = Question {
        version: version_of(state, asked.version).await?,
        key: asked.id,
        point,
        trace: asked.trace,
    };
    same_log(state, &**history, &question.version).await?;
    match history.as_of(&question).await {
        Ok(found) if found.past.cells.is_some() => {
            let json = past_json(&found, &question.key, &question.version);
            json.map(AsOfJson).map_err(broken)
        }
        Ok(found) => Err(answer::absent(&found, &question)),
        Err(HistoryError::Gone {
            point,
            partition,
            gone,
            whole_to,
        }) => {
            let row = row_of(state, &question).await?;
            if let Some(row) = row.as_ref().filter(|row| row.stands_for(point)) {
                return row.json(&question).map(AsOfJson).map_err(broken);
            }
            let gone = HistoryError::Gone {
                point,
                partition,
                gone,
                whole_to,
            };
            let at = |offset: Offset| format!("{}:{offset}", partition.0);
            Err(Problem {
                partition: Some(partition.0),
                answerable_to: whole_to.map(at),
                earliest_answerable: row.map(|row| at(row.applied)),
                ..problem_of(gone)
            })
        }
        Err(error) => Err(problem_of(error)),
    }
}

/// The version that is meant: the one that is named, or the one that serves a projection now.
async fn version_of(state: &ApiState, named: Option<String>) -> Result<String, Problem> {
    let Some(name) = state.projection(named.as_deref()) else {
        // Not the name of a projection, so it is the label of a version.
        return Ok(named.unwrap_or_default());
    };
    let active = state.registry.active(name).await?;
    let active = active.ok_or_else(|| ReadError::NoActiveVersion(name.to_owned()))?;
    Ok(state.label(active.version).await?.to_string())
}

/// Refuses to answer for a version from another log than it was built from. A version that has
/// never been built has no log yet, and any is right.
async fn same_log(state: &ApiState, history: &dyn History, label: &str) -> Result<(), Problem> {
    let built_from = match state.registry.version(label).await {
        Ok(version) => version.log,
        Err(RegistryError::UnknownVersion(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let asked = history.log().await.map_err(problem_of)?;
    if built_from.is_same_log(&asked) {
        return Ok(());
    }
    let detail = format!("{built_from}, this server reads {asked}");
    let label = label.to_owned();
    Err(RegistryError::LogChanged { label, detail }.into())
}

/// The serving row, which is the state as of every offset in `[applied, next)`.
struct CurrentRow {
    answer: MarkedAnswer,
    text: String,
    applied: Offset,
}

impl CurrentRow {
    fn stands_for(&self, point: Point) -> bool {
        let partition: Partition = self.answer.answer.partition;
        matches!(point, Point::At(of, at)
            if of == partition && at >= self.applied && at < self.answer.next)
    }

    fn json(&self, question: &Question) -> Result<String, String> {
        let (partition, id) = (self.answer.answer.partition, &question.key);
        answer::row_json(&self.text, partition, id, &question.version)
    }
}

/// The row of the aggregate, when it is the asked version that serves it.
async fn row_of(state: &ApiState, question: &Question) -> Result<Option<CurrentRow>, Problem> {
    let Some(name) = state.projection_of(&question.version) else {
        return Ok(None);
    };
    let mut found = state.reads.read_marked(name, &question.key).await?;
    let label = state.label(found.answer.version).await?;
    if *label != *question.version {
        return Ok(None);
    }
    let Some(text) = found.answer.row.take() else {
        return Ok(None);
    };
    let applied = answer::applied_offset(&text).map_err(broken)?;
    Ok(Some(CurrentRow {
        answer: found,
        text,
        applied,
    }))
}

fn no_log() -> Problem {
    let detail =
        "this server was started without a log; start it with -brokers or -event-store, and -topic";
    let title = "No history here";
    Problem::new(StatusCode::NOT_IMPLEMENTED, "no-log", title, detail)
}

fn broken(detail: String) -> Problem {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    Problem::new(status, "internal", "The state cannot be written", detail)
}

fn problem_of(error: HistoryError) -> Problem {
    let detail = error.to_string();
    let (status, code, title) = match error {
        HistoryError::UnknownVersion(_) => (
            StatusCode::NOT_FOUND,
            "version-not-found",
            "No such version",
        ),
        HistoryError::BadKey(_) => (
            StatusCode::BAD_REQUEST,
            "bad-key",
            "Not an aggregate id of this projection",
        ),
        HistoryError::OtherPartition { .. } => (
            StatusCode::BAD_REQUEST,
            "invalid-offset",
            "Not an offset of this aggregate",
        ),
        HistoryError::NotYet { .. } => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "position-in-future",
            "The point has not come yet",
        ),
        HistoryError::Gone { .. } => (
            StatusCode::GONE,
            "history-unavailable",
            "The log does not hold this history any more",
        ),
        HistoryError::Busy(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "overloaded",
            "Too many questions about the past",
        ),
        HistoryError::Log(error) if error.is_transient() => (
            StatusCode::SERVICE_UNAVAILABLE,
            "log-unreachable",
            "The log cannot be reached",
        ),
        HistoryError::Log(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The log cannot be read",
        ),
    };
    Problem::new(status, code, title, detail)
}
