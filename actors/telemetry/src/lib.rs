//! Metrics and logs of a Refold process.
//!
//! Metrics are OpenTelemetry instruments behind a Prometheus exporter. Every
//! name is declared once, in [`names`], in the form in which Prometheus shows
//! it. Whatever carries a version or partition label is *observed* from the
//! actors' own [`Board`] at the moment of a scrape: a series ends with its
//! actor, nothing is counted twice, and no event pays for it.

mod actors;
mod batches;
mod http;
mod logging;
pub mod names;
mod shadow;
mod versions;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::Instrument;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::metrics::Stream;
use prometheus::Encoder;
use prometheus::Registry;
use prometheus::TextEncoder;
use refold_domain::observe::Board;

pub use batches::BatchMetrics;
pub use batches::BatchSize;
pub use http::HttpMetrics;
pub use http::HttpRequest;
pub use logging::LogFormat;
pub use logging::init_logging;
pub use shadow::ShadowMetrics;
pub use shadow::ShadowResult;
pub use versions::VersionStates;

/// Content type of [`Telemetry::render`]'s text.
pub const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Label sets per instrument before the SDK folds the rest into one overflow
/// series. Its default of 2,000 is passed by the time-per-stage counter of five
/// versions with 64 partitions (5 x 64 x 7 = 2,240).
const LABEL_SETS: usize = 10_000;

/// Set-up or rendering failed.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The exporter could not be built.
    #[error("the metrics exporter could not be set up: {0}")]
    Exporter(String),
    /// The scrape could not be encoded.
    #[error("the metrics could not be rendered: {0}")]
    Render(#[from] prometheus::Error),
    /// Logging was set up twice, or its filter cannot be read.
    #[error("logging could not be set up: {0}")]
    Logging(String),
}

/// What a process says about itself on `refold_build_info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessLabels {
    /// The program's version, as in its manifest.
    pub version: String,
    /// The revision that it was built from.
    pub revision: String,
    /// `projector`, `api`, ...
    pub process: String,
}

/// The metrics of one process. Make one at start and share it.
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
    // Held so that the instruments live as long as the process wants them; the
    // exporter stops answering when the provider is dropped.
    _provider: SdkMeterProvider,
    meter: Meter,
    batches: BatchMetrics,
    http: HttpMetrics,
    shadow: ShadowMetrics,
}

impl Telemetry {
    /// Sets the exporter up and shows `refold_build_info`.
    ///
    /// # Errors
    /// [`TelemetryError::Exporter`].
    pub fn new(labels: &ProcessLabels) -> Result<Self, TelemetryError> {
        let registry = Registry::new();
        // Names are written out in `names` with their units; the exporter would
        // add the unit a second time. It still adds `_total` to counters.
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_units()
            .without_target_info()
            .scope_info_enabled(false)
            .build()
            .map_err(|e| TelemetryError::Exporter(e.to_string()))?;
        let provider = SdkMeterProvider::builder()
            .with_reader(exporter)
            .with_resource(Resource::builder_empty().build())
            .with_view(|_: &Instrument| {
                Stream::builder()
                    .with_cardinality_limit(LABEL_SETS)
                    .build()
                    .ok()
            })
            .build();
        let meter = provider.meter("refold");
        show_build_info(&meter, labels);
        Ok(Self {
            registry,
            batches: BatchMetrics::new(&meter),
            http: HttpMetrics::new(&meter),
            shadow: ShadowMetrics::new(&meter),
            _provider: provider,
            meter,
        })
    }

    /// Shows the projectors of `board` from the next scrape on. Call it once per process.
    pub fn observe_board(&self, board: &Board) {
        actors::observe(&self.meter, board);
    }

    /// Shows the registry's versions from the next scrape on. Call it once per process.
    pub fn observe_versions(&self, states: &VersionStates) {
        versions::observe(&self.meter, states);
    }

    /// The histograms of the write path.
    pub fn batches(&self) -> &BatchMetrics {
        &self.batches
    }

    /// The histogram of the HTTP server.
    pub fn http(&self) -> &HttpMetrics {
        &self.http
    }

    /// The counter of the shadow reads.
    pub fn shadow(&self) -> &ShadowMetrics {
        &self.shadow
    }

    /// The body of `/metrics`, of type [`METRICS_CONTENT_TYPE`].
    ///
    /// # Errors
    /// [`TelemetryError::Render`].
    pub fn render(&self) -> Result<String, TelemetryError> {
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        String::from_utf8(out)
            .map_err(|e| TelemetryError::Render(prometheus::Error::Msg(e.to_string())))
    }
}

fn show_build_info(meter: &Meter, labels: &ProcessLabels) {
    let labels = [
        KeyValue::new("version", labels.version.clone()),
        KeyValue::new("revision", labels.revision.clone()),
        KeyValue::new("process", labels.process.clone()),
    ];
    meter
        .u64_observable_gauge(names::BUILD_INFO.instrument())
        .with_description(names::BUILD_INFO.meaning)
        .with_callback(move |observer| observer.observe(1, &labels))
        .build();
}
