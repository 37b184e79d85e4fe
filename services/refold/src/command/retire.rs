//! `retire` and `abort`: the end of a version that serves no more, or of a build that is given up.

use std::process::ExitCode;
use std::time::Duration;

use refold_api::RetireOptions;
use refold_api::drop_when_unread;
use refold_domain::version::VersionState;
use refold_ports::Registry;
use refold_ports::registry::RegistryError;
use refold_ports::registry::RetireRequest;
use refold_ports::registry::VersionRow;

use crate::cli::AbortArgs;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::cli::RetireArgs;
use crate::cli::StoreArgs;
use crate::connect;

pub(crate) async fn run(args: RetireArgs) -> Result<ExitCode, Failure> {
    let ending = Ending {
        verb: "retire",
        label: &args.version,
        confirm: args.confirm.as_deref(),
        keep_tables: args.keep_tables,
        request: &|version| RetireRequest {
            version: version.id,
            abort: false,
            if_generation: args.if_generation,
            actor: args.actor.clone(),
            reason: args.reason.clone(),
        },
        grace: args.grace,
        patience: args.patience,
    };
    ending.carry_out(&args.store).await
}

pub(crate) async fn abort(args: AbortArgs) -> Result<ExitCode, Failure> {
    let ending = Ending {
        verb: "abort",
        label: &args.version,
        confirm: args.confirm.as_deref(),
        keep_tables: false,
        request: &|version| RetireRequest {
            version: version.id,
            abort: true,
            if_generation: args.if_generation,
            actor: args.actor.clone(),
            reason: args.reason.clone(),
        },
        grace: args.grace,
        patience: args.patience,
    };
    ending.carry_out(&args.store).await
}

/// How a version is ended.
struct Ending<'a> {
    verb: &'static str,
    label: &'a str,
    confirm: Option<&'a str>,
    keep_tables: bool,
    request: &'a (dyn Fn(&VersionRow) -> RetireRequest + Sync),
    grace: Duration,
    patience: Duration,
}

impl Ending<'_> {
    async fn carry_out(&self, store: &StoreArgs) -> Result<ExitCode, Failure> {
        let (verb, label) = (self.verb, self.label);
        let session = connect::session(store)?;
        let registry = connect::registry(&session).await?;
        let version = registry.version(label).await?;
        if version.state == VersionState::Dropped {
            println!("{label} is dropped already");
            return Ok(ExitCode::SUCCESS);
        }
        if self.confirm != Some(label) {
            return Err(Failure::new(
                Kind::Refused,
                format!(
                    "{label} is {}; what is dropped comes back by a rebuild only. \
                     To go on: refold {verb} -version {label} -confirm {label}",
                    version.state
                ),
            ));
        }
        let request = (self.request)(&version);
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
            grace: self.grace,
            patience: self.patience,
        };
        let grace = options.grace_of(version.state);
        let (patience, actor) = (self.patience, &request.actor);
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
