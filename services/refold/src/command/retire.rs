//! `retire` and `abort`: the end of a version that serves no more, or of a build that is given up.

use std::process::ExitCode;

use refold_api::RetireOptions;
use refold_api::drop_when_unread;
use refold_domain::version::VersionState;
use refold_ports::Registry;
use refold_ports::registry::RegistryError;
use refold_ports::registry::RetireRequest;

use crate::cli::AbortArgs;
use crate::cli::EndingArgs;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::cli::RetireArgs;
use crate::connect;

pub(crate) async fn run(args: RetireArgs) -> Result<ExitCode, Failure> {
    let ending = Ending {
        verb: "retire",
        abort: false,
        keep_tables: args.keep_tables,
        args: args.ending,
    };
    ending.carry_out().await
}

pub(crate) async fn abort(args: AbortArgs) -> Result<ExitCode, Failure> {
    let ending = Ending {
        verb: "abort",
        abort: true,
        keep_tables: false,
        args: args.ending,
    };
    ending.carry_out().await
}

/// How a version is ended.
struct Ending {
    verb: &'static str,
    /// Whether it has to be a build.
    abort: bool,
    keep_tables: bool,
    args: EndingArgs,
}

impl Ending {
    async fn carry_out(&self) -> Result<ExitCode, Failure> {
        let (verb, label, args) = (self.verb, self.args.version.as_str(), &self.args);
        let session = connect::session(&args.store)?;
        let registry = connect::registry(&session).await?;
        let version = registry.version(label).await?;
        if version.state == VersionState::Dropped {
            println!("{label} is dropped already");
            return Ok(ExitCode::SUCCESS);
        }
        if args.confirm.as_deref() != Some(label) {
            return Err(Failure::new(
                Kind::Refused,
                format!(
                    "{label} is {}; what is dropped comes back by a rebuild only. \
                     To go on: refold {verb} -version {label} -confirm {label}",
                    version.state
                ),
            ));
        }
        let request = RetireRequest {
            version: version.id,
            abort: self.abort,
            if_generation: args.if_generation,
            actor: args.actor.clone(),
            reason: args.reason.clone(),
        };
        registry.retire_as(&request).await?;
        eprintln!("{label} is retired: it is projected no more");
        if self.keep_tables {
            println!(
                "{label} retired; its tables stay. \
                 Next: refold {verb} -version {label} -confirm {label}"
            );
            return Ok(ExitCode::SUCCESS);
        }
        let options = RetireOptions {
            grace: args.grace,
            patience: args.patience,
        };
        let grace = options.grace_of(version.state);
        let (patience, actor) = (args.patience, &request.actor);
        let dropped = drop_when_unread(&*registry, version.id, grace, patience, actor).await;
        match dropped {
            Ok(()) => {
                println!("{label} dropped");
                Ok(ExitCode::SUCCESS)
            }
            Err(error @ (RegistryError::Conflict(_) | RegistryError::Unreachable(_))) => {
                let sentence = format!("{label} stays retired: {error}");
                Err(Failure::new(Kind::TimedOut, sentence))
            }
            Err(error) => Err(error.into()),
        }
    }
}
