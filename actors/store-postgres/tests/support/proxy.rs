//! A proxy in front of the server that breaks or holds a connection at its commit.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use refold_ports::conformance::store::Break;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How a writer's commit begins on the wire.
const COMMIT: &[u8] = b"commit; select pg_xact_status";

/// What happens to the next commit.
enum Plan {
    Break(Break),
    /// Tells that it holds the commit, then waits to be let go.
    Hold(oneshot::Sender<()>, oneshot::Receiver<()>),
}

/// The proxy. Connections end with it.
pub(crate) struct Proxy {
    address: String,
    next: Arc<Mutex<Option<Plan>>>,
    accepting: JoinHandle<()>,
}

/// A commit that is held in front of the server.
pub(crate) struct Held {
    holding: oneshot::Receiver<()>,
    go: oneshot::Sender<()>,
}

impl Held {
    /// Waits until a commit arrived, and gives the means to let it go.
    pub(crate) async fn arrived(self) -> oneshot::Sender<()> {
        self.holding.await.expect("a connection met the plan");
        self.go
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    /// Listens on a free port and forwards to `server` (`host:port`).
    pub(crate) async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound port").to_string();
        let next = Arc::new(Mutex::new(None));
        let plan = Arc::clone(&next);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, plan) = (server.clone(), Arc::clone(&plan));
                tokio::spawn(async move {
                    // A connection that breaks is what this is for.
                    drop(forward(client, &server, &plan).await);
                });
            }
        });
        Self {
            address,
            next,
            accepting,
        }
    }

    /// `host:port` to connect to.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Breaks the connection that commits next.
    pub(crate) fn break_next_commit(&self, moment: Break) {
        self.plan(Plan::Break(moment));
    }

    /// Holds the next commit in front of the server, as if its process were stopped.
    pub(crate) fn hold_next_commit(&self) -> Held {
        let (arrived, holding) = oneshot::channel();
        let (go, released) = oneshot::channel();
        self.plan(Plan::Hold(arrived, released));
        Held { holding, go }
    }

    fn plan(&self, plan: Plan) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(plan);
    }
}

async fn forward(
    mut client: TcpStream,
    server: &str,
    next: &Mutex<Option<Plan>>,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (mut up, mut down) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            n = client.read(&mut up) => {
                let sent = &up[..n?];
                let commits = sent.windows(COMMIT.len()).any(|w| w == COMMIT);
                let plan = if commits {
                    next.lock().unwrap_or_else(PoisonError::into_inner).take()
                } else {
                    None
                };
                match plan {
                    None => {}
                    Some(Plan::Break(Break::Before)) => return Ok(()),
                    Some(Plan::Break(Break::After)) => {
                        server.write_all(sent).await?;
                        // The server answers once the commit is durable.
                        server.readable().await?;
                        return Ok(());
                    }
                    Some(Plan::Hold(arrived, released)) => {
                        arrived.send(()).expect("a test waits for it");
                        // A test that ends without letting it go ends the connection, too.
                        if released.await.is_err() {
                            return Ok(());
                        }
                    }
                }
                if sent.is_empty() {
                    return Ok(());
                }
                server.write_all(sent).await?;
            }
            n = server.read(&mut down) => match n? {
                0 => return Ok(()),
                n => client.write_all(&down[..n]).await?,
            },
        }
    }
}
