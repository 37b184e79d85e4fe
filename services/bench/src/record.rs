//! The record of finished runs: a file that is appended to, so that a benchmark that was
//! killed goes on where it was.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One finished run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Name of the setting.
    pub setting: String,
    /// Which run of it, from 0.
    pub run: usize,
    /// What was measured: one JSON object.
    pub figures: Value,
}

/// The first line of the file: what the runs below it are runs of.
#[derive(Serialize, Deserialize)]
struct Head {
    plan: Value,
}

/// The finished runs of one plan, on disk and in memory.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    file: File,
    runs: Vec<Run>,
}

impl Record {
    /// Opens or starts the record of `plan`. A last line that a kill cut short is dropped.
    ///
    /// # Errors
    /// When the file cannot be read or written, or holds the runs of another plan: figures of
    /// different sizes or revisions must not be mixed.
    pub fn open(path: &Path, plan: &Value) -> io::Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = text[..whole].lines();
        let mut runs = Vec::new();
        let head = lines.next();
        if let Some(head) = head {
            let head: Head = serde_json::from_str(head)?;
            if &head.plan != plan {
                return Err(io::Error::other(format!(
                    "{} holds runs of another plan ({}); finish that one with its own flags and \
                     revision, or remove the file to start afresh",
                    path.display(),
                    head.plan
                )));
            }
            for line in lines {
                runs.push(serde_json::from_str(line)?);
            }
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        file.set_len(whole as u64)?;
        let mut record = Self {
            path: path.to_owned(),
            file,
            runs,
        };
        if head.is_none() {
            record.append(&serde_json::to_string(&Head { plan: plan.clone() })?)?;
        }
        Ok(record)
    }

    /// The runs so far, in the order in which they finished.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Whether a run is in.
    pub fn has(&self, setting: &str, run: usize) -> bool {
        self.runs
            .iter()
            .any(|r| r.setting == setting && r.run == run)
    }

    /// Adds a finished run; it is on disk when this returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, run: Run) -> io::Result<()> {
        self.append(&serde_json::to_string(&run)?)?;
        self.runs.push(run);
        Ok(())
    }

    fn append(&mut self, line: &str) -> io::Result<()> {
        self.file.write_all(format!("{line}\n").as_bytes())?;
        self.file.sync_data()
    }

    /// Removes the file: its content is in the result now.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn finish(self) -> io::Result<Vec<Run>> {
        fs::remove_file(&self.path)?;
        Ok(self.runs)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("refold-record-{name}-{}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn run(setting: &str, run: usize) -> Run {
        Run {
            setting: setting.to_owned(),
            run,
            figures: json!({ "events": 7 }),
        }
    }

    #[test]
    fn finished_runs_survive_a_kill_in_the_middle_of_a_line() {
        let scratch = Scratch::new("kill");
        let plan = json!({ "events": 100 });
        let mut record = Record::open(&scratch.0, &plan).expect("opens");
        record.add(run("a", 0)).expect("writes");
        record.add(run("b", 0)).expect("writes");
        drop(record);
        let mut text = fs::read_to_string(&scratch.0).expect("reads");
        text.push_str("{\"setting\":\"a\",\"ru");
        fs::write(&scratch.0, text).expect("writes");
        let mut record = Record::open(&scratch.0, &plan).expect("opens again");
        assert_eq!(record.runs(), [run("a", 0), run("b", 0)]);
        assert!(record.has("b", 0) && !record.has("b", 1));
        record.add(run("b", 1)).expect("writes");
        drop(record);
        let record = Record::open(&scratch.0, &plan).expect("opens again");
        assert_eq!(record.runs().len(), 3);
        assert_eq!(record.finish().expect("ends").len(), 3);
        assert!(!scratch.0.exists());
    }

    #[test]
    fn runs_of_another_plan_are_refused() {
        let scratch = Scratch::new("plan");
        drop(Record::open(&scratch.0, &json!({ "events": 100 })).expect("opens"));
        let other = Record::open(&scratch.0, &json!({ "events": 200 }));
        let sentence = other.expect_err("another plan").to_string();
        assert!(sentence.contains("another plan"), "{sentence}");
    }
}
