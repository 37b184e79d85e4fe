//! `list`: the versions and where they stand.

use std::process::ExitCode;

use refold_ports::Registry;
use serde_json::json;

use crate::cli::Count;
use crate::cli::Failure;
use crate::cli::ListArgs;
use crate::connect;

pub(crate) async fn run(args: ListArgs) -> Result<ExitCode, Failure> {
    let session = connect::session(&args.store)?;
    let registry = connect::registry(&session).await?;
    let mut shown = Vec::new();
    for version in registry.versions().await? {
        let marks = registry.marks(version.id).await?;
        let sum: i64 = marks.iter().map(|mark| mark.next.0).sum();
        let rows: u64 = marks.iter().map(|mark| mark.rows).sum();
        let at_end = marks.iter().filter(|mark| mark.reached_log_end).count();
        shown.push(json!({
            "version": version.label,
            "state": version.state.word(),
            "partitions": version.log.partitions,
            "partitions_at_tail": at_end,
            "offset_sum": sum,
            "rows": rows,
            "code": version.code_hash,
            "note": version.note,
        }));
    }
    if args.json {
        println!(
            "{}",
            json!({ "schema": "refold.list/1", "versions": shown })
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{:<24} {:<9} {:>10} {:>16} {:>14}",
        "VERSION", "STATE", "AT TAIL", "OFFSETS", "ROWS"
    );
    for row in &shown {
        let count = |name: &str| Count(row[name].as_u64().unwrap_or_default()).to_string();
        let word = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let at_tail = format!("{}/{}", count("partitions_at_tail"), count("partitions"));
        println!(
            "{:<24} {:<9} {:>10} {:>16} {:>14}",
            word("version"),
            word("state"),
            at_tail,
            count("offset_sum"),
            count("rows")
        );
    }
    Ok(ExitCode::SUCCESS)
}
