//! Which crate may depend on which: the table in `ops/layers.toml` against Cargo's own answer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde::Deserialize;
use serde_json::Value;

use crate::cargo;
use crate::files::Finding;
use crate::outcome::{Failure, Outcome};
use crate::workspace::Workspace;

const TABLE: &str = "ops/layers.toml";

/// The table. Every workspace crate has to be in it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Layers {
    /// Allowed edges among workspace crates, by crate.
    crates: BTreeMap<String, Edges>,
    /// External crates that only the listed workspace crates may use.
    restricted: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Edges {
    /// In the product.
    uses: Vec<String>,
    /// In tests and build scripts, beyond `uses`.
    #[serde(default)]
    tests_use: Vec<String>,
}

/// One dependency as Cargo reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Edge {
    from: String,
    to: String,
    for_tests: bool,
}

/// Compares the workspace with the table.
pub(crate) fn check(workspace: &Workspace) -> Outcome<Vec<Finding>> {
    let text = fs::read_to_string(workspace.path(TABLE))
        .map_err(|e| Failure::failed(format!("could not read {TABLE}: {e}")))?;
    let layers: Layers =
        toml::from_str(&text).map_err(|e| Failure::failed(format!("{TABLE}: {e}")))?;
    let out = cargo::command(workspace, &["metadata", "--no-deps", "--format-version=1"])
        .output()
        .map_err(|e| Failure::failed(format!("could not run cargo metadata: {e}")))?;
    if !out.status.success() {
        let errors = String::from_utf8_lossy(&out.stderr);
        return Err(Failure::failed(format!("cargo metadata: {errors}")));
    }
    let metadata: Value = serde_json::from_slice(&out.stdout)
        .map_err(|e| Failure::failed(format!("cargo metadata: {e}")))?;
    let (members, edges) = read_metadata(&metadata);
    Ok(refusals(&layers, &members, &edges))
}

fn read_metadata(metadata: &Value) -> (BTreeSet<String>, Vec<Edge>) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut members = BTreeSet::new();
    let mut edges = Vec::new();
    for package in list(&metadata["packages"]) {
        let from = text(&package["name"]);
        for dependency in list(&package["dependencies"]) {
            edges.push(Edge {
                from: from.clone(),
                to: text(&dependency["name"]),
                for_tests: !dependency["kind"].is_null(),
            });
        }
        members.insert(from);
    }
    (members, edges)
}

fn refusals(layers: &Layers, members: &BTreeSet<String>, edges: &[Edge]) -> Vec<Finding> {
    let finding = |what: String| Finding {
        path: TABLE.into(),
        line: 0,
        what,
    };
    let unlisted = members
        .iter()
        .filter(|name| !layers.crates.contains_key(*name))
        .map(|name| finding(format!("the crate {name} is not in the table")));
    let refused = edges.iter().filter_map(|edge| {
        let Edge { from, to, .. } = edge;
        if members.contains(to) {
            let edges = layers.crates.get(from)?;
            let allowed =
                edges.uses.contains(to) || (edge.for_tests && edges.tests_use.contains(to));
            let kind = if edge.for_tests { "in tests " } else { "" };
            return (!allowed)
                .then(|| finding(format!("{from} may not {kind}depend on {to}: no such edge")));
        }
        let users = layers.restricted.get(to)?;
        (!users.contains(from)).then(|| {
            finding(format!(
                "{from} may not use {to}, only: {}",
                users.join(", ")
            ))
        })
    });
    unlisted.chain(refused).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "
        [crates.core]
        uses = []
        tests_use = ['local']
        [crates.store]
        uses = ['core']
        [crates.local]
        uses = []
        [restricted]
        driver = ['store']
    ";

    fn edge(from: &str, to: &str, for_tests: bool) -> Edge {
        Edge {
            from: from.into(),
            to: to.into(),
            for_tests,
        }
    }

    fn verdict(members: &[&str], edges: &[Edge]) -> Vec<String> {
        let layers: Layers = toml::from_str(SAMPLE).expect("a table");
        let members = members.iter().map(ToString::to_string).collect();
        refusals(&layers, &members, edges)
            .into_iter()
            .map(|finding| finding.what)
            .collect()
    }

    const MEMBERS: [&str; 3] = ["core", "store", "local"];

    #[test]
    fn listed_edges_and_unrestricted_crates_pass() {
        let edges = [
            edge("store", "core", false),
            edge("store", "driver", false),
            edge("core", "local", true),
            edge("core", "serde", false),
        ];
        assert!(verdict(&MEMBERS, &edges).is_empty());
    }

    #[test]
    fn an_edge_against_the_layers_is_refused() {
        let refused = verdict(&MEMBERS, &[edge("core", "store", false)]);
        assert_eq!(refused, ["core may not depend on store: no such edge"]);
    }

    #[test]
    fn an_edge_that_is_allowed_in_tests_is_refused_in_the_product() {
        assert_eq!(verdict(&MEMBERS, &[edge("core", "local", false)]).len(), 1);
    }

    #[test]
    fn a_restricted_crate_is_refused_outside_its_users_even_in_tests() {
        let refused = verdict(&MEMBERS, &[edge("core", "driver", true)]);
        assert_eq!(refused, ["core may not use driver, only: store"]);
    }

    #[test]
    fn a_crate_that_nobody_placed_is_refused() {
        let refused = verdict(&["core", "new"], &[]);
        assert_eq!(refused, ["the crate new is not in the table"]);
    }

    #[test]
    fn cargos_answer_is_read_with_its_kinds() {
        let metadata = serde_json::json!({"packages": [{"name": "a", "dependencies": [
            {"name": "b", "kind": null}, {"name": "c", "kind": "dev"}
        ]}]});
        let (members, edges) = read_metadata(&metadata);
        assert!(members.contains("a"));
        assert_eq!(edges, [edge("a", "b", false), edge("a", "c", true)]);
    }
}
