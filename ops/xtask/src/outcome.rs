//! How a verb ends.

use std::process::ExitCode;

/// Result of a verb.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Why a verb did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line was wrong; the text says how it is right. Exit code 64.
    Usage(String),
    /// Something did not work or did not pass. Exit code 1.
    Failed(String),
    /// A program that ran in our place ended with this code.
    Exit(i32),
}

impl Failure {
    /// A sentence for a person.
    pub(crate) fn failed(sentence: impl Into<String>) -> Self {
        Self::Failed(sentence.into())
    }

    /// Prints the reason and turns it into the exit code.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::Usage(text) => {
                eprintln!("{}", text.trim_end());
                ExitCode::from(64)
            }
            Self::Failed(text) => {
                eprintln!("error: {text}");
                ExitCode::from(1)
            }
            Self::Exit(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        }
    }
}

impl From<refold_local::Error> for Failure {
    fn from(error: refold_local::Error) -> Self {
        Self::Failed(error.to_string())
    }
}
