//! One connection to one broker: frames, versions, logging in.
//!
//! One request is on its way at a time. The answer may be collected much
//! later: meanwhile it waits in the broker and in the socket's buffer.

use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;

use super::fault;
use super::fault::Failure;
use super::frame::Inbox;
use super::login;
use super::message::Api;
use super::message::ApiVersions;
use super::message::Request;
use super::message::SpokenVersion;
use super::options::Address;
use super::options::Options;
use super::transport::Transport;
use super::wire::Reader;
use super::wire::Writer;

/// Room in the kernel for what arrives while the last answer is worked on:
/// about one answer, so that the broker has sent all of it by then.
const RECEIVE_BUFFER: usize = 1 << 20;

/// A connection that is logged in and knows which versions the broker speaks.
pub(crate) struct Connection {
    transport: Transport,
    address: Address,
    client_id: String,
    spoken: Vec<SpokenVersion>,
    inbox: Inbox,
    next_id: i32,
    waiting: Option<Waiting>,
}

/// A request whose answer is not here yet.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    id: i32,
    tagged_header: bool,
    /// When something was last heard of the broker.
    heard: Instant,
}

impl Connection {
    /// Connects to a broker and logs in.
    pub(crate) fn open(
        address: &Address,
        options: &Options,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let at = |failure| match failure {
            Failure::Passing(what) => Failure::Passing(format!("broker {address}: {what}")),
            failure => failure,
        };
        let tls = options.tls.as_ref();
        let transport = Transport::connect(address, tls, RECEIVE_BUFFER, deadline).map_err(at)?;
        let mut connection = Self {
            transport,
            address: address.clone(),
            client_id: options.client_id.clone(),
            spoken: vec![(ApiVersions::API.key, 0, 0)],
            inbox: Inbox::new(options.frame_bytes),
            next_id: 0,
            waiting: None,
        };
        let (code, spoken) = connection.ask(&ApiVersions, deadline)?;
        if code != 0 {
            return Err(at(Failure::Passing(format!(
                "it does not say what it speaks: {}",
                fault::describe(code)
            ))));
        }
        connection.spoken = spoken;
        if let Some(credentials) = &options.login {
            login::log_in(&mut connection, credentials, deadline)?;
        }
        Ok(connection)
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// The version for a kind of request: the highest that both sides speak,
    /// and that is not above `ceiling`.
    pub(crate) fn version(&self, api: Api, ceiling: i16) -> Result<i16, Failure> {
        let spoken = self.spoken.iter().find(|(key, ..)| *key == api.key);
        let fitting = spoken.and_then(|(_, min, max)| {
            let version = api.max.min(*max).min(ceiling);
            (version >= api.min.max(*min)).then_some(version)
        });
        fitting.ok_or_else(|| {
            Failure::fatal(format!(
                "broker {} speaks none of the versions {} to {} of {}: \
                 read with -bulk-client=librdkafka",
                self.address, api.min, api.max, api.name
            ))
        })
    }

    /// Sends a request whose answer is collected by [`Connection::poll`].
    pub(crate) fn send<R: Request>(
        &mut self,
        request: &R,
        version: i16,
        left: Duration,
    ) -> Result<(), Failure> {
        debug_assert!(self.waiting.is_none(), "one request at a time");
        let flexible = R::API.is_flexible(version);
        self.next_id = self.next_id.wrapping_add(1);
        let mut out = Writer::frame(flexible);
        out.int16(R::API.key);
        out.int16(version);
        out.int32(self.next_id);
        out.short_string(&self.client_id);
        out.end();
        request.write(&mut out, version);
        self.transport
            .write(&out.finish(), left)
            .map_err(|failure| self.at(failure))?;
        self.waiting = Some(Waiting {
            id: self.next_id,
            tagged_header: flexible,
            heard: Instant::now(),
        });
        Ok(())
    }

    /// The answer's body, once all of it is here; `None` when `until` is over
    /// before. What has come meanwhile is kept.
    pub(crate) fn poll(&mut self, until: Instant) -> Result<Option<Reader>, Failure> {
        let Some(mut waiting) = self.waiting else {
            return Ok(None);
        };
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.inbox.pull(&mut self.transport, left) {
                Err(failure) => return Err(self.at(failure)),
                Ok(Some(frame)) => {
                    self.waiting = None;
                    return self.open_frame(frame, waiting).map(Some);
                }
                Ok(None) => {}
            }
            if self.inbox.take_progress() {
                waiting.heard = Instant::now();
                self.waiting = Some(waiting);
            }
            if Instant::now() >= until {
                return Ok(None);
            }
        }
    }

    fn open_frame(&self, frame: Bytes, waiting: Waiting) -> Result<Reader, Failure> {
        let odd = |what| self.at(Failure::from(what));
        let mut body = Reader::new(frame, waiting.tagged_header);
        if body.int32().map_err(odd)? != waiting.id {
            let what = "it answers another request than the one that was sent";
            return Err(self.at(Failure::Passing(what.to_owned())));
        }
        body.end().map_err(odd)?;
        Ok(body)
    }

    /// For how long the broker has owed an answer and said nothing.
    pub(crate) fn silence(&self) -> Duration {
        self.waiting
            .map_or(Duration::ZERO, |waiting| waiting.heard.elapsed())
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn ask<R: Request>(
        &mut self,
        request: &R,
        deadline: Instant,
    ) -> Result<R::Answer, Failure> {
        let version = self.version(R::API, i16::MAX)?;
        let left = deadline.saturating_duration_since(Instant::now());
        self.send(request, version, left)?;
        match self.poll(deadline)? {
            Some(mut body) => {
                R::read(&mut body, version).map_err(|error| self.at(Failure::from(error)))
            }
            None => Err(self.at(Failure::Passing(format!(
                "it does not answer a {} request in time",
                R::API.name
            )))),
        }
    }

    fn at(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Passing(what) => Failure::Passing(format!("broker {}: {what}", self.address)),
            failure => failure,
        }
    }
}
