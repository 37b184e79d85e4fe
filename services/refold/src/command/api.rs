//! `api`: reads, the registry and promotions over HTTP.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use refold_api::ApiDeps;
use refold_api::ApiOptions;
use refold_api::RetireOptions;
use refold_api::ShadowDeps;
use refold_api::cutover::CutoverOptions;
use refold_api::cutover::Promoter;
use refold_domain::spec::ProjectionSpec;
use refold_ports::History;
use refold_ports::registry::Promotion;
use refold_ports::registry::RegistryError;
use refold_store_postgres::PgPairReads;
use refold_store_postgres::PgReadModel;
use refold_store_postgres::Pooler;
use refold_store_postgres::ReadOptions;
use refold_store_postgres::SessionOptions;
use refold_system::LogHistory;
use refold_system::barrier::BarrierRef;
use refold_system::barrier::PromotionOrder;
use refold_telemetry::Telemetry;
use tokio::net::TcpListener;

use crate::cli::ApiArgs;
use crate::cli::Failure;
use crate::cli::PoolerKind;
use crate::cli::StoreArgs;
use crate::connect;
use crate::run::Projections;

pub(crate) async fn run(args: ApiArgs, projections: &Projections) -> Result<ExitCode, Failure> {
    let specs = specs(&args.projection, projections)?;
    let mut session = connect::session(&args.store)?;
    session.pooler = match args.pooler {
        PoolerKind::None => Pooler::None,
        PoolerKind::Transaction => Pooler::Transaction,
    };
    let shadow = shadow(&args, &specs, &session)?;
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|error| Failure::usage(format!("-listen {}: {error}", args.listen)))?;
    let labels = connect::labels("api");
    let telemetry =
        Telemetry::new(&labels).map_err(|error| Failure::error("set the metrics up", error))?;
    let store = connect::registry(&session).await?;
    let registry = connect::as_registry(&store);
    let reads = PgReadModel::new(&read_session(&args, &session)?, ReadOptions::default());
    let owned = specs
        .iter()
        .map(|spec| ProjectionSpec::clone(spec))
        .collect();
    let barrier = BarrierRef::spawn(Arc::clone(&registry), owned)
        .await
        .map_err(|error| Failure::error("start the barrier", error))?;
    // The real one: port 0 asks for any.
    let address = listener.local_addr().unwrap_or(args.listen);
    tracing::info!(%address, "api");
    let deps = ApiDeps {
        registry,
        reads: Arc::new(reads),
        promoter: Arc::new(BarrierPromoter(barrier)),
        specs,
        telemetry: Arc::new(telemetry),
        labels,
        shadow,
        history: history(&args, projections)?,
        read_report: Some(store),
    };
    let options = ApiOptions {
        cutover: CutoverOptions {
            allowed_lag: args.allowed_lag.0,
            max_scan_age: args.max_scan_age.0,
            barrier_deadline: args.cutover_deadline,
            ..CutoverOptions::default()
        },
        retire: RetireOptions {
            grace: args.retire_grace,
            ..RetireOptions::default()
        },
        ..ApiOptions::default()
    };
    refold_api::serve(listener, deps, options, connect::shutdown())
        .await
        .map_err(|error| Failure::error("serve the api", error))?;
    Ok(ExitCode::SUCCESS)
}

/// The past, as the log tells it. Nothing is asked of the log before somebody asks.
fn history(args: &ApiArgs, projections: &Projections) -> Result<Option<Arc<dyn History>>, Failure> {
    if args.log.address_if_any()?.is_none() {
        return Ok(None);
    }
    let source = connect::log(&args.log, &args.kafka)?;
    let form = connect::wire(args.log.format);
    let history = LogHistory::new(source, form, projections.clone());
    Ok(Some(Arc::new(history)))
}

/// Where reads go: to the registry's database, or to a standby of it.
fn read_session(args: &ApiArgs, session: &SessionOptions) -> Result<SessionOptions, Failure> {
    let Some(postgres) = &args.read_postgres else {
        return Ok(session.clone());
    };
    let mut reads = connect::session(&StoreArgs {
        postgres: postgres.clone(),
        ..args.store.clone()
    })?;
    reads.pooler = session.pooler;
    Ok(reads)
}

/// A shadow read that is not there within this is given up.
const SHADOW_DEADLINE: Duration = Duration::from_secs(1);

/// The candidate that is asked as well, over a connection of its own.
fn shadow(
    args: &ApiArgs,
    specs: &[Arc<ProjectionSpec>],
    session: &SessionOptions,
) -> Result<Option<ShadowDeps>, Failure> {
    let Some(version) = &args.shadow else {
        return Ok(None);
    };
    if !specs.iter().any(|spec| spec.label() == *version) {
        return Err(Failure::usage(format!(
            "version {version} is not in this binary; link the projection in or correct -shadow"
        )));
    }
    Ok(Some(ShadowDeps {
        pairs: Arc::new(PgPairReads::new(session, SHADOW_DEADLINE)),
        version: version.clone(),
        share: args.shadow_share.0,
    }))
}

/// The specs that the api answers for, those of the default projection first.
fn specs(default: &str, projections: &Projections) -> Result<Vec<Arc<ProjectionSpec>>, Failure> {
    let all = projections.iter().map(|p| Arc::new(p.spec().clone()));
    let (mut first, others): (Vec<_>, Vec<_>) = all.partition(|spec| spec.name == default);
    if first.is_empty() {
        return Err(Failure::usage(format!(
            "projection {default} is not in this binary; correct -projection"
        )));
    }
    first.extend(others);
    Ok(first)
}

/// Promotions go through the barrier actor, which takes them one at a time per projection.
struct BarrierPromoter(BarrierRef);

#[async_trait]
impl Promoter for BarrierPromoter {
    async fn promote(
        &self,
        label: &str,
        options: &CutoverOptions,
    ) -> Result<Promotion, RegistryError> {
        let order = PromotionOrder {
            if_generation: options.if_generation,
            allowed_lag: options.allowed_lag,
            max_scan_age: options.max_scan_age,
            forced: options.forced.clone(),
            dry_run: options.dry_run,
            deadline: options.barrier_deadline,
            ..PromotionOrder::of(label, &options.actor)
        };
        self.0.promote(order).await
    }
}
