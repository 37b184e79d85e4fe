//! The small HTTP client of the thin commands.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::Method;
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::cli::Failure;
use crate::cli::Kind;

/// An answer with its body: JSON, or a string of what is none, or null when it is empty.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Answer {
    /// The body as it was sent, when it was text.
    pub(crate) fn text(&self) -> String {
        match &self.body {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// The sentence of a problem document, or the body as it is.
    pub(crate) fn problem(&self) -> String {
        let detail = self.body["detail"].as_str();
        let title = self.body["title"].as_str();
        let text = detail.or(title).map(str::to_owned);
        text.unwrap_or_else(|| format!("status {}: {}", self.status, self.body))
    }
}

/// Sends one request and reads the answer within `deadline`.
///
/// # Errors
/// [`Kind::Unreachable`] when nobody answers, [`Kind::TimedOut`] when the answer does not come.
pub(crate) async fn send(
    method: Method,
    uri: &str,
    headers: &[(&str, String)],
    body: Option<Value>,
    deadline: Duration,
) -> Result<Answer, Failure> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let bytes = match &body {
        Some(body) => {
            request = request.header("content-type", "application/json");
            Bytes::from(body.to_string())
        }
        None => Bytes::new(),
    };
    let request = request
        .body(Full::new(bytes))
        .map_err(|error| Failure::usage(format!("{uri} is not an address: {error}")))?;
    let exchange = async {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let answer = client.request(request).await.map_err(|e| e.to_string())?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await;
        let bytes = body.map_err(|e| e.to_string())?.to_bytes();
        let text = || String::from_utf8_lossy(&bytes).into_owned();
        let body = match bytes.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::String(text())),
        };
        Ok::<_, String>(Answer { status, body })
    };
    match tokio::time::timeout(deadline, exchange).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Failure::new(
            Kind::Unreachable,
            format!("{uri} cannot be reached: {error}; is `refold api` running there?"),
        )),
        Err(_) => Err(Failure::new(
            Kind::TimedOut,
            format!("{uri} gave no answer within {} s", deadline.as_secs()),
        )),
    }
}
