//! Logging in to a broker by SASL.

use std::fmt;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::rand::SecureRandom as _;
use ring::rand::SystemRandom;

use super::connection::Connection;
use super::fault;
use super::fault::Failure;
use super::message::SaslAuthenticate;
use super::message::SaslHandshake;
use super::scram::Exchange;
use super::scram::Hash;

/// How a client proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mechanism {
    Plain,
    Scram(Hash),
}

impl Mechanism {
    /// The mechanism by its registered name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "PLAIN" => Some(Self::Plain),
            "SCRAM-SHA-256" => Some(Self::Scram(Hash::Sha256)),
            "SCRAM-SHA-512" => Some(Self::Scram(Hash::Sha512)),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Scram(Hash::Sha256) => "SCRAM-SHA-256",
            Self::Scram(Hash::Sha512) => "SCRAM-SHA-512",
        }
    }
}

/// Who this client is.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) mechanism: Mechanism,
    pub(crate) username: String,
    pub(crate) password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("mechanism", &self.mechanism)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// Logs in on a fresh connection.
pub(crate) fn log_in(
    connection: &mut Connection,
    credentials: &Credentials,
    deadline: Instant,
) -> Result<(), Failure> {
    let mechanism = credentials.mechanism.name();
    let (code, taken) = connection.ask(&SaslHandshake { mechanism }, deadline)?;
    if code != 0 {
        return Err(Failure::fatal(format!(
            "broker {} does not take sasl.mechanism {mechanism} but {}: {}",
            connection.address(),
            taken.join(", "),
            fault::describe(code)
        )));
    }
    match credentials.mechanism {
        Mechanism::Plain => {
            let token = format!("\0{}\0{}", credentials.username, credentials.password);
            step(connection, token.as_bytes(), deadline).map(|_| ())
        }
        Mechanism::Scram(hash) => scram(connection, credentials, hash, deadline),
    }
}

fn scram(
    connection: &mut Connection,
    credentials: &Credentials,
    hash: Hash,
    deadline: Instant,
) -> Result<(), Failure> {
    let mut nonce = [0; 24];
    SystemRandom::new()
        .fill(&mut nonce)
        .map_err(|_| Failure::fatal("this machine gives no random bytes for a SCRAM nonce"))?;
    let exchange = Exchange::begin(
        hash,
        &credentials.username,
        &credentials.password,
        STANDARD_NO_PAD.encode(nonce),
    );
    let at = connection.address().to_string();
    let odd = |reason: String| {
        Failure::fatal(format!(
            "the SCRAM message of broker {at} is refused: {reason}"
        ))
    };
    let server_first = step(connection, exchange.first().as_bytes(), deadline)?;
    let (last, proof) = exchange.prove(&server_first).map_err(&odd)?;
    let server_last = step(connection, last.as_bytes(), deadline)?;
    proof.check(&server_last).map_err(odd)
}

/// One message there and one back.
fn step(
    connection: &mut Connection,
    token: &[u8],
    deadline: Instant,
) -> Result<bytes::Bytes, Failure> {
    let answer = connection.ask(&SaslAuthenticate { token }, deadline)?;
    if answer.code == 0 {
        return Ok(answer.token);
    }
    let reason = answer.reason.unwrap_or_default();
    Err(Failure::fatal(format!(
        "broker {} does not let this client in ({reason}): {}",
        connection.address(),
        fault::describe(answer.code)
    )))
}
