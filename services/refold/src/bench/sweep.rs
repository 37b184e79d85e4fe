//! Settings, run in shuffled rounds and written down one by one.

use std::path::PathBuf;

use refold_bench::order::rounds;
use refold_bench::record::Record;
use refold_bench::record::Run;
use serde_json::Value;
use serde_json::json;

use crate::cli::ExperimentArgs;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::machine;

/// One way of doing it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Setting {
    /// Its name, unlike any other's.
    pub(super) name: String,
    /// What it is: one JSON object.
    pub(super) about: Value,
}

impl Setting {
    pub(super) fn new(name: impl Into<String>, about: Value) -> Self {
        Self {
            name: name.into(),
            about,
        }
    }

    /// A whole number that describes it.
    pub(super) fn number(&self, name: &str) -> u64 {
        self.about[name].as_u64().unwrap_or_default()
    }

    /// A text that describes it.
    pub(super) fn text(&self, name: &str) -> &str {
        self.about[name].as_str().unwrap_or_default()
    }
}

/// An experiment: its settings and where its figures go.
pub(super) struct Sweep {
    pub(super) name: &'static str,
    pub(super) common: ExperimentArgs,
    pub(super) settings: Vec<Setting>,
}

impl Sweep {
    fn state_file(&self) -> PathBuf {
        self.common.out.join("state.jsonl")
    }

    /// What makes two sweeps the same one.
    fn plan(&self) -> Value {
        let settings = self.settings.iter();
        json!({
            "experiment": self.name,
            "settings": settings.map(|s| json!({ "name": s.name, "about": s.about })).collect::<Vec<_>>(),
            "runs": self.common.runs,
            "order_seed": self.common.order_seed,
            "wal": self.common.wal_level().name(),
            "engine": self.common.engine,
            "revision": machine::revision(),
        })
    }

    /// Runs what the state file does not hold yet. `measure` answers the figures of one run.
    ///
    /// # Errors
    /// A run's failure, and a state that differs from the known final one: its figures count for nothing.
    pub(super) async fn run(
        &self,
        mut measure: impl AsyncFnMut(&Setting) -> Result<Value, Failure>,
    ) -> Result<Record, Failure> {
        self.common.create_out()?;
        let wrong = |error: std::io::Error| Failure::error("keep the finished runs", error);
        let mut record = Record::open(&self.state_file(), &self.plan()).map_err(wrong)?;
        let turns = rounds(
            self.settings.len(),
            self.common.runs.max(1),
            self.common.order_seed,
        );
        let all = turns.len();
        for (at, turn) in turns.into_iter().enumerate() {
            let setting = &self.settings[turn.setting];
            if record.has(&setting.name, turn.run) {
                continue;
            }
            let figures = measure(setting).await?;
            judge(&setting.name, &figures)?;
            eprintln!(
                "{} of {all}: {}, run {}: {} events/s",
                at + 1,
                setting.name,
                turn.run + 1,
                figures["events_per_second"].as_f64().unwrap_or_default() as u64
            );
            let run = Run {
                setting: setting.name.clone(),
                run: turn.run,
                figures,
            };
            record.add(run).map_err(wrong)?;
        }
        Ok(record)
    }
}

/// A run that leaves a state must leave the right one.
fn judge(setting: &str, figures: &Value) -> Result<(), Failure> {
    let Some(differences) = figures.get("differences_oracle") else {
        return Ok(());
    };
    if differences == &json!(0) && figures["rows_compared"].as_u64() > Some(0) {
        return Ok(());
    }
    let sentence = format!(
        "{setting}: {differences} differences from the known final state in {} rows: \
         its figures count for nothing",
        figures["rows_compared"]
    );
    Err(Failure::new(Kind::Differences, sentence))
}

#[cfg(test)]
mod tests {
    use refold_local::testing::ScratchDir;

    use super::*;

    fn sweep(scratch: &ScratchDir) -> Sweep {
        Sweep {
            name: "test",
            common: ExperimentArgs {
                out: scratch.path().to_path_buf(),
                runs: 2,
                order_seed: 1,
                stack_dir: None,
                wal_minimal: false,
                keep: false,
                engine: Vec::new(),
                tail: Vec::new(),
            },
            settings: vec![
                Setting::new("a", json!({ "size": 1 })),
                Setting::new("b", json!({ "size": 2 })),
            ],
        }
    }

    #[tokio::test]
    async fn a_sweep_that_failed_goes_on_behind_the_runs_that_are_in() {
        let scratch = ScratchDir::new("refold-sweep").expect("a directory");
        let sweep = sweep(&scratch);
        let mut left = 3;
        let stopped = sweep
            .run(async |setting| {
                left -= 1;
                match left {
                    0 => Err(Failure::new(Kind::Error, "stopped")),
                    _ => Ok(json!({ "size": setting.number("size") })),
                }
            })
            .await;
        assert_eq!(stopped.expect_err("stopped").sentence, "stopped");
        let mut measured = 0;
        let record = sweep
            .run(async |setting| {
                measured += 1;
                Ok(json!({ "size": setting.number("size") }))
            })
            .await
            .expect("goes on");
        assert_eq!((measured, record.runs().len()), (2, 4));
        for name in ["a", "b"] {
            let runs = record.runs().iter().filter(|run| run.setting == name);
            assert_eq!(runs.count(), 2);
        }
    }

    #[test]
    fn figures_of_a_wrong_state_are_refused() {
        let figures = |rows: u64, differences: Value| json!({ "rows_compared": rows, "differences_oracle": differences });
        assert_eq!(judge("a", &figures(10, json!(0))), Ok(()));
        assert_eq!(judge("a", &json!({ "events": 10 })), Ok(()));
        for wrong in [
            figures(10, json!(1)),
            figures(0, json!(0)),
            figures(10, Value::Null),
        ] {
            let refused = judge("a", &wrong).expect_err("wrong");
            assert_eq!(refused.kind, Kind::Differences);
        }
    }
}
