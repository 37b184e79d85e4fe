//! Ways of writing a batch of changed rows.

use std::pin::pin;
use std::str::FromStr;

use futures::future;
use tokio_postgres::Client;
use tokio_postgres::Statement;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;

use crate::Outcome;
use crate::batch::Batch;

/// Rows of one `values` list: the protocol takes 65,535 parameters, twelve a row.
const LISTED: usize = 1_000;

/// The types of the table's columns.
const TYPES: [Type; 12] = [
    Type::INT8,
    Type::INT8,
    Type::TEXT,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::TIMESTAMPTZ,
    Type::TIMESTAMPTZ,
    Type::TEXT,
    Type::INT8,
    Type::INT8,
    Type::BOOL,
];

/// The statements that replace rows which are there already.
const UNNEST: &str = concat!(include_str!("unnest.sql"), include_str!("conflict.sql"));
const INCOMING: &str = concat!(include_str!("incoming.sql"), include_str!("conflict.sql"));
const ROW: &str = concat!(include_str!("row.sql"), include_str!("conflict.sql"));

/// A way of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `insert ... select from unnest ... on conflict do update`, rows in key order: what the
    /// product does.
    Unnest,
    /// The same with the rows as they come.
    UnnestUnsorted,
    /// `insert ... values (...), (...) ... on conflict do update`, in key order.
    Values,
    /// A binary copy into a temporary table, and an insert from there.
    Copied,
    /// `update ... from unnest`, and an insert of what was not there.
    UpdateInsert,
    /// `merge ... using unnest`.
    Merge,
    /// A statement a row, all sent before the first answer is waited for.
    RowByRow,
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "unnest" => Self::Unnest,
            "unnest-unsorted" => Self::UnnestUnsorted,
            "values" => Self::Values,
            "copied" => Self::Copied,
            "update-insert" => Self::UpdateInsert,
            "merge" => Self::Merge,
            "row-by-row" => Self::RowByRow,
            other => return Err(format!("{other} is no shape")),
        })
    }
}

/// Whoever writes batches in one shape.
pub(crate) struct Writer {
    pub(crate) client: Client,
    shape: Shape,
    statements: Vec<Statement>,
}

impl Writer {
    pub(crate) async fn prepare(client: Client, shape: Shape, batch: usize) -> Outcome<Self> {
        let texts = match shape {
            Shape::Unnest | Shape::UnnestUnsorted => vec![UNNEST.to_owned()],
            Shape::Values => {
                let mut sizes = vec![batch.min(LISTED)];
                let rest = batch % LISTED;
                sizes.extend((batch > LISTED && rest > 0).then_some(rest));
                sizes.into_iter().map(listed).collect()
            }
            Shape::Copied => vec![
                "copy incoming from stdin (format binary)".to_owned(),
                INCOMING.to_owned(),
            ],
            Shape::UpdateInsert => vec![
                include_str!("update.sql").to_owned(),
                include_str!("add.sql").to_owned(),
            ],
            Shape::Merge => vec![include_str!("merge.sql").to_owned()],
            Shape::RowByRow => vec![ROW.to_owned()],
        };
        let mut statements = Vec::new();
        for text in &texts {
            statements.push(client.prepare(text).await?);
        }
        Ok(Self {
            client,
            shape,
            statements,
        })
    }

    /// Writes a batch in a transaction of its own.
    pub(crate) async fn write(&mut self, batch: &Batch) -> Outcome<()> {
        let transaction = self.client.transaction().await?;
        let client = transaction.client();
        let sorted;
        let batch = match self.shape {
            Shape::UnnestUnsorted => batch,
            _ => {
                sorted = batch.sorted();
                &sorted
            }
        };
        let rows = batch.rows.len() as u64;
        let written = match self.shape {
            Shape::Unnest | Shape::UnnestUnsorted | Shape::Merge => {
                let columns = batch.columns();
                client
                    .execute(&self.statements[0], &columns.parameters())
                    .await?
            }
            Shape::UpdateInsert => {
                let columns = batch.columns();
                let parameters = columns.parameters();
                let updated = client.execute(&self.statements[0], &parameters).await?;
                let added = match updated == rows {
                    true => 0,
                    false => client.execute(&self.statements[1], &parameters).await?,
                };
                updated + added
            }
            Shape::Copied => copied(client, &self.statements, batch).await?,
            Shape::Values => values(client, &self.statements, batch).await?,
            Shape::RowByRow => {
                let each = batch.rows.iter().map(|row| {
                    let statement = &self.statements[0];
                    async move { client.execute(statement, &row.cells()).await }
                });
                future::try_join_all(each).await?.into_iter().sum()
            }
        };
        if written != rows {
            return Err(format!("{written} of {rows} rows were written").into());
        }
        transaction.commit().await?;
        Ok(())
    }
}

async fn copied(client: &Client, statements: &[Statement], batch: &Batch) -> Outcome<u64> {
    let sink = client.copy_in(&statements[0]).await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &TYPES));
    for row in &batch.rows {
        writer.as_mut().write(&row.cells()).await?;
    }
    writer.finish().await?;
    Ok(client.execute(&statements[1], &[]).await?)
}

async fn values(client: &Client, statements: &[Statement], batch: &Batch) -> Outcome<u64> {
    let mut written = 0;
    for rows in batch.rows.chunks(LISTED) {
        let parameters: Vec<_> = rows.iter().flat_map(|row| row.cells()).collect();
        let fits = |statement: &&Statement| statement.params().len() == parameters.len();
        let statement = statements.iter().find(fits);
        let statement = statement.ok_or("a list of a length that was not prepared")?;
        written += client.execute(statement, &parameters).await?;
    }
    Ok(written)
}

/// The statement of one row for `rows` of them.
fn listed(rows: usize) -> String {
    let one: Vec<_> = (1..=TYPES.len()).map(|n| format!("${n}")).collect();
    let list = |row: usize| {
        let first = row * TYPES.len();
        let places = (1..=TYPES.len()).map(|n| format!("${}", first + n));
        format!("({})", places.collect::<Vec<_>>().join(", "))
    };
    let lists: Vec<_> = (0..rows).map(list).collect();
    ROW.replace(&format!("({})", one.join(", ")), &lists.join(", "))
}
