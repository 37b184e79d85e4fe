//! The SCRAM exchange (RFC 5802, RFC 7677) from the client's side. Both sides
//! prove that they know the password; nobody sends it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use ring::hmac;
use ring::pbkdf2;

/// Rounds that a server may ask for: below, a stolen password file is too
/// cheap to search; above, a hostile server keeps this client busy.
const ROUNDS: std::ops::RangeInclusive<u32> = 4_096..=2_000_000;

/// The hash of the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        }
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }
}

/// An exchange after its first message.
pub(crate) struct Exchange<'a> {
    hash: Hash,
    password: &'a str,
    nonce: String,
    first_bare: String,
}

/// An exchange that waits for the server's proof.
pub(crate) struct Proof {
    server_key: hmac::Key,
    dialogue: String,
}

impl<'a> Exchange<'a> {
    /// Begins with a nonce that nobody can guess and that has no comma.
    pub(crate) fn begin(hash: Hash, username: &str, password: &'a str, nonce: String) -> Self {
        let name = username.replace('=', "=3D").replace(',', "=2C");
        Self {
            hash,
            password,
            first_bare: format!("n={name},r={nonce}"),
            nonce,
        }
    }

    /// The first message: no channel is bound.
    pub(crate) fn first(&self) -> String {
        format!("n,,{}", self.first_bare)
    }

    /// Answers the server's first message.
    ///
    /// # Errors
    /// One sentence, when the message is not one of this exchange.
    pub(crate) fn prove(self, server_first: &[u8]) -> Result<(String, Proof), String> {
        let text = std::str::from_utf8(server_first).map_err(|_| "it is not text".to_owned())?;
        let nonce = field(text, "r").ok_or("it has no nonce")?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("its nonce does not continue this client's".to_owned());
        }
        let salt = field(text, "s").ok_or("it has no salt")?;
        let salt = STANDARD.decode(salt).map_err(|_| "its salt is no base64")?;
        let rounds: u32 = field(text, "i")
            .and_then(|rounds| rounds.parse().ok())
            .ok_or("it has no round count")?;
        if !ROUNDS.contains(&rounds) {
            return Err(format!(
                "it wants {rounds} rounds, not {} to {}",
                ROUNDS.start(),
                ROUNDS.end()
            ));
        }
        let rounds = std::num::NonZeroU32::new(rounds).ok_or("it wants no rounds")?;

        let mut salted = vec![0; self.hash.digest().output_len()];
        pbkdf2::derive(
            self.hash.pbkdf2(),
            rounds,
            &salt,
            self.password.as_bytes(),
            &mut salted,
        );
        let salted = hmac::Key::new(self.hash.hmac(), &salted);
        let client_key = hmac::sign(&salted, b"Client Key");
        let stored_key = digest::digest(self.hash.digest(), client_key.as_ref());
        let last_bare = format!("c=biws,r={nonce}");
        let dialogue = format!("{},{text},{last_bare}", self.first_bare);
        let stored_key = hmac::Key::new(self.hash.hmac(), stored_key.as_ref());
        let signature = hmac::sign(&stored_key, dialogue.as_bytes());
        let proof: Vec<u8> = client_key
            .as_ref()
            .iter()
            .zip(signature.as_ref())
            .map(|(key, mask)| key ^ mask)
            .collect();
        let server_key = hmac::sign(&salted, b"Server Key");
        let proof = format!("{last_bare},p={}", STANDARD.encode(proof));
        let server_key = hmac::Key::new(self.hash.hmac(), server_key.as_ref());
        Ok((
            proof,
            Proof {
                server_key,
                dialogue,
            },
        ))
    }
}

impl Proof {
    /// Checks that the server knows the password, too.
    ///
    /// # Errors
    /// One sentence, when it does not show that it does.
    pub(crate) fn check(self, server_last: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(server_last).map_err(|_| "it is not text".to_owned())?;
        if let Some(error) = field(text, "e") {
            return Err(format!("it reports the error {error}"));
        }
        let signature = field(text, "v").ok_or("it has no signature")?;
        let signature = STANDARD
            .decode(signature)
            .map_err(|_| "its signature is no base64")?;
        hmac::verify(&self.server_key, self.dialogue.as_bytes(), &signature)
            .map_err(|_| "its signature is wrong: it does not know the password".to_owned())
    }
}

/// The value of `name=` in a message.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.split(',')
        .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                                s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn begin() -> Exchange<'static> {
        Exchange::begin(Hash::Sha256, "user", "pencil", NONCE.to_owned())
    }

    #[test]
    fn the_example_of_the_standard_is_reproduced() {
        let exchange = begin();
        assert_eq!(exchange.first(), format!("n,,n=user,r={NONCE}"));
        let (last, proof) = exchange
            .prove(SERVER_FIRST.as_bytes())
            .expect("a legal message");
        assert_eq!(
            last,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        let server_last = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(proof.check(server_last), Ok(()));
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_found_out() {
        for last in [
            "v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            "v=",
            "e=other-error",
            "",
        ] {
            let (_, proof) = begin()
                .prove(SERVER_FIRST.as_bytes())
                .expect("a legal message");
            assert!(proof.check(last.as_bytes()).is_err(), "{last}");
        }
    }

    #[test]
    fn a_message_of_another_exchange_or_with_absurd_rounds_is_refused() {
        for message in [
            "r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".to_owned(),
            format!("r={NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"),
            SERVER_FIRST.replace("4096", "1"),
            SERVER_FIRST.replace("4096", "4000000000"),
            SERVER_FIRST.replace("s=", "t="),
        ] {
            assert!(begin().prove(message.as_bytes()).is_err(), "{message}");
        }
    }

    #[test]
    fn a_name_cannot_break_out_of_its_field() {
        let exchange = Exchange::begin(Hash::Sha512, "a=b,c", "p", "n".to_owned());
        assert_eq!(exchange.first(), "n,,n=a=3Db=2Cc,r=n");
    }
}
