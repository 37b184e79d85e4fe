//! The compose file cannot be started everywhere, so it is read: pinned images, health checks,
//! memory limits, loopback only, and the same broker and database settings as the local stack.

use std::fs;
use std::path::PathBuf;

use refold_local::settings::{self, WalLevel};
use serde_norway::Value;

fn below_root(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn compose_file() -> String {
    below_root("compose/docker-compose.yml")
}

/// Variables of a broker that are wiring rather than settings: names, listeners, directories.
const BROKER_WIRING: &[&str] = &[
    "KAFKA_NODE_ID",
    "KAFKA_PROCESS_ROLES",
    "KAFKA_CONTROLLER_QUORUM_VOTERS",
    "KAFKA_CONTROLLER_LISTENER_NAMES",
    "KAFKA_INTER_BROKER_LISTENER_NAME",
    "KAFKA_LISTENERS",
    "KAFKA_ADVERTISED_LISTENERS",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP",
    "KAFKA_LOG_DIRS",
    "KAFKA_HEAP_OPTS",
    "KAFKA_JVM_PERFORMANCE_OPTS",
];

/// Everything that is wrong with a compose file.
fn refusals(text: &str) -> Vec<String> {
    let mut document: Value = serde_norway::from_str(text).expect("YAML");
    document.apply_merge().expect("merge keys");
    let services = document["services"].as_mapping().expect("services");
    let mut found = Vec::new();
    for (name, service) in services {
        let name = name.as_str().expect("a name");
        let mut refuse = |what: String| found.push(format!("{name}: {what}"));
        let image = service["image"].as_str().unwrap_or_default();
        if !is_pinned(image) {
            refuse(format!("image `{image}` is not pinned"));
        }
        if service["healthcheck"]["test"].is_null() || service["healthcheck"]["disable"] == true {
            refuse("no health check".into());
        }
        if service["mem_limit"].is_null() {
            refuse("no memory limit".into());
        }
        for port in service["ports"].as_sequence().into_iter().flatten() {
            let on_loopback = match port.as_str() {
                Some(short) => short.starts_with("127.0.0.1:"),
                None => port["host_ip"] == "127.0.0.1",
            };
            if !on_loopback {
                refuse(format!("port {port:?} is not on loopback"));
            }
        }
        if image.starts_with("apache/kafka:") {
            broker(service).into_iter().for_each(&mut refuse);
        }
        if image.starts_with("postgres:") {
            database(service).into_iter().for_each(&mut refuse);
        }
    }
    found
}

/// A digest, or a tag that names at least a minor version.
fn is_pinned(image: &str) -> bool {
    if image.contains("@sha256:") {
        return true;
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    let Some((_, tag)) = last.split_once(':') else {
        return false;
    };
    let version = tag.trim_start_matches('v').split('-').next();
    let parts: Vec<&str> = version.unwrap_or_default().split('.').collect();
    parts.len() >= 2
        && parts
            .iter()
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

fn broker(service: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let environment = service["environment"].as_mapping().expect("a mapping");
    let value = |name: &str| environment.get(name).and_then(Value::as_str);
    let expected: Vec<(String, String)> = settings::KAFKA
        .iter()
        .copied()
        .chain(settings::kafka_replication(3))
        .map(|(name, value)| {
            let name = format!("KAFKA_{}", name.replace('.', "_").to_uppercase());
            (name, value.to_owned())
        })
        .chain([
            (
                "KAFKA_HEAP_OPTS".to_owned(),
                format!(
                    "-Xmx{}m -Xms{}m",
                    settings::KAFKA_HEAP_MIB,
                    settings::KAFKA_HEAP_MIB / 2
                ),
            ),
            (
                "KAFKA_JVM_PERFORMANCE_OPTS".to_owned(),
                settings::KAFKA_JVM.join(" "),
            ),
        ])
        .collect();
    for (name, wanted) in &expected {
        let given = value(name);
        if given != Some(wanted.as_str()) {
            found.push(format!("{name} is {given:?}, the local stack has {wanted}"));
        }
    }
    for name in environment.keys().filter_map(Value::as_str) {
        let known = BROKER_WIRING.contains(&name) || expected.iter().any(|(n, _)| n == name);
        if name.starts_with("KAFKA_") && !known {
            found.push(format!("{name} is not a setting of the local stack"));
        }
    }
    let tag = format!("apache/kafka:{}", settings::KAFKA_VERSION);
    if service["image"].as_str() != Some(tag.as_str()) {
        found.push(format!("the local stack runs {tag}"));
    }
    found
}

fn database(service: &Value) -> Vec<String> {
    let words: Vec<&str> = service["command"]
        .as_sequence()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let given: Vec<(&str, &str)> = words
        .windows(2)
        .filter(|pair| pair[0] == "-c")
        .filter_map(|pair| pair[1].split_once('='))
        .collect();
    let expected: Vec<(&str, &str)> = settings::POSTGRES
        .iter()
        .chain(WalLevel::Replica.settings())
        .copied()
        .collect();
    let missing = expected
        .iter()
        .filter(|setting| !given.contains(setting))
        .map(|(name, value)| format!("{name}={value} is missing"));
    let extra = given
        .iter()
        .filter(|setting| !expected.contains(setting))
        .map(|(name, value)| format!("{name}={value} is not what the local stack has"));
    let mut found: Vec<String> = missing.chain(extra).collect();
    let initdb = settings::POSTGRES_INITDB.join(" ");
    if service["environment"]["POSTGRES_INITDB_ARGS"].as_str() != Some(initdb.as_str()) {
        found.push(format!("the local stack initialises with {initdb}"));
    }
    found
}

/// The real file with one thing changed; the change must hit.
fn changed(from: &str, to: &str) -> Vec<String> {
    let text = compose_file();
    assert!(text.contains(from), "the compose file has no `{from}`");
    refusals(&text.replacen(from, to, 1))
}

#[track_caller]
fn assert_refused(refusals: &[String], what: &str) {
    assert!(
        refusals.iter().any(|refusal| refusal.contains(what)),
        "nothing says `{what}`: {refusals:?}"
    );
}

#[test]
fn the_compose_file_is_accepted() {
    assert_eq!(refusals(&compose_file()), Vec::<String>::new());
}

#[test]
fn it_has_three_brokers_a_database_boards_and_refold_itself_with_volumes() {
    let mut document: Value = serde_norway::from_str(&compose_file()).expect("YAML");
    document.apply_merge().expect("merge keys");
    let services = document["services"].as_mapping().expect("services");
    let with_image = |prefix: &str| {
        services
            .values()
            .filter(|s| s["image"].as_str().is_some_and(|i| i.starts_with(prefix)))
            .collect::<Vec<_>>()
    };
    assert_eq!(with_image("apache/kafka:").len(), 3);
    for prefix in ["postgres:", "prom/prometheus:", "grafana/grafana:"] {
        assert_eq!(with_image(prefix).len(), 1, "{prefix}");
    }
    assert!(with_image("refold:").len() >= 2);
    for prefix in ["apache/kafka:", "postgres:"] {
        for service in with_image(prefix) {
            let volumes = service["volumes"].as_sequence().expect("volumes");
            let volume = volumes[0].as_str().expect("short form");
            let named = volume.split(':').next().expect("a name");
            assert!(!document["volumes"][named].is_null(), "{volume}");
        }
    }
}

#[test]
fn an_unpinned_image_is_refused() {
    let tag = "prom/prometheus:v3.13.3";
    for other in [
        "prom/prometheus",
        "prom/prometheus:latest",
        "prom/prometheus:v3",
    ] {
        assert_refused(&changed(tag, other), "is not pinned");
    }
    assert_refused(
        &changed("apache/kafka:4.3.1", "apache/kafka:4.2.0"),
        "local stack runs",
    );
}

#[test]
fn a_service_without_a_health_check_is_refused() {
    assert_refused(
        &changed("    healthcheck: *projector-health\n", ""),
        "projector-live: no health check",
    );
    let disabled = "    healthcheck: { test: [CMD, x], disable: true }\n";
    assert_refused(
        &changed("    healthcheck: *projector-health\n", disabled),
        "projector-live: no health check",
    );
}

#[test]
fn a_service_without_a_memory_limit_is_refused() {
    assert_refused(
        &changed("    mem_limit: 4g\n", ""),
        "postgres: no memory limit",
    );
}

#[test]
fn a_port_off_loopback_is_refused() {
    assert_refused(
        &changed("127.0.0.1:5432:5432", "5432:5432"),
        "not on loopback",
    );
    assert_refused(
        &changed(
            "\"127.0.0.1:3000:3000\"",
            "{ target: 3000, published: 3000 }",
        ),
        "not on loopback",
    );
    assert_refused(
        &changed("127.0.0.1:8080:8080", "0.0.0.0:8080:8080"),
        "not on loopback",
    );
}

#[test]
fn a_broker_setting_that_differs_is_refused() {
    assert_refused(
        &changed(
            "KAFKA_LOG_RETENTION_MS: \"-1\"",
            "KAFKA_LOG_RETENTION_MS: \"1\"",
        ),
        "kafka-1: KAFKA_LOG_RETENTION_MS",
    );
    assert_refused(
        &changed("  KAFKA_NUM_IO_THREADS: \"8\"\n", ""),
        "KAFKA_NUM_IO_THREADS is None",
    );
    assert_refused(
        &changed(
            "  KAFKA_NUM_IO_THREADS: \"8\"\n",
            "  KAFKA_NUM_IO_THREADS: \"8\"\n  KAFKA_LOG_SEGMENT_BYTES: \"1\"\n",
        ),
        "KAFKA_LOG_SEGMENT_BYTES is not a setting",
    );
}

#[test]
fn a_database_setting_that_differs_is_refused() {
    assert_refused(
        &changed("- fsync=on", "- fsync=off"),
        "fsync=off is not what",
    );
    assert_refused(
        &changed("      - -c\n      - jit=off\n", ""),
        "jit=off is missing",
    );
    assert_refused(
        &changed("--data-checksums ", ""),
        "the local stack initialises with",
    );
}

/// Base images that are neither pinned nor a stage of the same file.
fn unpinned_bases(dockerfile: &str) -> Vec<String> {
    let mut stages = Vec::new();
    let mut found = Vec::new();
    for line in dockerfile.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["FROM", image, rest @ ..] = words.as_slice() {
            if !is_pinned(image) && !stages.contains(image) {
                found.push((*image).to_owned());
            }
            if let ["AS", stage] = rest {
                stages.push(*stage);
            }
        }
    }
    found
}

#[test]
fn the_image_has_pinned_bases_and_does_not_run_as_root() {
    let dockerfile = below_root("compose/Dockerfile");
    assert_eq!(unpinned_bases(&dockerfile), Vec::<String>::new());
    assert_eq!(
        unpinned_bases("FROM debian\nFROM rust:1 AS a\nFROM a"),
        ["debian", "rust:1"]
    );
    let last_stage = dockerfile.rsplit("\nFROM ").next().expect("a stage");
    let user = last_stage.lines().find(|line| line.starts_with("USER "));
    assert_eq!(user, Some("USER 10001:10001"));
}
