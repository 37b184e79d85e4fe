//! The proxy between real sockets: what passes is what was sent, and harm is what it says.

use std::num::NonZeroU64;
use std::num::NonZeroUsize;
use std::time::Duration;
use std::time::Instant;

use refold_chaos::CommitCut;
use refold_chaos::Harm;
use refold_chaos::Protocol;
use refold_chaos::Proxy;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

/// Longer than anything here takes when it works.
const BOUND: Duration = Duration::from_secs(20);

/// How long nothing must come through a hole.
const SILENCE: Duration = Duration::from_millis(200);

/// A proxy in front of a server that answers every connection with what it is sent.
async fn echoing(protocol: Protocol) -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let upstream = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                // A connection that is reset is what some tests want.
                drop(tokio::io::copy(&mut from, &mut to).await);
            });
        }
    });
    let proxy = Proxy::listen(protocol).await.expect("a proxy");
    proxy.forward_to(upstream.to_string());
    proxy
}

async fn client(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.expect("connects")
}

/// Sends `bytes` and reads as many back; how long that took.
async fn echo(stream: &mut TcpStream, bytes: &[u8]) -> (Vec<u8>, Duration) {
    let began = Instant::now();
    let (mut from, mut to) = stream.split();
    let mut back = vec![0; bytes.len()];
    let both = async { tokio::try_join!(to.write_all(bytes), from.read_exact(&mut back)) };
    let done = tokio::time::timeout(BOUND, both).await.expect("in time");
    done.expect("an echo");
    (back, began.elapsed())
}

#[tokio::test]
async fn what_passes_is_what_was_sent_under_every_harm_that_lets_it_pass() {
    let proxy = echoing(Protocol::Bytes).await;
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n * 31) as u8).collect();
    let mut stream = client(&proxy).await;
    let fast = Duration::ZERO;
    for (harm, least) in [
        (Harm::default(), fast),
        (
            Harm {
                latency: Duration::from_millis(60),
                ..Harm::default()
            },
            Duration::from_millis(120),
        ),
        (
            Harm {
                bytes_per_second: NonZeroU64::new(400_000),
                ..Harm::default()
            },
            Duration::from_millis(450),
        ),
        (
            Harm {
                piece: NonZeroUsize::new(100),
                ..Harm::default()
            },
            fast,
        ),
    ] {
        proxy.harm(harm);
        let (back, took) = echo(&mut stream, &bytes).await;
        assert!(back == bytes, "{harm:?} changed what passes");
        assert!(took >= least, "{harm:?}: {took:?}");
    }
}

#[tokio::test]
async fn nothing_passes_a_hole_and_what_waited_goes_on_when_it_is_closed() {
    let proxy = echoing(Protocol::Bytes).await;
    let mut before = client(&proxy).await;
    echo(&mut before, b"one").await;
    let hole = Harm {
        hole: true,
        ..Harm::default()
    };
    proxy.harm(hole);
    before.write_all(b"two").await.expect("taken by the kernel");
    let mut during = client(&proxy).await;
    during.write_all(b"six").await.expect("taken by the kernel");
    let mut back = [0; 3];
    for stream in [&mut before, &mut during] {
        let answer = tokio::time::timeout(SILENCE, stream.read_exact(&mut back));
        assert!(answer.await.is_err(), "something passed the hole");
    }
    proxy.harm(Harm::default());
    for (stream, sent) in [(&mut before, b"two"), (&mut during, b"six")] {
        let answer = tokio::time::timeout(BOUND, stream.read_exact(&mut back));
        answer.await.expect("in time").expect("an answer");
        assert_eq!(&back, sent);
    }
}

#[tokio::test]
async fn a_harm_that_ends_lets_go_at_once_what_it_held() {
    let proxy = echoing(Protocol::Bytes).await;
    let mut stream = client(&proxy).await;
    echo(&mut stream, b"connected").await;
    proxy.harm(Harm {
        latency: Duration::from_secs(600),
        bytes_per_second: NonZeroU64::new(1),
        ..Harm::default()
    });
    stream.write_all(b"late").await.expect("written");
    let mut back = [0; 4];
    let answer = tokio::time::timeout(SILENCE, stream.read_exact(&mut back));
    assert!(answer.await.is_err(), "it came at once");
    proxy.harm(Harm::default());
    let answer = tokio::time::timeout(BOUND, stream.read_exact(&mut back));
    answer.await.expect("in time").expect("an answer");
    assert_eq!(&back, b"late");
}

#[tokio::test]
async fn a_reset_is_a_reset_for_the_client_and_the_next_connection_works() {
    let proxy = echoing(Protocol::Bytes).await;
    let mut stream = client(&proxy).await;
    echo(&mut stream, b"connected").await;
    assert_eq!(proxy.reset(), 1);
    let read = tokio::time::timeout(BOUND, stream.read(&mut [0; 1])).await;
    let error = read.expect("in time").expect_err("no end of file");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    echo(&mut client(&proxy).await, b"again").await;
}

/// A start-up message, and a query of this text.
fn session(text: &str) -> Vec<u8> {
    let length = text.len() as u32 + 5;
    let startup = [0, 0, 0, 8, 0, 3, 0, 0].as_slice();
    [startup, b"Q", &length.to_be_bytes(), text.as_bytes(), b"\0"].concat()
}

#[tokio::test]
async fn a_commit_is_cut_before_it_arrives_or_when_its_answer_says_that_it_is_in() {
    // The echo of the query is an answer that holds the tag.
    for (cut, answered) in [
        (CommitCut::Before, "commit"),
        (CommitCut::AfterCommitted, "commit; COMMIT"),
    ] {
        let proxy = echoing(Protocol::Postgres).await;
        proxy.cut_next_commit(cut);
        let mut other = client(&proxy).await;
        echo(&mut other, &session("select 1")).await;
        let mut stream = client(&proxy).await;
        stream.write_all(&session(answered)).await.expect("written");
        let read = tokio::time::timeout(BOUND, stream.read(&mut [0; 64])).await;
        let error = read.expect("in time").expect_err("no answer");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{cut:?}");
        assert_eq!(proxy.cuts(), 1, "{cut:?}");
        // Only one was asked for.
        echo(&mut other, b"Q\0\0\0\x0bcommit\0").await;
    }
}
