//! `reset`: a build that came to nothing begins once more, by the code of this program.

use std::process::ExitCode;

use refold_api::may_pass;
use refold_domain::version::VersionState;
use refold_ports::Registry;
use refold_ports::registry::RegistryError;
use refold_ports::registry::ResetRequest;
use tokio::time::Instant;

use crate::cli::Failure;
use crate::cli::Kind;
use crate::cli::ResetArgs;
use crate::connect;
use crate::run::Projections;
use crate::run::find;

pub(crate) async fn run(args: ResetArgs, projections: &Projections) -> Result<ExitCode, Failure> {
    let label = args.version.as_str();
    let projection = find(projections, label)?;
    let session = connect::session(&args.store)?;
    let registry = connect::registry(&session).await?;
    let version = registry.version(label).await?;
    if let Some(reason) = refusal(version.state) {
        let sentence = format!("{label} {reason}");
        return Err(Failure::new(Kind::Refused, sentence));
    }
    if args.confirm.as_deref() != Some(label) {
        return Err(Failure::new(
            Kind::Refused,
            format!(
                "{label} is {}; all that was built of it goes, and is built again from the head \
                 of the log. To go on: refold reset -version {label} -confirm {label}",
                version.state
            ),
        ));
    }
    let request = ResetRequest {
        version: version.id,
        spec: projection.spec().clone(),
        actor: args.actor,
        reason: args.reason,
    };
    let deadline = Instant::now() + args.patience;
    let outcome = loop {
        let outcome = registry.reset(&request).await;
        // What came to serve, or has ended, since it was looked at does not pass.
        if outcome.is_err()
            && let Ok(now) = registry.version(label).await
            && let Some(reason) = refusal(now.state)
        {
            let sentence = format!("{label} {reason}");
            return Err(Failure::new(Kind::Refused, sentence));
        }
        if !may_pass(&outcome, deadline).await {
            break outcome;
        }
    };
    match outcome {
        Ok(()) => {
            println!(
                "{label} is building: nothing is built of it yet. \
                 Next: refold projector -version {label} -mode replay"
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(error @ (RegistryError::Conflict(_) | RegistryError::Unreachable(_))) => {
            let sentence = format!("{label} was not reset, and asking again goes on: {error}");
            Err(Failure::new(Kind::TimedOut, sentence))
        }
        Err(error) => Err(error.into()),
    }
}

/// Why a version in this state is not built again, if it is not.
fn refusal(state: VersionState) -> Option<&'static str> {
    match state {
        VersionState::Building | VersionState::Ready | VersionState::Failed => None,
        VersionState::Active => {
            Some("serves reads; build another version beside it and promote that one")
        }
        VersionState::Previous => {
            Some("served before and is the way back; build another version beside it")
        }
        VersionState::Retired | VersionState::Dropped => {
            Some("has ended and does not come back; give the fold another version number")
        }
    }
}
