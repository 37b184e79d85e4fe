//! `bench cutover-proof`: both versions are frozen at one vector, and the database itself says
//! that no row differs: `EXCEPT`, both ways, in one statement and so in one snapshot.
//!
//! The same statement is asked once more with one row of the new version changed behind the
//! projector, in a transaction that is rolled back: a proof that cannot fail proves nothing.

use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use refold_domain::diff::comparable_columns;
use refold_domain::spec::ProjectionSpec;
use serde_json::Value;
use serde_json::json;

use super::LIVE;
use super::NEW;
use super::scene::Experiment;
use super::scene::SCAN_AGE;
use super::scene::Scene;
use crate::cli::BenchCutoverProofArgs;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::connect::query;
use crate::load::Span;
use crate::machine;
use crate::run::Projections;
use crate::run::find;

/// How long one step may take before it counts as hung.
const BOUND: Duration = Duration::from_secs(600);

/// Between two looks at the marks. A look is a session of its own.
const LOOK: Duration = Duration::from_millis(100);

/// Runs it and writes `result.json`.
///
/// # Errors
/// The step that failed. Differences are an exit code, after the result was written.
pub(crate) async fn run(
    args: BenchCutoverProofArgs,
    projections: Projections,
) -> Result<ExitCode, Failure> {
    let out = args.common.create_out()?;
    let (live, new) = (find(&projections, LIVE)?, find(&projections, NEW)?);
    let statements = Statements::of(live.spec(), new.spec())?;
    let experiment = Experiment {
        stream: &args.stream,
        common: &args.common,
        codec: &args.codec,
        tail_rate: args.tail_rate,
        read_rate: args.read_rate,
    };
    let mut scene = experiment.open(projections).await?;
    let outcome = play(&args, &mut scene, &statements).await;
    let result = scene.conclude(outcome, &out).await?;
    match result["proven"] == json!(true) {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::from(Kind::Differences.code())),
    }
}

/// What the database is asked.
struct Statements {
    /// The columns that must be equal.
    equal: Vec<String>,
    /// Both vectors side by side.
    vector: String,
    /// The proof.
    proof: String,
    /// The columns that are meant to differ, for how many keys they do.
    intended: String,
}

impl Statements {
    fn of(live: &ProjectionSpec, new: &ProjectionSpec) -> Result<Self, Failure> {
        let same =
            comparable_columns(live, new).map_err(|error| Failure::usage(error.to_string()))?;
        let mut equal = vec!["aggregate_id"];
        equal.extend(same);
        equal.extend(["applied_offset", "partition"]);
        let columns = equal.join(", ");
        let differing = new.differing_columns().join(", ");
        let of = |label: &str| {
            format!(
                "(select partition, next_offset from refold.offsets o join refold.versions v \
                 on v.id = o.version where v.label = '{label}')"
            )
        };
        let (old_marks, new_marks) = (of(LIVE), of(NEW));
        Ok(Self {
            vector: format!(
                "select partition, l.next_offset, n.next_offset from {old_marks} l \
                 full join {new_marks} n using (partition) order by partition"
            ),
            proof: format!(
                "select (select count(*) from {old_marks} l full join {new_marks} n using (partition) \
                 where l.next_offset is distinct from n.next_offset),\n  \
                 (select count(*) from {LIVE}),\n  (select count(*) from {NEW}),\n  \
                 (select count(*) from (select {columns} from {LIVE} except select {columns} from {NEW}) d),\n  \
                 (select count(*) from (select {columns} from {NEW} except select {columns} from {LIVE}) d)"
            ),
            intended: format!(
                "select count(*) from (select aggregate_id, {differing} from {LIVE} \
                 except select aggregate_id, {differing} from {NEW}) d"
            ),
            equal: equal.into_iter().map(str::to_owned).collect(),
        })
    }

    /// The proof again over a row of the new version, whose id is `version`, that was changed
    /// behind the projector.
    fn control(&self, version: &str) -> String {
        let leaf = format!("rm.v{version}_p0");
        format!(
            "begin; update {leaf} set status = status || '!' where key = (select min(key) from {leaf});\n\
             {};\nrollback",
            self.proof
        )
    }
}

async fn play(
    args: &BenchCutoverProofArgs,
    scene: &mut Scene,
    statements: &Statements,
) -> Result<Value, Failure> {
    let rebuild = scene.build_both(LIVE, NEW).await?;
    scene.step("freeze both at one vector: nothing is appended any more");
    scene.stop_tail().await?;
    let marks = frozen(scene, statements).await?;
    scene.step("ask the database for every row that differs, both ways");
    let began = Instant::now();
    let proof = ask(scene, &statements.proof).await?;
    let seconds = began.elapsed().as_secs_f64();
    let version = query(
        scene.postgres(),
        &format!("select id from refold.versions where label = '{NEW}'"),
    )
    .await?;
    let control = ask(scene, &statements.control(version.trim())).await?;
    let intended = ask(scene, &statements.intended).await?;
    let compared = scene.verify_against(NEW, LIVE).await?;
    let oracle = scene.verify_expected(NEW).await?;

    scene.step("promote accounts_v4 under read load");
    scene.mark(Span::Cutover);
    let cutover = scene.cutover(NEW, Some(SCAN_AGE)).await?;
    scene.mark(Span::After);
    let wanted = scene.reads() + args.read_rate.0 * 5;
    scene.wait_reads(wanted).await?;
    let load = scene.stop_load().await?;

    let marks: Vec<Vec<i64>> = marks.lines().map(numbers).collect();
    let (proof, control) = (numbers(&proof), numbers(&control));
    let rows = oracle.rows.cast_signed();
    let intended = numbers(&intended);
    let frozen: Vec<_> = marks
        .iter()
        .filter_map(|mark| mark.get(1).copied())
        .collect();
    let switched: Vec<_> = cutover.offsets.values().copied().collect();
    let proven = proof == [0, rows, rows, 0, 0]
        && control == [0, rows, rows, 1, 1]
        && intended == [compared.intended_expected.cast_signed()]
        && oracle.differences == 0
        && switched == frozen
        && load.failed == 0;
    Ok(json!({
        "schema": "refold.bench-cutover-proof/1",
        "proven": proven,
        "events": rebuild.events,
        "vector": marks,
        "columns": statements.equal,
        "statement": statements.proof,
        "partitions_at_other_offsets": proof.first(),
        "rows_live": proof.get(1),
        "rows_new": proof.get(2),
        "only_in_live": proof.get(3),
        "only_in_new": proof.get(4),
        "seconds": seconds,
        "with_one_row_changed": { "only_in_live": control.get(3), "only_in_new": control.get(4) },
        "intended_differences": intended.first(),
        "intended_differences_expected": compared.intended_expected,
        "differences_oracle": oracle.differences,
        "switch_offsets": cutover.offsets,
        "flip_ms": cutover.flip_ms,
        "reads": load.reads,
        "failed_reads": load.failed,
        "machine": machine::describe(),
        "revision": machine::revision(),
    }))
}

/// Waits until both versions stand at the same offset in every partition, and answers where.
async fn frozen(scene: &Scene, statements: &Statements) -> Result<String, Failure> {
    let deadline = Instant::now() + BOUND;
    let mut before = String::new();
    loop {
        let marks = query(scene.postgres(), &statements.vector).await?;
        let equal = |line: &str| matches!(numbers(line)[..], [_, old, new] if old == new);
        if marks == before && !marks.is_empty() && marks.lines().all(equal) {
            println!("{};\n{marks}", statements.vector);
            return Ok(marks);
        }
        if Instant::now() > deadline {
            return Err(Failure::new(
                Kind::TimedOut,
                "the two versions did not come to stand at one vector",
            ));
        }
        before = marks;
        tokio::time::sleep(LOOK).await;
    }
}

/// Asks, and shows both the question and the answer.
async fn ask(scene: &Scene, sql: &str) -> Result<String, Failure> {
    let answer = query(scene.postgres(), sql).await?;
    println!("{sql};\n{answer}");
    Ok(answer)
}

/// The fields of a row of numbers; none where one is not.
fn numbers(row: &str) -> Vec<i64> {
    let fields: Result<_, _> = row.trim().split('|').map(str::parse).collect();
    fields.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_numbers_is_read_as_a_whole_or_not_at_all() {
        assert_eq!(numbers("3|40|41\n"), [3, 40, 41]);
        assert!(numbers("3|x").is_empty());
        assert!(numbers("").is_empty());
    }
}
