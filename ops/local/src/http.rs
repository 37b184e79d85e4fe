//! The smallest HTTP client that can ask a local server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::{Error, Result};

const PATIENCE: Duration = Duration::from_secs(30);

/// `GET http://{address}{path}` in HTTP/1.0, so that the body ends with the connection.
/// Returns the status code and the body.
///
/// # Errors
/// When the server cannot be reached, does not answer within 30 seconds, or answers something
/// that is not HTTP.
pub fn get(address: &str, path: &str) -> Result<(u16, String)> {
    let failed = |e| Error::io(format_args!("GET http://{address}{path}"), &e);
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream
        .write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())
        .map_err(failed)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(failed)?;
    parse(&String::from_utf8_lossy(&answer))
        .ok_or_else(|| Error::new(format!("http://{address}{path} did not answer in HTTP")))
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head
        .strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    Some((status, body.to_owned()))
}

/// Percent-encodes everything but unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_taken_apart() {
        let answer = "HTTP/1.0 404 Not Found\r\nA: b\r\n\r\nnothing\r\n\r\nhere";
        let expected = Some((404, "nothing\r\n\r\nhere".to_owned()));
        assert_eq!(parse(answer), expected);
        assert_eq!(parse("SSH-2.0-x\r\n\r\n"), None);
    }

    #[test]
    fn an_expression_is_safe_in_a_query_string() {
        assert_eq!(
            encode("rate(a{b=\"c\"}[1m])"),
            "rate%28a%7Bb%3D%22c%22%7D%5B1m%5D%29"
        );
    }
}
