//! Writing down what the oracle expects.

use std::io::Write;

use serde::Serialize;

use crate::error::SeedError;
use crate::oracle::{Expected, Oracle};
use crate::params::SeedParams;

/// How expected rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExpectedFormat {
    /// A header, then one line for each aggregate.
    #[default]
    Csv,
    /// One JSON object on a line for each aggregate.
    NdJson,
}

/// A name that is neither `csv` nor `ndjson`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown output format {0:?} (known: csv, ndjson)")]
pub struct UnknownExpectedFormat(pub String);

impl std::str::FromStr for ExpectedFormat {
    type Err = UnknownExpectedFormat;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "csv" => Ok(ExpectedFormat::Csv),
            "ndjson" => Ok(ExpectedFormat::NdJson),
            _ => Err(UnknownExpectedFormat(name.to_owned())),
        }
    }
}

/// What to ask the oracle.
#[derive(Debug, Clone, Default)]
pub struct ExpectedOptions {
    /// Parameters of the log.
    pub params: SeedParams,
    /// Next offset of every partition: only events below count. `None` for the
    /// end of the seeded part.
    pub next_offsets: Option<Vec<u64>>,
    /// One aggregate; `None` for all of them.
    pub id: Option<i64>,
    /// With `id`: the state right after this version instead of the last one.
    pub version: Option<u64>,
    /// How rows are written.
    pub format: ExpectedFormat,
}

/// Writes the expected rows that `options` ask for; returns how many.
///
/// # Errors
/// [`SeedError`] when the parameters or offsets describe no log, when there is
/// no such aggregate or version, and when `out` cannot be written.
pub fn expected(options: &ExpectedOptions, out: &mut impl Write) -> Result<u64, SeedError> {
    let oracle = Oracle::new(&options.params)?;
    let ends = match &options.next_offsets {
        Some(ends) => ends.clone(),
        None => oracle.layout().end_offsets(),
    };
    if ends.len() != options.params.partitions as usize {
        return Err(SeedError::Offsets {
            found: ends.len(),
            wanted: options.params.partitions,
        });
    }
    if options.format == ExpectedFormat::Csv {
        writeln!(out, "{CSV_HEADER}")?;
    }
    if let Some(id) = options.id {
        let row = one(&oracle, &ends, id, options.version)?;
        write_row(out, options.format, &row)?;
        return Ok(1);
    }
    let mut rows = 0;
    for (partition, &end) in (0..).zip(&ends) {
        let mut result = Ok(());
        oracle.for_each_in_partition(partition, end, |row| {
            if result.is_ok() {
                result = write_row(out, options.format, &row);
                rows += 1;
            }
        });
        result?;
    }
    Ok(rows)
}

fn one(
    oracle: &Oracle,
    ends: &[u64],
    id: i64,
    version: Option<u64>,
) -> Result<Expected, SeedError> {
    let partition = oracle
        .layout()
        .partition_of(id)
        .ok_or(SeedError::NoSuchAggregate(id))?;
    let end = ends[partition as usize];
    match version {
        Some(version) => oracle
            .expected(id, version, end)
            .ok_or(SeedError::NoSuchState { id, version }),
        None => oracle
            .expected_at(id, end)
            .ok_or(SeedError::NoSuchAggregate(id)),
    }
}

const CSV_HEADER: &str = "aggregate_id,partition,last_version,last_offset,v3_balance,v3_status,\
    v4_balance,v4_status,largest_deposit,deposits_count,reversed_total,opened_at_micros,\
    closed_at_micros,currency,differs";

#[derive(Serialize)]
struct Line {
    aggregate_id: i64,
    partition: u32,
    last_version: u64,
    last_offset: u64,
    v3: LineV3,
    v4: LineV4,
    differs: bool,
}

#[derive(Serialize)]
struct LineV3 {
    balance: i64,
    status: &'static str,
}

#[derive(Serialize)]
struct LineV4 {
    balance: i64,
    status: &'static str,
    largest_deposit: i64,
    deposits_count: i64,
    reversed_total: i64,
    opened_at_micros: i64,
    closed_at_micros: Option<i64>,
    currency: &'static str,
}

fn write_row(
    out: &mut impl Write,
    format: ExpectedFormat,
    row: &Expected,
) -> Result<(), SeedError> {
    let line = Line {
        aggregate_id: row.id,
        partition: row.partition,
        last_version: row.last_version,
        last_offset: row.last_offset,
        v3: LineV3 {
            balance: row.v3.balance,
            status: row.v3.status.name(),
        },
        v4: LineV4 {
            balance: row.v4.balance,
            status: row.v4.status.name(),
            largest_deposit: row.v4.largest_deposit,
            deposits_count: row.v4.deposits_count,
            reversed_total: row.v4.reversed_total,
            opened_at_micros: row.v4.opened_at,
            closed_at_micros: row.v4.closed_at,
            currency: row.v4.currency,
        },
        differs: row.differs(),
    };
    match format {
        ExpectedFormat::NdJson => {
            serde_json::to_writer(&mut *out, &line).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
        ExpectedFormat::Csv => write_csv(out, &line)?,
    }
    Ok(())
}

/// No column can hold a comma or a quote, so nothing is quoted.
fn write_csv(out: &mut impl Write, line: &Line) -> std::io::Result<()> {
    let Line { v3, v4, .. } = line;
    write!(
        out,
        "{},{},{},{},{},{},{},{},{},{},{},{},",
        line.aggregate_id,
        line.partition,
        line.last_version,
        line.last_offset,
        v3.balance,
        v3.status,
        v4.balance,
        v4.status,
        v4.largest_deposit,
        v4.deposits_count,
        v4.reversed_total,
        v4.opened_at_micros,
    )?;
    if let Some(closed_at) = v4.closed_at_micros {
        write!(out, "{closed_at}")?;
    }
    writeln!(out, ",{},{}", v4.currency, line.differs)
}
