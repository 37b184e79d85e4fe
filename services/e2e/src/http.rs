//! A client for one request: method, headers and body in; status, headers and body out.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// A promotion may wait for its barrier.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// The value of a header, `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The body as a problem document of this code.
    ///
    /// # Panics
    /// When it is another answer.
    pub fn problem(&self, code: &str) -> Value {
        let kind = self.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], self.status, "{problem}");
        problem
    }
}

/// Sends one request in HTTP/1.0, so that the body ends with the connection.
///
/// # Errors
/// When the server cannot be reached or does not answer in HTTP.
pub fn send(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> io::Result<Reply> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    let body = body.map(Value::to_string).unwrap_or_default();
    if !body.is_empty() {
        let length = body.len();
        request.push_str("Content-Type: application/json\r\n");
        request.push_str(&format!("Content-Length: {length}\r\n"));
    }
    stream.write_all(format!("{request}\r\n{body}").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    parse(&answer).ok_or_else(|| io::Error::other(format!("no HTTP: {answer:?}")))
}

fn parse(answer: &str) -> Option<Reply> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?;
    let headers = lines.filter_map(|line| line.split_once(':'));
    Some(Reply {
        status: status.split(' ').nth(1)?.parse().ok()?,
        headers: headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect(),
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_headers_and_body_are_taken_apart() {
        let reply = parse("HTTP/1.1 412 Precondition Failed\r\nETag: \"gen-2\"\r\n\r\n{}");
        let reply = reply.expect("an answer");
        assert_eq!((reply.status, reply.body.as_str()), (412, "{}"));
        assert_eq!(reply.header("etag"), Some("\"gen-2\""));
        assert_eq!(parse("SSH-2.0-x\r\n\r\n"), None);
    }
}
