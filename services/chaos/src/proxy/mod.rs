//! A TCP proxy that does harm on request, switched while connections are open.
//!
//! ```text
//! client ── up ──> [read | delay line | hole, pace, pieces] ──> server
//!        <─ down ─ [the same]                               <──
//! ```
//! What is read waits in a delay line until it is due, so latency costs no throughput; the line is
//! bounded, so that a peer that does not read holds the other one back, as without a proxy.

mod commit;
mod line;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::commit::Answer;
use self::commit::CommitWatch;
use self::line::Line;
use self::line::Verdict;

/// What is done to everything that passes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Harm {
    /// Nothing passes and no connection is made; what waits goes on when the hole is closed.
    pub hole: bool,
    /// How much later it comes.
    pub latency: Duration,
    /// How much passes in each direction of a connection.
    pub bytes_per_second: Option<NonZeroU64>,
    /// Longest piece that is written at once; pieces are of any length up to it.
    pub piece: Option<NonZeroUsize>,
}

/// Where a connection is reset around its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitCut {
    /// The server never sees the commit.
    Before,
    /// The server has said that the commit is in, and the client does not hear of it.
    AfterCommitted,
}

/// What is spoken through a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Postgres: commits are recognised.
    Postgres,
    /// Anything: bytes.
    Bytes,
}

/// A proxy on loopback. Its connections end with it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

/// What the connections of a proxy share.
#[derive(Debug)]
struct Shared {
    protocol: Protocol,
    upstream: Mutex<Option<String>>,
    harm: watch::Sender<Harm>,
    /// Counts the resets.
    resets: watch::Sender<u64>,
    cut: Mutex<Option<CommitCut>>,
    /// Counts the cuts that were made.
    cuts: AtomicU64,
    open: AtomicU64,
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// One side ended it.
    Closed,
    /// We do, by RST.
    Reset,
}

impl Proxy {
    /// Listens on a free port of loopback. Connections wait until [`Proxy::forward_to`] says where to.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn listen(protocol: Protocol) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            protocol,
            upstream: Mutex::default(),
            harm: watch::Sender::new(Harm::default()),
            resets: watch::Sender::new(0),
            cut: Mutex::default(),
            cuts: AtomicU64::new(0),
            open: AtomicU64::new(0),
        });
        let accepted = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&accepted).serve(client));
            }
        });
        Ok(Self {
            address,
            shared,
            accepting,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where connections that are made from now on lead to: `host:port`.
    pub fn forward_to(&self, upstream: impl Into<String>) {
        *lock(&self.shared.upstream) = Some(upstream.into());
    }

    /// Does harm to everything that passes from now on, or with the default none.
    pub fn harm(&self, harm: Harm) {
        self.shared.harm.send_replace(harm);
    }

    /// Resets every connection that is open, on both sides; tells how many.
    pub fn reset(&self) -> u64 {
        let open = self.shared.open.load(Ordering::Relaxed);
        self.shared.resets.send_modify(|resets| *resets += 1);
        open
    }

    /// Resets the connection that commits next. One that waits for its commit is forgotten.
    pub fn cut_next_commit(&self, cut: CommitCut) {
        *lock(&self.shared.cut) = Some(cut);
    }

    /// How many connections were cut around their commits so far.
    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.reset();
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, mut client: TcpStream) {
        self.open.fetch_add(1, Ordering::Relaxed);
        // A connection that breaks is what this is for.
        drop(self.forward(&mut client).await);
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    async fn forward(&self, client: &mut TcpStream) -> io::Result<()> {
        let mut resets = self.resets.subscribe();
        let mut server = tokio::select! {
            server = self.connect() => server?,
            // One that no server was found for yet is reset as well.
            _ = resets.changed() => return client.set_zero_linger(),
        };
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let watch = (self.protocol == Protocol::Postgres).then(CommitWatch::default);
        let end = {
            let (from_client, to_client) = client.split();
            let (from_server, to_server) = server.split();
            let mut up = Line::new(&self.harm, to_server);
            let mut down = Line::new(&self.harm, to_client);
            tokio::select! {
                _ = resets.changed() => End::Reset,
                end = self.carry_up(from_client, &mut up, watch.as_ref()) => end,
                end = self.carry_down(from_server, &mut down, watch.as_ref()) => end,
            }
        };
        if end == End::Reset {
            client.set_zero_linger()?;
            server.set_zero_linger()?;
        }
        Ok(())
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let mut harm = self.harm.subscribe();
        loop {
            let open = harm.wait_for(|harm| !harm.hole).await;
            open.map_err(io::Error::other)?;
            let upstream = lock(&self.upstream).clone();
            match upstream {
                Some(upstream) => return TcpStream::connect(upstream).await,
                // Nobody knows the server's port before the server is up.
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// From the client to the server, until one of them ends.
    async fn carry_up(
        &self,
        from: tokio::net::tcp::ReadHalf<'_>,
        line: &mut Line<'_>,
        watch: Option<&CommitWatch>,
    ) -> End {
        let mut pass = |bytes: &[u8]| {
            let Some(watch) = watch.filter(|watch| watch.commits(bytes)) else {
                return Verdict::Pass;
            };
            match lock(&self.cut).take() {
                None => Verdict::Pass,
                Some(CommitCut::Before) => {
                    self.cuts.fetch_add(1, Ordering::Relaxed);
                    Verdict::Reset
                }
                Some(CommitCut::AfterCommitted) => {
                    watch.withhold();
                    Verdict::Pass
                }
            }
        };
        match line.carry(from, &mut pass).await {
            Ok(end) => end,
            // The server is gone: what it said last is still on its way down.
            Err(_) => std::future::pending().await,
        }
    }

    /// From the server to the client, until one of them ends.
    async fn carry_down(
        &self,
        from: tokio::net::tcp::ReadHalf<'_>,
        line: &mut Line<'_>,
        watch: Option<&CommitWatch>,
    ) -> End {
        let mut pass = |bytes: &[u8]| {
            let answer = watch.map_or(Answer::Passes, |watch| watch.answers(bytes));
            match answer {
                Answer::Passes => Verdict::Pass,
                Answer::Incomplete => Verdict::Withhold,
                Answer::NotCommitted => Verdict::Reset,
                Answer::Committed => {
                    self.cuts.fetch_add(1, Ordering::Relaxed);
                    Verdict::Reset
                }
            }
        };
        let carried = line.carry(from, &mut pass).await;
        carried.unwrap_or(End::Closed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
