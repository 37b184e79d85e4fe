//! The projections that are simulated. Their fold multiplies and adds, so that a lost, a doubled
//! or a reordered event always shows.

use std::sync::Arc;

use refold_domain::fold::AnyProjection;
use refold_domain::fold::erase;
use refold_domain::spec::ProjectionSpec;
use refold_projection::Change;
use refold_projection::DecodeError;
use refold_projection::Envelope;
use refold_projection::Fingerprint;
use refold_projection::Payload;
use refold_projection::Projection;
use refold_projection::Row;

/// The projection's name.
pub(crate) const NAME: &str = "ledger";

/// The versions: the first, one with a column more, and one whose fold is wrong.
pub(crate) const VERSIONS: [u32; 3] = [1, 2, WRONG];

/// The version whose fold is wrong.
pub(crate) const WRONG: u32 = 3;

/// The event that ends an aggregate.
pub(crate) const CLOSED: &str = "Closed";

/// The event that changes its row.
pub(crate) const ADDED: &str = "Added";

/// The total behind an event.
pub(crate) fn add(total: i64, amount: i64) -> i64 {
    (total * 31 + amount) % 1_000_003
}

/// What the wrong fold adds.
pub(crate) fn wrong(amount: i64) -> i64 {
    if amount % 5 == 0 { amount + 1 } else { amount }
}

/// What an event says.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Said {
    Added(i64),
    Closed,
}

fn decode(kind: &str, payload: &Payload<'_>) -> Result<Said, DecodeError> {
    let Payload::Json(text) = payload else {
        return Err(DecodeError::new("the simulated log is written as JSON"));
    };
    let amount = text.parse().map_err(DecodeError::new)?;
    Ok(match kind {
        CLOSED => Said::Closed,
        _ => Said::Added(amount),
    })
}

/// The row of the first version.
#[derive(Debug, Clone, PartialEq, Row)]
pub(crate) struct Total {
    total: i64,
}

/// The row of the second version.
#[derive(Debug, Clone, PartialEq, Row)]
pub(crate) struct TotalAndLargest {
    total: i64,
    #[row(new)]
    largest: i64,
}

/// The row of the third version.
#[derive(Debug, Clone, PartialEq, Row)]
pub(crate) struct WrongTotal {
    total: i64,
    largest: i64,
}

struct First;
struct Second;
struct Third;

macro_rules! ledger {
    ($version:ident, $row:ty, $number:expr, $replaces:expr, $put:expr) => {
        impl Projection for $version {
            type Key = i64;
            type Event<'a> = Said;
            type Row = $row;
            const NAME: &'static str = NAME;
            const VERSION: u32 = $number;
            const REPLACES: Option<u32> = $replaces;
            const HANDLES: &'static [&'static str] = &[ADDED, CLOSED];
            const CODE: Fingerprint = Fingerprint($number as _);

            fn decode<'a>(kind: &'a str, payload: Payload<'a>) -> Result<Said, DecodeError> {
                decode(kind, &payload)
            }

            fn fold(&self, row: Option<$row>, event: &Envelope<'_, Said>) -> Change<$row> {
                match event.event {
                    Said::Closed => Change::Delete,
                    Said::Added(amount) => Change::Put($put(row, amount)),
                }
            }
        }
    };
}

ledger!(First, Total, 1, None, |row: Option<Total>, amount| Total {
    total: add(row.map_or(0, |row| row.total), amount),
});

ledger!(
    Second,
    TotalAndLargest,
    2,
    Some(1),
    |row: Option<TotalAndLargest>, amount: i64| {
        let (total, largest) = row.map_or((0, 0), |row| (row.total, row.largest));
        TotalAndLargest {
            total: add(total, amount),
            largest: largest.max(amount),
        }
    }
);

ledger!(
    Third,
    WrongTotal,
    WRONG,
    Some(2),
    |row: Option<WrongTotal>, amount: i64| {
        let (total, largest) = row.map_or((0, 0), |row| (row.total, row.largest));
        WrongTotal {
            total: add(total, wrong(amount)),
            largest: largest.max(amount),
        }
    }
);

/// The projection of a version.
pub(crate) fn projection(number: u32) -> Arc<dyn AnyProjection> {
    match number {
        1 => erase(First),
        2 => erase(Second),
        _ => erase(Third),
    }
}

/// The declarations of all versions.
pub(crate) fn specs() -> Vec<ProjectionSpec> {
    vec![
        ProjectionSpec::of::<First>(),
        ProjectionSpec::of::<Second>(),
        ProjectionSpec::of::<Third>(),
    ]
}

/// The label of a version.
pub(crate) fn label(number: u32) -> String {
    format!("{NAME}_v{number}")
}

/// The number behind a label.
pub(crate) fn number_of(label: &str) -> u32 {
    let number = label.rsplit_once("_v").and_then(|(_, n)| n.parse().ok());
    number.unwrap_or_default()
}
