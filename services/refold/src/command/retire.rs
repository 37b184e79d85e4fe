//! `retire`: the end of a version that serves no more, or of a build that is given up.

use std::process::ExitCode;
use std::time::Duration;

use refold_domain::version::VersionState;
use refold_ports::Registry;
use refold_ports::registry::RegistryError;
use tokio::time::Instant;

use crate::cli::Failure;
use crate::cli::Kind;
use crate::cli::RetireArgs;
use crate::connect;

/// Between two attempts to drop what may still be read.
const LOOK: Duration = Duration::from_millis(500);

pub(crate) async fn run(args: RetireArgs) -> Result<ExitCode, Failure> {
    let label = &args.version;
    let session = connect::session(&args.store)?;
    let registry = connect::registry(&session).await?;
    let version = registry.version(label).await?;
    if version.state == VersionState::Dropped {
        println!("{label} is dropped already");
        return Ok(ExitCode::SUCCESS);
    }
    if args.confirm.as_ref() != Some(label) {
        return Err(Failure::new(
            Kind::Refused,
            format!(
                "{label} is {}; what is dropped comes back by a rebuild only. \
                 To go on: refold retire -version {label} -confirm {label}",
                version.state
            ),
        ));
    }
    let retired = registry.retire(version.id, &args.actor, &args.reason).await;
    retired.map_err(refused)?;
    eprintln!("{label} is retired: it is projected no more");
    if args.keep_tables {
        println!(
            "{label} retired; its tables stay. Next: refold retire -version {label} -confirm {label}"
        );
        return Ok(ExitCode::SUCCESS);
    }
    let deadline = Instant::now() + args.grace + args.patience;
    loop {
        match registry
            .drop_retired(version.id, args.grace, &args.actor)
            .await
        {
            Ok(()) => {
                println!("{label} dropped");
                return Ok(ExitCode::SUCCESS);
            }
            // The grace, a reader, a lock: all of them pass.
            Err(error @ (RegistryError::Conflict(_) | RegistryError::Unreachable(_))) => {
                if Instant::now() >= deadline {
                    let sentence = format!("{label} stays retired: {error}");
                    return Err(Failure::new(Kind::TimedOut, sentence));
                }
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A version that may not be retired is a refusal, not a failure.
fn refused(error: RegistryError) -> Failure {
    match error {
        RegistryError::Conflict(sentence) => Failure::new(Kind::Refused, sentence),
        other => other.into(),
    }
}
