//! From flags to the parts that a command works with.

use std::sync::Arc;

use refold_local::testing;
use refold_ports::Registry;
use refold_proto::WireFormat;
use refold_source_kafka::BulkClient;
use refold_source_kafka::ConfigError;
use refold_source_kafka::KafkaConfig;
use refold_source_kafka::KafkaSource;
use refold_store_postgres::PgRegistry;
use refold_store_postgres::SessionOptions;
use refold_telemetry::ProcessLabels;

use crate::cli;
use crate::cli::Failure;
use crate::cli::Format;
use crate::cli::KafkaArgs;
use crate::cli::LogArgs;
use crate::cli::StoreArgs;
use crate::machine::revision;

/// Addresses and credentials of the database.
///
/// # Errors
/// A usage failure when the address cannot be read, an error when the password file cannot.
pub(crate) fn session(args: &StoreArgs) -> Result<SessionOptions, Failure> {
    let mut options = SessionOptions::parse(&args.postgres)
        .map_err(|error| Failure::usage(format!("-postgres: {error}")))?;
    let Some(path) = &args.postgres_password_file else {
        return Ok(options);
    };
    let password = std::fs::read_to_string(path).map_err(|error| {
        Failure::usage(format!(
            "-postgres-password-file {}: {error}",
            path.display()
        ))
    })?;
    options
        .config
        .password(password.trim_end_matches(['\r', '\n']));
    Ok(options)
}

/// Asks a database in a session of its own: what experiments look at and do, not the product.
/// Lines of cells.
pub(crate) async fn query(database: &str, sql: &str) -> Result<String, Failure> {
    let (database, sql) = (database.to_owned(), sql.to_owned());
    let asked = tokio::task::spawn_blocking(move || testing::query(&database, &sql)).await;
    asked
        .map_err(|error| Failure::error("ask the database", error))?
        .map_err(|error| Failure::error("ask the database", error))
}

/// The log of a topic. Nothing is asked of the brokers yet.
pub(crate) fn log(args: &LogArgs, kafka: &KafkaArgs) -> Result<KafkaSource, Failure> {
    let usage = |error: ConfigError| Failure::usage(error.to_string());
    KafkaSource::new(kafka_config(&args.brokers, kafka)?, &args.topic).map_err(usage)
}

/// How the brokers are reached.
pub(crate) fn kafka_config(brokers: &str, kafka: &KafkaArgs) -> Result<KafkaConfig, Failure> {
    let usage = |error: ConfigError| Failure::usage(error.to_string());
    let client = match kafka.bulk_client {
        cli::BulkClient::Raw => BulkClient::Raw,
        cli::BulkClient::Librdkafka => BulkClient::Librdkafka,
    };
    let mut config = KafkaConfig::new(brokers).with_bulk_client(client);
    for property in kafka.properties()? {
        config = config
            .with_property(property.name, property.value)
            .map_err(usage)?;
    }
    Ok(config)
}

/// A topic's wire form, as the decoders name it.
pub(crate) const fn wire(format: Format) -> WireFormat {
    match format {
        Format::Proto => WireFormat::Proto,
        Format::Json => WireFormat::Json,
    }
}

/// Brings the control tables up to date and opens the registry.
pub(crate) async fn registry(options: &SessionOptions) -> Result<Arc<PgRegistry>, Failure> {
    refold_store_postgres::migrate(options).await?;
    Ok(Arc::new(PgRegistry::new(options)))
}

/// What a process says of itself.
pub(crate) fn labels(process: &str) -> ProcessLabels {
    ProcessLabels {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: revision().to_owned(),
        process: process.to_owned(),
    }
}

/// Resolves at the first SIGINT or SIGTERM; a second one ends the process at once.
///
/// Ending at once is safe: rows and marks are in one transaction.
pub(crate) async fn shutdown() {
    signal().await;
    tracing::info!("draining: finishing what is in flight; a second signal stops at once");
    tokio::spawn(async {
        signal().await;
        std::process::exit(i32::from(crate::cli::Kind::Interrupted.code()));
    });
}

async fn signal() {
    use tokio::signal::unix::SignalKind;
    use tokio::signal::unix::signal;
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

/// Keeps a registry as the port that it implements.
pub(crate) fn as_registry(registry: &Arc<PgRegistry>) -> Arc<dyn Registry> {
    Arc::clone(registry) as Arc<dyn Registry>
}
