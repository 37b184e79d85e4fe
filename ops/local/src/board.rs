//! Reading the expressions out of a Grafana dashboard, so that they can be put to a real
//! Prometheus: a panel that shows nothing is worse than none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::{Error, Result};

/// One query of a panel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Title of the panel.
    pub panel: String,
    /// The expression as it is written, with dashboard variables.
    pub expression: String,
}

impl Query {
    /// The expression as Prometheus gets it: every `$name` and `${name}` replaced.
    pub fn with_variables(&self, values: &BTreeMap<&str, &str>) -> String {
        // Longest name first, so that `$version` does not eat the start of `$version_from`.
        let mut names: Vec<&&str> = values.keys().collect();
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        names
            .into_iter()
            .fold(self.expression.clone(), |text, name| {
                text.replace(&format!("${{{name}}}"), values[name])
                    .replace(&format!("${name}"), values[name])
            })
    }
}

/// A dashboard file.
#[derive(Clone, Debug)]
pub struct Board {
    json: Value,
}

impl Board {
    /// Reads a dashboard.
    ///
    /// # Errors
    /// When the file cannot be read or is no JSON.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .map_err(|e| Error::io(format_args!("could not read {}", path.display()), &e))?;
        let json = serde_json::from_str(&text)
            .map_err(|e| Error::new(format!("{} is not JSON: {e}", path.display())))?;
        Ok(Self { json })
    }

    /// The whole document.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// All panels, those inside collapsed rows too.
    pub fn panels(&self) -> Vec<&Value> {
        let mut found = Vec::new();
        let mut waiting: Vec<&Value> = list(&self.json["panels"]).iter().rev().collect();
        while let Some(panel) = waiting.pop() {
            found.push(panel);
            waiting.extend(list(&panel["panels"]).iter().rev());
        }
        found
    }

    /// The queries of all panels, in reading order.
    pub fn queries(&self) -> Vec<Query> {
        self.panels()
            .into_iter()
            .flat_map(|panel| {
                list(&panel["targets"]).iter().filter_map(|target| {
                    Some(Query {
                        panel: panel["title"].as_str()?.to_owned(),
                        expression: target["expr"].as_str()?.to_owned(),
                    })
                })
            })
            .collect()
    }

    /// Every metric that the file mentions anywhere: panels, variables, annotations.
    pub fn metrics(&self) -> BTreeSet<String> {
        metrics_in(&self.json.to_string())
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Names in a text that look like metrics of Refold's processes. A histogram is one metric: its
/// `_bucket`, `_sum` and `_count` series count as the histogram.
pub fn metrics_in(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .filter(|word| word.starts_with("refold_") || word.starts_with("http_server_"))
        .filter(|word| !word.contains(':'))
        .map(|word| {
            ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| word.strip_suffix(suffix))
                .unwrap_or(word)
                .to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_by_their_whole_name() {
        let query = Query {
            panel: "p".into(),
            expression: "a{v=\"$version\",w=\"${version_from}\",x=\"$version_from\"}".into(),
        };
        let values = BTreeMap::from([("version", "1"), ("version_from", "2")]);
        assert_eq!(query.with_variables(&values), "a{v=\"1\",w=\"2\",x=\"2\"}");
    }

    #[test]
    fn series_of_a_histogram_are_one_metric() {
        let text =
            "rate(refold_batch_rows_sum[1m]) / rate(refold_batch_rows_count[1m]) + x{refold=\"y\"}";
        assert_eq!(
            metrics_in(text),
            BTreeSet::from(["refold_batch_rows".to_owned()])
        );
    }

    #[test]
    fn recording_rules_are_not_metrics_of_a_process() {
        assert!(metrics_in("refold:read_p99_seconds > 1").is_empty());
    }
}
