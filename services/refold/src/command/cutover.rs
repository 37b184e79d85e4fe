//! `cutover`: asks the api for the gated switch.

use std::process::ExitCode;
use std::time::Duration;

use hyper::Method;
use serde_json::Value;
use serde_json::json;

use crate::cli::Count;
use crate::cli::CutoverArgs;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::http;
use crate::http::Answer;

/// Longer than the api's own deadline for a barrier.
const DEADLINE: Duration = Duration::from_secs(90);

pub(crate) async fn run(args: CutoverArgs) -> Result<ExitCode, Failure> {
    let order = Order {
        version: &args.version,
        dry_run: args.dry_run,
        if_generation: args.if_generation,
        max_scan_age: args.max_scan_age,
        force: args.force.as_deref().zip(args.reason.as_deref()),
    };
    let answer = order.ask(&args.api).await?;
    if args.json {
        println!("{}", answer.body);
    }
    if matches!(answer.status, 200 | 202) {
        if !args.json {
            print!("{}", tell(&args.version, args.dry_run, &answer.body));
        }
        if answer.status == 202 {
            let (version, api) = (&args.version, &args.api);
            return Err(Failure::new(Kind::TimedOut, unconfirmed(version, api)));
        }
        // A version that serves already is answered with the promotion that made it so.
        let pending = args.dry_run && text(&answer.body["cutover_id"]).is_empty();
        let code = if pending { Kind::Differences.code() } else { 0 };
        return Ok(ExitCode::from(code));
    }
    let kind = match answer.status {
        409 | 412 => Kind::Refused,
        503 => Kind::Unreachable,
        _ => Kind::Error,
    };
    Err(Failure::new(kind, format!("refused: {}", answer.problem())))
}

/// What the api is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order<'a> {
    /// The version to promote.
    pub(crate) version: &'a str,
    /// Judge every gate and change nothing.
    pub(crate) dry_run: bool,
    /// The generation that is insisted on.
    pub(crate) if_generation: Option<i64>,
    /// How old the last scan of both tables may be.
    pub(crate) max_scan_age: Option<Duration>,
    /// The gate that shall not hold it back, and why.
    pub(crate) force: Option<(&'a str, &'a str)>,
}

impl Order<'_> {
    /// Asks the api.
    pub(crate) async fn ask(&self, api: &str) -> Result<Answer, Failure> {
        let headers: Vec<_> = self
            .if_generation
            .map(|generation| ("if-match", format!("\"gen-{generation}\"")))
            .into_iter()
            .collect();
        let mut body = json!({ "version": self.version, "dry_run": self.dry_run });
        if let Some(age) = self.max_scan_age {
            body["max_scan_age_seconds"] = json!(age.as_secs_f64());
        }
        if let Some((gate, reason)) = self.force {
            body["force"] = json!({ "gate": gate, "reason": reason });
        }
        let uri = format!("{}/cutover", api.trim_end_matches('/'));
        http::send(Method::POST, &uri, &headers, Some(body), DEADLINE).await
    }
}

/// Asks the api to promote `version` on the ground of a scan that is young enough.
pub(crate) async fn ask_proven(
    api: &str,
    version: &str,
    dry_run: bool,
    max_scan_age: Duration,
) -> Result<Answer, Failure> {
    let order = Order {
        version,
        dry_run,
        if_generation: None,
        max_scan_age: Some(max_scan_age),
        force: None,
    };
    order.ask(api).await
}

/// What is left to do when the switch is in and no standby confirmed it.
fn unconfirmed(version: &str, api: &str) -> String {
    format!(
        "{version} serves, but no synchronous standby confirmed the switch in time: a failover now \
         may undo it. Look at the standby, then ask again until it is confirmed: refold cutover \
         -version {version} -api {api}"
    )
}

fn tell(version: &str, dry_run: bool, body: &Value) -> String {
    let mut out = String::new();
    for gate in body["gates"].as_array().into_iter().flatten() {
        let forced = text(&gate["forced"]);
        let verdict = match (gate["ok"] == json!(true), forced.is_empty()) {
            (true, _) => "ok",
            (false, true) => "NO",
            (false, false) => "forced",
        };
        let (name, detail) = (text(&gate["gate"]), text(&gate["detail"]));
        out.push_str(&format!("  gate {name:<10} {verdict}  {detail}\n"));
        if !forced.is_empty() {
            out.push_str(&format!("  {:<15} because {forced}\n", ""));
        }
    }
    let generation = &body["generation"];
    let serves = body["changed"] == json!(false) && !text(&body["cutover_id"]).is_empty();
    if serves {
        out.push_str(&format!(
            "{version} is active already, generation {generation}\n"
        ));
    } else if dry_run {
        out.push_str(&format!(
            "No changes made. Next: refold cutover -version {version}\n"
        ));
    } else {
        let sum = body["offset_sum"].as_u64().unwrap_or_default();
        out.push_str(&format!(
            "promoted {version}, generation {generation}, switch offsets sum {}\n",
            Count(sum)
        ));
    }
    out
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
