//! `parked`: the events of a version that were put aside.

use std::process::ExitCode;

use refold_domain::parking::ParkedEvent;
use refold_domain::position::Partition;
use refold_ports::Registry;
use serde_json::Value;
use serde_json::json;

use crate::cli::Count;
use crate::cli::Failure;
use crate::cli::ParkedArgs;
use crate::connect;

pub(crate) async fn run(args: ParkedArgs) -> Result<ExitCode, Failure> {
    let session = connect::session(&args.store)?;
    let registry = connect::registry(&session).await?;
    let version = registry.version(&args.version).await?;
    let partition = args.partition.map(Partition);
    // One more than is shown, to know whether there are more.
    let limit = args.limit.0.saturating_add(1);
    let mut events = registry.parked(version.id, partition, Some(limit)).await?;
    let more = events.len() as u64 > args.limit.0;
    events.truncate(usize::try_from(args.limit.0).unwrap_or(usize::MAX));
    if args.json {
        let events: Vec<_> = events.iter().map(to_json).collect();
        let shown = json!({
            "schema": "refold.parked/1",
            "version": version.label,
            "events": events,
            "more": more,
        });
        println!("{shown}");
        return Ok(ExitCode::SUCCESS);
    }
    for (partition, event) in &events {
        let key = text(&event.key);
        println!(
            "{partition} offset {} key {key}: {}",
            event.offset, event.reason
        );
    }
    match (events.len(), more) {
        (0, _) => println!("{}: no event was put aside", version.label),
        (shown, true) => println!("{} are shown, there are more: -limit", Count(shown as u64)),
        (_, false) => println!(
            "Next: rebuild with code that folds them, or promote without them: refold cutover -version {} -force parked -reason TEXT",
            version.label
        ),
    }
    Ok(ExitCode::SUCCESS)
}

fn to_json((partition, event): &(Partition, ParkedEvent)) -> Value {
    json!({
        "partition": partition.0,
        "offset": event.offset.0,
        "key": text(&event.key),
        "reason": event.reason,
        "value": event.value.as_deref().map(text),
    })
}

/// A key or a value as people read it; what is no text is shown in hex digits.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("0x{digits}")
        }
    }
}
