//! `event-table`: a table in Postgres that is a log, made and cut.

use std::process::ExitCode;

use refold_domain::position::Offset;
use refold_source_postgres::create;
use refold_source_postgres::delete_below;

use crate::cli::EventTable;
use crate::cli::EventTableArgs;
use crate::cli::Failure;
use crate::connect;

pub(crate) async fn run(args: EventTableArgs) -> Result<ExitCode, Failure> {
    let dsn = args.event_store.as_deref();
    let dsn = dsn.ok_or_else(|| Failure::usage("name the server by -event-store"))?;
    let options = connect::event_store(dsn, args.event_store_password_file.as_deref())?;
    match args.command {
        EventTable::Create { name, partitions } => {
            let id = create(&options, &name, partitions).await?;
            println!("event table {name}, id {id}, {partitions} partitions");
            eprintln!(
                "Next: insert into refold_events.\"{name}\" (key, value) values (..), and read it with -event-store .. -topic {name}"
            );
        }
        EventTable::DeleteBelow { name, offset } => {
            let low = i64::try_from(offset.0)
                .map_err(|_| Failure::usage(format!("{} is no offset", offset.0)))?;
            let deleted = delete_below(&options, &name, Offset(low)).await?;
            println!("{deleted} events of {name} below offset {low} deleted");
        }
    }
    Ok(ExitCode::SUCCESS)
}
