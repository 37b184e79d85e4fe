//! From flags to the parts that a command works with.

use std::path::Path;
use std::sync::Arc;

use refold_local::testing;
use refold_ports::Registry;
use refold_ports::source::LogSource;
use refold_proto::WireFormat;
use refold_source_kafka::BulkClient;
use refold_source_kafka::KafkaConfig;
use refold_source_kafka::KafkaSource;
use refold_source_postgres::EventStoreOptions;
use refold_source_postgres::EventTable;
use refold_store_postgres::PgRegistry;
use refold_store_postgres::SessionOptions;
use refold_telemetry::ProcessLabels;

use crate::cli;
use crate::cli::Failure;
use crate::cli::Format;
use crate::cli::KafkaArgs;
use crate::cli::LogAddress;
use crate::cli::LogArgs;
use crate::cli::StoreArgs;
use crate::machine::revision;
use crate::witness;

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
    options
        .config
        .password(password("-postgres-password-file", path)?);
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

/// Where a log is, with all that is needed to read it.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// A cluster of brokers.
    Kafka(KafkaConfig),
    /// A Postgres server.
    EventStore(Box<EventStoreOptions>),
}

impl Place {
    /// The log of this name here. Nothing is asked of a server yet.
    pub(crate) fn log(&self, name: &str) -> Result<Arc<dyn LogSource>, Failure> {
        match self {
            Self::Kafka(config) => {
                let source = KafkaSource::new(config.clone(), name);
                Ok(Arc::new(source.map_err(usage)?))
            }
            Self::EventStore(options) => {
                let source = EventTable::new((**options).clone(), name);
                Ok(Arc::new(source.map_err(usage)?))
            }
        }
    }
}

fn usage(error: impl std::fmt::Display) -> Failure {
    Failure::usage(error.to_string())
}

/// Where the log is.
///
/// # Errors
/// A usage failure when none is named, or two, or an address cannot be read.
pub(crate) fn place(args: &LogArgs, kafka: &KafkaArgs) -> Result<Place, Failure> {
    match args.address()? {
        LogAddress::Brokers(brokers) => Ok(Place::Kafka(kafka_config(brokers, kafka)?)),
        LogAddress::EventStore(dsn) => {
            let file = args.event_store_password_file.as_deref();
            Ok(Place::EventStore(Box::new(event_store(dsn, file)?)))
        }
    }
}

/// The server of an event table.
///
/// # Errors
/// A usage failure when the address or the file with the password cannot be read.
pub(crate) fn event_store(dsn: &str, file: Option<&Path>) -> Result<EventStoreOptions, Failure> {
    let mut options = EventStoreOptions::parse(dsn)
        .map_err(|error| Failure::usage(format!("-event-store: {error}")))?;
    if let Some(path) = file {
        options
            .config
            .password(password("-event-store-password-file", path)?);
    }
    Ok(options)
}

fn password(flag: &str, path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("{flag} {}: {error}", path.display())))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// The log that flags name. Nothing is asked of a server yet.
pub(crate) fn log(args: &LogArgs, kafka: &KafkaArgs) -> Result<Arc<dyn LogSource>, Failure> {
    place(args, kafka)?.log(&args.topic)
}

/// The same, for whoever folds it again by another way.
pub(crate) fn witnessed(args: &LogArgs, kafka: &KafkaArgs) -> Result<witness::Log, Failure> {
    Ok(witness::Log {
        place: place(args, kafka)?,
        name: args.topic.clone(),
        form: wire(args.format),
    })
}

/// How the brokers are reached.
pub(crate) fn kafka_config(brokers: &str, kafka: &KafkaArgs) -> Result<KafkaConfig, Failure> {
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
