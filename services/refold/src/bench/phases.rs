//! The state file of a long run: which phases are done, and what they measured.

use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;
use serde_json::json;

use crate::cli::Failure;
use crate::cli::Kind;

/// Finished phases, on disk and in memory.
#[derive(Debug)]
pub(crate) struct Phases {
    path: PathBuf,
    state: Value,
}

impl Phases {
    /// Opens or starts the state file of `plan`.
    ///
    /// # Errors
    /// When it cannot be read or written, or belongs to another plan.
    pub(crate) fn open(path: &Path, plan: &Value) -> Result<Self, Failure> {
        let wrong = |error: &dyn std::fmt::Display| {
            Failure::error(&format!("open {}", path.display()), error)
        };
        let state = match std::fs::read_to_string(path) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| wrong(&error))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                json!({ "plan": plan, "phases": {}, "started": {} })
            }
            Err(error) => return Err(wrong(&error)),
        };
        if &state["plan"] != plan {
            let sentence = format!(
                "{} belongs to another run ({}); finish that one with its own flags and revision, \
                 or remove the file and the stack's directory to start afresh",
                path.display(),
                state["plan"]
            );
            return Err(Failure::new(Kind::Refused, sentence));
        }
        let phases = Self {
            path: path.to_owned(),
            state,
        };
        phases.save()?;
        Ok(phases)
    }

    /// Whether a phase is done.
    pub(crate) fn has(&self, name: &str) -> bool {
        !self.get(name).is_null()
    }

    /// What a phase measured; null when it is not done.
    pub(crate) fn get(&self, name: &str) -> &Value {
        &self.state["phases"][name]
    }

    /// Writes down that a phase is done.
    pub(crate) fn finish(&mut self, name: &str, figures: Value) -> Result<(), Failure> {
        self.state["phases"][name] = figures;
        self.save()
    }

    /// Writes down that a phase begins; answers whether it had begun before.
    pub(crate) fn note_start(&mut self, name: &str) -> Result<bool, Failure> {
        let before = !self.state["started"][name].is_null();
        self.state["started"][name] = json!(true);
        self.save()?;
        Ok(before)
    }

    /// Removes the file: its content is in the result now.
    pub(crate) fn remove(self) -> Result<(), Failure> {
        let removed = std::fs::remove_file(&self.path);
        removed.map_err(|error| Failure::error(&format!("remove {}", self.path.display()), error))
    }

    /// Replaces the file as a whole: a kill leaves the old one or the new one.
    fn save(&self) -> Result<(), Failure> {
        let partial = self.path.with_extension("partial");
        let written = std::fs::write(&partial, format!("{:#}\n", self.state))
            .and_then(|()| std::fs::rename(&partial, &self.path));
        written.map_err(|error| Failure::error(&format!("write {}", self.path.display()), error))
    }
}

#[cfg(test)]
mod tests {
    use refold_local::testing::ScratchDir;

    use super::*;

    #[test]
    fn finished_phases_are_found_again_and_other_plans_refused() {
        let scratch = ScratchDir::new("refold-phases").expect("a directory");
        let path = scratch.path().join("state.json");
        let plan = json!({ "events": 7 });
        let mut phases = Phases::open(&path, &plan).expect("opens");
        assert!(!phases.has("seed"));
        assert!(!phases.note_start("seed").expect("writes"));
        phases
            .finish("seed", json!({ "bytes": 9 }))
            .expect("writes");
        let mut again = Phases::open(&path, &plan).expect("opens again");
        assert_eq!(again.get("seed")["bytes"], 9);
        assert!(again.note_start("seed").expect("writes"));
        let other = Phases::open(&path, &json!({ "events": 8 })).expect_err("another plan");
        assert_eq!(other.kind, Kind::Refused);
        again.remove().expect("removes");
        assert!(!path.exists());
    }
}
