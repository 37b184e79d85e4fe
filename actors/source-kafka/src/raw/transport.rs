//! Bytes to and from a broker, in the clear or encrypted, with a bound on every wait.

use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::net::ToSocketAddrs as _;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use rustls::ClientConnection;
use rustls::StreamOwned;
use rustls::pki_types::ServerName;
use socket2::Domain;
use socket2::Socket;
use socket2::Type;

use super::fault::Failure;
use super::options::Address;

/// Shortest wait: a socket takes no timeout of zero.
const SHORTEST: Duration = Duration::from_millis(1);

/// Waits that a socket is set to. Rounding down to one of few saves a system
/// call per read; whoever has waited too short waits again.
const WAITS: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_millis(50),
    Duration::from_millis(5),
];

/// A connected socket.
pub(crate) struct Transport {
    channel: Channel,
    /// What the socket's timeout for reading is set to.
    wait: Duration,
}

enum Channel {
    Clear(TcpStream),
    Encrypted(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Transport {
    /// Connects and, with a `tls` configuration, agrees on keys.
    pub(crate) fn connect(
        address: &Address,
        tls: Option<&Arc<rustls::ClientConfig>>,
        receive_buffer: usize,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let socket = dial(address, receive_buffer, deadline)?;
        let channel = match tls {
            None => Channel::Clear(socket),
            Some(config) => {
                Channel::Encrypted(Box::new(encrypt(address, config, socket, deadline)?))
            }
        };
        let mut transport = Self {
            channel,
            wait: Duration::ZERO,
        };
        transport.set_wait(SHORTEST)?;
        Ok(transport)
    }

    fn socket(&self) -> &TcpStream {
        match &self.channel {
            Channel::Clear(socket) => socket,
            Channel::Encrypted(stream) => &stream.sock,
        }
    }

    fn set_wait(&mut self, left: Duration) -> Result<(), Failure> {
        let fitting = WAITS.into_iter().find(|wait| *wait <= left);
        let wait = fitting.unwrap_or(SHORTEST);
        if wait != self.wait {
            self.socket()
                .set_read_timeout(Some(wait))
                .map_err(|error| lost(&error))?;
            self.wait = wait;
        }
        Ok(())
    }

    /// Reads some bytes; `None` when none came, after `left` at most (or 1 ms).
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        left: Duration,
    ) -> Result<Option<usize>, Failure> {
        self.set_wait(left)?;
        let outcome = match &mut self.channel {
            Channel::Clear(socket) => socket.read(buffer),
            Channel::Encrypted(stream) => stream.read(buffer),
        };
        match outcome {
            Ok(0) => Err(Failure::Passing("it closed the connection".to_owned())),
            Ok(count) => Ok(Some(count)),
            Err(error) if is_pause(&error) => Ok(None),
            Err(error) => Err(lost(&error)),
        }
    }

    /// Writes all of a request, which the socket's buffer has room for unless
    /// the broker hangs.
    pub(crate) fn write(&mut self, request: &[u8], left: Duration) -> Result<(), Failure> {
        self.socket()
            .set_write_timeout(Some(left.max(SHORTEST)))
            .map_err(|error| lost(&error))?;
        let outcome = match &mut self.channel {
            Channel::Clear(socket) => socket.write_all(request),
            Channel::Encrypted(stream) => stream.write_all(request).and_then(|()| stream.flush()),
        };
        outcome.map_err(|error| lost(&error))
    }
}

/// Whether a read came to nothing without harm.
fn is_pause(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// The broker's alert is final, because only somebody who changes a
/// certificate can help; everything else may pass.
fn lost(error: &io::Error) -> Failure {
    let inner = error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::AlertReceived(alert)) => Failure::fatal(format!(
            "the broker ends the TLS connection with the alert {alert:?}: \
             check ssl.certificate.location and what the broker trusts"
        )),
        _ => Failure::Passing(format!("the connection failed: {error}")),
    }
}

fn dial(address: &Address, receive_buffer: usize, deadline: Instant) -> Result<TcpStream, Failure> {
    let found = (address.host.as_str(), address.port)
        .to_socket_addrs()
        .map_err(|error| Failure::Passing(format!("its name cannot be resolved: {error}")))?;
    let mut last = Failure::Passing("its name has no address".to_owned());
    for at in found {
        match connect(at, receive_buffer, deadline) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = Failure::Passing(format!("it cannot be connected to: {error}")),
        }
    }
    Err(last)
}

fn connect(at: SocketAddr, receive_buffer: usize, deadline: Instant) -> io::Result<TcpStream> {
    let left = deadline.saturating_duration_since(Instant::now());
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
    // Before connecting: the window's scale is agreed upon then. A system that
    // grants less than was asked for still grants what it can.
    socket.set_recv_buffer_size(receive_buffer)?;
    socket.connect_timeout(&at.into(), left.max(SHORTEST))?;
    let socket = TcpStream::from(socket);
    // A request is one small write, and the next one depends on its answer.
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Agrees on keys; the certificate must be valid for the address's host.
fn encrypt(
    address: &Address,
    config: &Arc<rustls::ClientConfig>,
    mut socket: TcpStream,
    deadline: Instant,
) -> Result<StreamOwned<ClientConnection, TcpStream>, Failure> {
    let name = ServerName::try_from(address.host.clone())
        .map_err(|_| Failure::fatal(format!("{} is no name for a certificate", address.host)))?;
    let mut tls = ClientConnection::new(Arc::clone(config), name)
        .map_err(|error| Failure::fatal(format!("TLS cannot be set up: {error}")))?;
    while tls.is_handshaking() || tls.wants_write() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(hung_up("the TLS handshake takes too long"));
        }
        if tls.wants_write() {
            socket
                .set_write_timeout(Some(left))
                .and_then(|()| tls.write_tls(&mut socket))
                .map_err(|error| hung_up(&format!("the TLS handshake failed: {error}")))?;
            continue;
        }
        let read = socket
            .set_read_timeout(Some(left))
            .and_then(|()| tls.read_tls(&mut socket));
        match read {
            Ok(0) => return Err(hung_up("it closed the connection in the TLS handshake")),
            Ok(_) => {}
            Err(error) if is_pause(&error) => continue,
            Err(error) => return Err(hung_up(&format!("the TLS handshake failed: {error}"))),
        }
        if let Err(error) = tls.process_new_packets() {
            // The alert tells the broker's log why; whether it arrives is no matter.
            let _ = tls.write_tls(&mut socket);
            return Err(distrust(address, &error));
        }
    }
    Ok(StreamOwned::new(tls, socket))
}

fn hung_up(what: &str) -> Failure {
    Failure::Passing(format!("{what} (does this listener speak TLS?)"))
}

fn distrust(address: &Address, error: &rustls::Error) -> Failure {
    match error {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
            Failure::fatal(format!(
                "the certificate of broker {address} is not trusted: {error}; \
                 check ssl.ca.location, and that the certificate names this host"
            ))
        }
        rustls::Error::AlertReceived(_) => Failure::fatal(format!(
            "broker {address} refuses the TLS handshake: {error}; \
             check ssl.certificate.location and what the broker trusts"
        )),
        _ => hung_up(&format!("the TLS handshake failed: {error}")),
    }
}
