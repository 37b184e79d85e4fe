//! The request and the answer of a cutover.

use std::collections::BTreeMap;
use std::time::Duration;

use poem_openapi::Object;
use refold_domain::cutover::Forced;
use refold_domain::cutover::Gate;
use refold_ports::registry::Durability;
use refold_ports::registry::Promotion;

use crate::cutover::CutoverOptions;
use crate::problem::GateVerdict;
use crate::problem::Problem;
use crate::rfc3339;
use crate::state::ApiState;

/// A gate that whoever asks answers for.
#[derive(Debug, Clone, Object)]
#[oai(deny_unknown_fields)]
pub(crate) struct ForceBody {
    /// verified, parked, gaps, keys or lag; one that would hold the promotion back.
    gate: String,
    /// Why, for the audit.
    reason: String,
}

/// A promotion is asked for.
#[derive(Debug, Clone, Object)]
#[oai(deny_unknown_fields)]
pub(crate) struct CutoverBody {
    /// Label of the version that shall serve reads.
    pub(crate) version: String,
    /// Judge every gate and change nothing.
    #[oai(default)]
    pub(crate) dry_run: bool,
    /// How many seconds ago the last scan of both tables may have begun. The server may ask
    /// for a younger one.
    #[oai(validator(minimum(value = "0")))]
    pub(crate) max_scan_age_seconds: Option<f64>,
    /// The one gate that shall not hold it back.
    pub(crate) force: Option<ForceBody>,
}

/// What a promotion did.
#[derive(Debug, Clone, Object)]
#[oai(skip_serializing_if_is_none)]
pub(crate) struct CutoverAnswer {
    /// The promotion's id, also in the audit.
    cutover_id: String,
    /// The version that served before.
    from: Option<String>,
    /// The version that serves.
    to: String,
    /// Generation after the switch.
    pub(crate) generation: i64,
    /// Time of the switch.
    switched_at: String,
    /// The switch vector: by partition, the offset below which both versions were proven equal.
    offsets: BTreeMap<String, i64>,
    /// Its sum.
    offset_sum: i64,
    /// `false` when the version served already, or nothing was to be changed.
    changed: bool,
    /// Whether this was only a look.
    dry_run: bool,
    /// Who has the switch: `replicated`, the synchronous standbys show it too; `local`, the database
    /// has none; `pending`, it serves, and a failover may still undo it. Not there for a look.
    durability: Option<String>,
    /// Milliseconds of the switching transaction, with its wait for a standby.
    flip_ms: f64,
    /// Every gate's verdict.
    gates: Vec<GateVerdict>,
}

impl CutoverAnswer {
    /// Whether no synchronous standby is known to have the switch.
    pub(crate) fn is_pending(&self) -> bool {
        self.durability.as_deref() == Some(Durability::Pending.word())
    }
}

/// `gen-11` for a generation, as `ETag` and `If-Match` show it.
pub(crate) fn etag(generation: i64) -> String {
    format!("\"gen-{generation}\"")
}

/// The generation that an `If-Match` header insists on.
///
/// # Errors
/// A sentence, when it is not an `ETag` of the registry.
pub(crate) fn if_match(header: Option<&str>) -> Result<Option<i64>, String> {
    let Some(header) = header.map(str::trim).filter(|h| *h != "*") else {
        return Ok(None);
    };
    let bare = header.trim_start_matches("W/").trim_matches('"');
    let generation = bare.strip_prefix("gen-").and_then(|g| g.parse().ok());
    generation.map(Some).ok_or_else(|| {
        format!("If-Match is {header:?}; it wants the ETag of GET /projections, like \"gen-11\"")
    })
}

/// The stricter of what the server and what the caller asks of the last scan's age.
///
/// # Errors
/// A sentence, when the caller's is not a number of seconds.
pub(crate) fn younger(
    server: Option<Duration>,
    caller: Option<f64>,
) -> Result<Option<Duration>, String> {
    let Some(seconds) = caller else {
        return Ok(server);
    };
    let wanted = Duration::try_from_secs_f64(seconds)
        .map_err(|_| format!("max_scan_age_seconds is {seconds}, which is no number of seconds"))?;
    Ok(Some(server.map_or(wanted, |server| server.min(wanted))))
}

/// The gate that the caller answers for.
///
/// # Errors
/// A sentence, when there is no such gate or no reason.
pub(crate) fn forced(body: Option<&ForceBody>) -> Result<Option<Forced>, String> {
    let Some(body) = body else { return Ok(None) };
    let gates = Gate::ALL.into_iter().filter(|gate| gate.may_be_forced());
    let words: Vec<_> = gates.map(Gate::word).collect();
    let gate = Gate::parse(&body.gate).filter(|gate| gate.may_be_forced());
    let gate = gate.ok_or_else(|| {
        let (given, words) = (&body.gate, words.join(", "));
        format!("force.gate is {given:?}; it may be one of {words}")
    })?;
    let reason = body.reason.trim().to_owned();
    if reason.is_empty() {
        return Err("force.reason is empty; it is kept in the audit".to_owned());
    }
    Ok(Some(Forced { gate, reason }))
}

/// Promotes and says what happened.
pub(crate) async fn promote(
    state: &ApiState,
    label: &str,
    options: &CutoverOptions,
) -> Result<CutoverAnswer, Problem> {
    let promotion = state.promoter.promote(label, options).await?;
    let from = match promotion.from {
        Some(id) => Some(state.label(id).await?.to_string()),
        None => None,
    };
    let to = state.label(promotion.to).await?.to_string();
    // The board shows the switch at once, not with the next refresh.
    if let Err(error) = state.versions().await {
        tracing::warn!(%error, "the versions could not be read after the switch");
    }
    Ok(answer(promotion, from, to, options.dry_run))
}

fn answer(promotion: Promotion, from: Option<String>, to: String, dry_run: bool) -> CutoverAnswer {
    let switch = promotion.switch.iter();
    CutoverAnswer {
        cutover_id: promotion.id,
        from,
        to,
        generation: promotion.generation,
        switched_at: rfc3339::text(promotion.switched_at),
        offset_sum: promotion.switch.values().map(|x| x.0).sum(),
        offsets: switch.map(|(p, x)| (p.0.to_string(), x.0)).collect(),
        changed: promotion.changed && !dry_run,
        dry_run,
        durability: promotion.durability.map(|d| d.word().to_owned()),
        flip_ms: promotion.flip.as_secs_f64() * 1_000.0,
        gates: promotion.gates.iter().map(GateVerdict::from).collect(),
    }
}
