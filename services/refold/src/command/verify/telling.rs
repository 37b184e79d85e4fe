//! What a comparison found, for programs and for people.

use serde_json::Value;
use serde_json::json;

use crate::cli::Count;
use crate::demo::Comparison;

pub(super) fn to_json(version: &str, against: &str, found: &Comparison) -> Value {
    json!({
        "schema": "refold.verify/1",
        "version": version,
        "against": against,
        "rows_compared": found.rows,
        "columns": found.columns,
        "differences": found.differences,
        "intended_differences": found.intended,
        "intended_differences_expected": found.intended_expected,
        "offsets": found.offsets,
        "samples": found.samples,
        "scan": found.scan,
        "rule": rule_json(found.rule),
        "log": found.log,
    })
}

/// How many pairs of rows of different aggregates the author's rule lets pass: a rule that
/// accepts anything says nothing.
fn rule_json((tried, accepted): (u64, u64)) -> Value {
    let rate = (tried > 0).then(|| accepted as f64 / tried as f64);
    json!({ "tried": tried, "accepted": accepted, "hit_rate": rate })
}

/// Tells people, and what comes next.
pub(super) fn tell(version: &str, against: &str, found: &Comparison) {
    for (partition, offset) in &found.offsets {
        println!("p{partition:<4} both at {}", Count(offset.unsigned_abs()));
    }
    for sample in &found.samples {
        println!("  {sample}");
    }
    println!(
        "{version} against {against}: {} rows, columns {}: {} differences",
        Count(found.rows),
        found.columns.join(", "),
        Count(found.differences)
    );
    if found.intended > 0 || found.intended_expected > 0 {
        println!(
            "{} keys differ in columns that are declared to differ, {} are expected to",
            Count(found.intended),
            Count(found.intended_expected)
        );
    }
    if let (tried @ 1.., accepted) = found.rule {
        println!(
            "the rule lets {} of {} pairs of rows of different keys pass, {:.1} %",
            Count(accepted),
            Count(tried),
            100.0 * accepted as f64 / tried as f64
        );
    }
    if let Some(log) = &found.log {
        println!("{}", log.tell());
    }
    if found.differences > 0 || found.contradicted() > 0 {
        return;
    }
    let unconfirmed = found.scan.is_some() && found.intended > 0 && found.log.is_none();
    match unconfirmed {
        true => println!(
            "Next: refold verify -version {version} -against {against} -confirm-only, with -brokers or -event-store"
        ),
        false => println!("Next: refold cutover -version {version} -n"),
    }
}
