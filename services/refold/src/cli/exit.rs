//! Exit codes and the failures behind them.

use std::fmt;
use std::process::ExitCode;

use refold_ports::registry::ReadError;
use refold_ports::registry::RegistryError;
use refold_ports::sink::StoreError;
use refold_ports::source::SourceError;

/// Why a command did not do what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Something failed.
    Error,
    /// A comparison found differences, or a dry run found changes to make.
    Differences,
    /// A gate refused, or a confirmation is missing.
    Refused,
    /// The deadline passed while waiting.
    TimedOut,
    /// The command line is wrong.
    Usage,
    /// Broker, database or api cannot be reached.
    Unreachable,
    /// Interrupted by a signal.
    Interrupted,
}

impl Kind {
    /// The process's exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Error => 1,
            Self::Differences => 2,
            Self::Refused => 3,
            Self::TimedOut => 4,
            Self::Usage => 64,
            Self::Unreachable => 69,
            Self::Interrupted => 130,
        }
    }
}

/// A failure that ends a command: one sentence and an exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Decides the exit code.
    pub kind: Kind,
    /// What, where and what to do.
    pub sentence: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: Kind, sentence: impl Into<String>) -> Self {
        Self {
            kind,
            sentence: sentence.into(),
        }
    }

    /// A wrong flag or argument.
    pub fn usage(sentence: impl Into<String>) -> Self {
        Self::new(Kind::Usage, sentence)
    }

    /// Any other error, with what was being done.
    pub fn error(doing: &str, error: impl fmt::Display) -> Self {
        Self::new(Kind::Error, format!("{doing}: {error}"))
    }

    /// The exit code.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind.code())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        let kind = match &error {
            RegistryError::UnknownVersion(_) | RegistryError::Failed(_) => Kind::Error,
            RegistryError::Unreachable(_) => Kind::Unreachable,
            RegistryError::CodeChanged { .. }
            | RegistryError::LogChanged { .. }
            | RegistryError::GateRefused(_)
            | RegistryError::GenerationChanged { .. }
            | RegistryError::Conflict(_) => Kind::Refused,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        let kind = if error.is_transient() {
            Kind::Unreachable
        } else {
            Kind::Error
        };
        Self::new(kind, error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            StoreError::Disconnected(_) => Kind::Unreachable,
            StoreError::Fenced(_) | StoreError::Refused(_) => Kind::Refused,
            _ => Kind::Error,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let kind = match &error {
            ReadError::BadKey(_) => Kind::Usage,
            ReadError::NoActiveVersion(_) => Kind::Refused,
            ReadError::Unavailable(_) => Kind::Unreachable,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<refold_system::Failure> for Failure {
    fn from(failure: refold_system::Failure) -> Self {
        let kind = match &failure {
            refold_system::Failure::Refused(_) => Kind::Refused,
            refold_system::Failure::Unreachable(_) => Kind::Unreachable,
            _ => Kind::Error,
        };
        Self::new(kind, failure.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Kind::Error, format!("{error:#}"))
    }
}
