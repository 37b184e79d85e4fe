//! The files of an experiment: result.json, runs.csv, and charts.

use std::path::Path;
use std::process::ExitCode;

use refold_bench::chart::Chart;
use refold_bench::record::Record;
use refold_bench::record::Run;
use refold_bench::spread::Spread;
use refold_bench::table::csv;
use refold_bench::table::figure;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::sweep::Setting;
use super::sweep::Sweep;
use crate::cli::Failure;
use crate::machine;

/// The figures whose spread is told of every setting.
const SPREAD: [&str; 6] = [
    "events_per_second",
    "client_cpu_ns_per_event",
    "seconds",
    "broker_cpu_seconds",
    "postgres_cpu_seconds",
    "peak_memory_bytes",
];

/// The figures of a line of runs.csv, behind the setting and the run.
const COLUMNS: [&str; 13] = [
    "events",
    "rows",
    "commits",
    "seconds",
    "events_per_second",
    "client_cpu_ns_per_event",
    "client_cpu_seconds",
    "broker_cpu_seconds",
    "postgres_cpu_seconds",
    "peak_memory_bytes",
    "rows_compared",
    "differences_oracle",
    "bound",
];

/// Finished runs, to be told and written.
pub(super) struct Report<'a> {
    pub(super) sweep: &'a Sweep,
    pub(super) record: Record,
}

impl Report<'_> {
    fn runs<'a>(&'a self, setting: &'a str) -> impl Iterator<Item = &'a Run> {
        let runs = self.record.runs().iter();
        runs.filter(move |run| run.setting == setting)
    }

    /// The spread of a figure over the runs of a setting.
    pub(super) fn spread(&self, setting: &str, name: &str) -> Option<Spread> {
        let values = self
            .runs(setting)
            .filter_map(|run| run.figures[name].as_f64());
        Spread::of(&values.collect::<Vec<_>>())
    }

    /// The median of a figure over the runs of a setting; 0 without any.
    pub(super) fn median(&self, setting: &str, name: &str) -> f64 {
        self.spread(setting, name)
            .map_or(0.0, |spread| spread.median)
    }

    /// The bound that most runs of a setting name, by its first word.
    pub(super) fn bound(&self, setting: &str) -> String {
        let median = self.median(setting, "seconds");
        let distance = |run: &Run| (run.figures["seconds"].as_f64().unwrap_or(0.0) - median).abs();
        // The run in the middle speaks for all.
        let middle = self
            .runs(setting)
            .min_by(|a, b| distance(a).total_cmp(&distance(b)));
        let bound = middle.and_then(|run| run.figures["bound"].as_str());
        bound.unwrap_or_default().to_owned()
    }

    fn summary(&self, setting: &Setting) -> Value {
        let spreads: Map<String, Value> = SPREAD
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), json!(self.spread(&setting.name, name)?))))
            .collect();
        json!({
            "name": setting.name,
            "about": setting.about,
            "spreads": spreads,
            "bound": self.bound(&setting.name),
        })
    }

    fn json(&self, extra: &Value) -> Value {
        let settings = self.sweep.settings.iter();
        let common = &self.sweep.common;
        let all = |name: &str| {
            self.record
                .runs()
                .iter()
                .filter_map(|r| r.figures[name].as_u64())
                .sum::<u64>()
        };
        let mut result = json!({
            "schema": format!("refold.bench-{}/1", self.sweep.name),
            "settings": settings.map(|setting| self.summary(setting)).collect::<Vec<_>>(),
            "runs": self.record.runs(),
            "order_seed": common.order_seed,
            "stream_seed": 42,
            "wal": common.wal_level().name(),
            "engine": common.engine,
            "rows_compared": all("rows_compared"),
            "differences_oracle": all("differences_oracle"),
            "machine": machine::describe(),
            "revision": machine::revision(),
        });
        if let (Some(result), Some(extra)) = (result.as_object_mut(), extra.as_object()) {
            result.extend(extra.clone());
        }
        result
    }

    fn csv(&self) -> String {
        let mut header = vec!["setting", "run"];
        header.extend(COLUMNS);
        let rows: Vec<Vec<String>> = self
            .record
            .runs()
            .iter()
            .map(|run| {
                let mut row = vec![run.setting.clone(), run.run.to_string()];
                row.extend(COLUMNS.iter().map(|name| cell(&run.figures[*name])));
                row
            })
            .collect();
        csv(&header, &rows)
    }

    /// Prints a line a setting.
    fn print(&self) {
        println!(
            "{:<28} {:>12} {:>12} {:>12} {:>9}  bound of the middle run",
            "setting", "events/s min", "median", "max", "ns/event"
        );
        for setting in &self.sweep.settings {
            let Some(rate) = self.spread(&setting.name, "events_per_second") else {
                continue;
            };
            println!(
                "{:<28} {:>12.0} {:>12.0} {:>12.0} {:>9.0}  {}",
                setting.name,
                rate.min,
                rate.median,
                rate.max,
                self.median(&setting.name, "client_cpu_ns_per_event"),
                self.bound(&setting.name)
            );
        }
    }

    /// Writes everything and removes the state file. `extra` is put into the result.
    pub(super) fn finish(
        self,
        charts: &[(&str, Chart)],
        extra: &Value,
    ) -> Result<ExitCode, Failure> {
        let out = self.sweep.common.out.clone();
        self.print();
        write(&out.join("runs.csv"), &self.csv())?;
        for (name, chart) in charts {
            write(&out.join(format!("{name}.svg")), &chart.svg())?;
        }
        let result = self.json(extra);
        write(&out.join("result.json"), &format!("{result:#}\n"))?;
        println!("{}, revision {}", machine::describe(), machine::revision());
        println!("written to {}", out.display());
        let ended = self.record.finish();
        ended.map_err(|error| Failure::error("remove the state file", error))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes a file of an experiment.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let written = std::fs::write(path, text);
    written.map_err(|error| Failure::error(&format!("write {}", path.display()), error))
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => figure(number.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}
