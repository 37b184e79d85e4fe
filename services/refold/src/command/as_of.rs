//! `as-of`: what an aggregate was, folded again from the log.

use std::process::ExitCode;
use std::time::Instant;

use refold_domain::as_of::Step;
use refold_domain::as_of::TimeOrder;
use refold_ports::History as _;
use refold_ports::history::HistoryError;
use refold_ports::history::Question;
use refold_ports::history::Remembered;
use refold_projection::column_json;
use refold_projection::row_json;
use refold_system::LogHistory;

use crate::cli::AsOfArgs;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::connect;
use crate::run::Projections;
use crate::run::find;

pub(crate) async fn run(args: AsOfArgs, projections: &Projections) -> Result<ExitCode, Failure> {
    let projection = find(projections, &args.version)?;
    let point = args.point.point();
    let point = point.ok_or_else(|| Failure::usage("name one of -ts, -offset and -seq"))?;
    let source = connect::log(&args.log, &args.kafka)?;
    let form = connect::wire(args.log.format);
    let history = LogHistory::new(source, form, vec![projection]);
    let question = Question {
        version: args.version,
        key: args.id,
        point,
        trace: args.trace,
    };
    let begun = Instant::now();
    let found = history.as_of(&question).await?;
    let took = begun.elapsed();
    if args.json {
        let json = refold_api::past_json(&found, &question.key, &question.version);
        println!("{}", json.map_err(unwritable)?);
    } else {
        let millis = took.as_secs_f64() * 1e3;
        tell(&found, &question, millis)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl From<HistoryError> for Failure {
    fn from(error: HistoryError) -> Self {
        let kind = match &error {
            HistoryError::BadKey(_)
            | HistoryError::OtherPartition { .. }
            | HistoryError::UnknownVersion(_) => Kind::Usage,
            HistoryError::NotYet { .. } | HistoryError::Gone { .. } => Kind::Refused,
            HistoryError::Busy(_) => Kind::Unreachable,
            HistoryError::Log(log) => return log.clone().into(),
        };
        let sentence = match &error {
            HistoryError::Gone {
                partition,
                whole_to: Some(offset),
                ..
            } => format!("{error}; up to offset {}:{offset} it is whole", partition.0),
            _ => error.to_string(),
        };
        Self::new(kind, sentence)
    }
}

fn unwritable(error: impl std::fmt::Display) -> Failure {
    Failure::error("write the state", error)
}

/// The state alone on stdout, and how it came about around it.
fn tell(found: &Remembered, question: &Question, millis: f64) -> Result<(), Failure> {
    let Remembered {
        past,
        columns,
        partition,
    } = found;
    let stopped = match &past.stopped_at {
        Some(last) => format!("stopped at offset {}, event {}", last.offset, last.seq),
        None => "no event".to_owned(),
    };
    eprintln!(
        "{} #{} as of {} ({partition}, {stopped}, {} events folded in {millis:.1} ms)",
        question.version, question.key, question.point, past.folded
    );
    if past.order == TimeOrder::Disordered {
        eprintln!("  the times of its events are not in the order of their offsets");
    }
    for step in &past.steps {
        let changes = changes(step, found).map_err(unwritable)?;
        let event = &step.event;
        eprintln!("  {} {} {}   {changes}", event.seq, event.time, event.kind);
    }
    if let Some(next) = &past.next {
        eprintln!(
            "  next {} {} {} (not applied)",
            next.seq, next.time, next.kind
        );
    }
    match &past.cells {
        Some(cells) => println!("{}", row_json(columns, cells).map_err(unwritable)?),
        None => println!("null"),
    }
    Ok(())
}

/// The columns that an event changed, `name before -> after`.
fn changes(step: &Step, found: &Remembered) -> Result<String, refold_projection::cell::CellError> {
    let cells = |cells: &Option<Vec<u8>>| match cells {
        Some(cells) => column_json(found.columns, cells),
        None => Ok(Vec::new()),
    };
    let (before, after) = (cells(&step.before)?, cells(&step.after)?);
    let text = |of: &[(&str, String)], at: usize| {
        let text = of.get(at).map(|(_, text)| text.clone());
        text.unwrap_or_else(|| "-".to_owned())
    };
    let all = found.columns.iter().enumerate();
    let all = all.map(|(at, column)| (column.name, text(&before, at), text(&after, at)));
    let changed = all.filter(|(_, before, after)| before != after);
    let told: Vec<_> = changed
        .map(|(name, before, after)| format!("{name} {before} -> {after}"))
        .collect();
    Ok(told.join(", "))
}
