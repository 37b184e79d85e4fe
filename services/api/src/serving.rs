//! Running a server until it is told to stop, and letting open requests finish.

use std::future::Future;
use std::io;
use std::time::Duration;

use poem::Endpoint;
use poem::Server;
use poem::listener::TcpAcceptor;
use tokio::net::TcpListener;

/// How a server stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainOptions {
    /// Time between `/readyz` saying 503 and the listener closing, so that a load
    /// balancer can look away first. 0 where nobody balances.
    pub announce: Duration,
    /// How long open requests may take after that; then they are cut.
    pub finish: Duration,
}

impl Default for DrainOptions {
    /// No announcement, 8 s for open requests: a read that wants its own write back may wait
    /// 5 s for it, and a read has a deadline of 2 s.
    fn default() -> Self {
        Self {
            announce: Duration::ZERO,
            finish: Duration::from_secs(8),
        }
    }
}

pub(crate) async fn run<E>(
    listener: TcpListener,
    endpoint: E,
    shutdown: impl Future<Output = ()> + Send,
    drain: DrainOptions,
) -> io::Result<()>
where
    E: Endpoint + 'static,
{
    let acceptor = TcpAcceptor::from_tokio(listener)?;
    Server::new_with_acceptor(acceptor)
        .run_with_graceful_shutdown(endpoint, shutdown, Some(drain.finish))
        .await
}
