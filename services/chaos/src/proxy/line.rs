//! One direction of a connection.

use std::io;
use std::num::NonZeroUsize;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::ReadHalf;
use tokio::net::tcp::WriteHalf;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::Instant;

use super::End;
use super::Harm;

/// Largest piece that is read at once.
const CHUNK: usize = 16 << 10;

/// Pieces that may wait in the delay line: a mebibyte.
const WAITING: usize = 64;

/// What becomes of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on.
    Pass,
    /// It does not, and the connection stays.
    Withhold,
    /// It does not, and the connection is reset.
    Reset,
}

/// The writing end of a direction, and what is done to it.
pub(super) struct Line<'a> {
    harm: watch::Receiver<Harm>,
    to: WriteHalf<'a>,
    /// When the pace allows the next byte.
    free: Instant,
}

impl<'a> Line<'a> {
    pub(super) fn new(harm: &watch::Sender<Harm>, to: WriteHalf<'a>) -> Self {
        Self {
            harm: harm.subscribe(),
            to,
            free: Instant::now(),
        }
    }

    /// Carries what `from` yields until it ends, or until `judge`, which sees every piece when it is
    /// due, says that the connection is to be reset.
    ///
    /// # Errors
    /// When the other side takes nothing any more.
    pub(super) async fn carry(
        &mut self,
        mut from: ReadHalf<'_>,
        judge: &mut (dyn FnMut(&[u8]) -> Verdict + Send),
    ) -> io::Result<End> {
        let (read, mut waiting) = mpsc::channel(WAITING);
        let mut harm = self.harm.clone();
        let reading = async move {
            let mut buffer = vec![0; CHUNK];
            // A hole takes nothing in: the sender is to notice that nobody hears.
            while harm.wait_for(|harm| !harm.hole).await.is_ok() {
                match from.read(&mut buffer).await {
                    // An end and an error mean the same: nothing more comes from there.
                    Ok(0) | Err(_) => return,
                    Ok(n) => {
                        let piece = (Instant::now(), buffer[..n].to_vec());
                        if read.send(piece).await.is_err() {
                            return;
                        }
                    }
                }
            }
        };
        let writing = async {
            while let Some((at, bytes)) = waiting.recv().await {
                self.wait_until_due(at, bytes.len()).await;
                match judge(&bytes) {
                    Verdict::Pass => self.write(&bytes).await?,
                    Verdict::Withhold => {}
                    Verdict::Reset => return Ok(End::Reset),
                }
            }
            Ok(End::Closed)
        };
        tokio::pin!(reading, writing);
        tokio::select! {
            end = &mut writing => end,
            // What was read before the end is still delivered.
            () = &mut reading => writing.await,
        }
    }

    /// Waits as long as the harm of the moment says, also when it changes meanwhile.
    async fn wait_until_due(&mut self, at: Instant, bytes: usize) {
        loop {
            let harm = *self.harm.borrow_and_update();
            let takes = harm.bytes_per_second.map_or(Duration::ZERO, |rate| {
                Duration::from_secs_f64(bytes as f64 / rate.get() as f64)
            });
            let due = (at + harm.latency).max(self.free.max(at) + takes);
            let passes = async {
                match harm.hole {
                    true => std::future::pending().await,
                    false => tokio::time::sleep_until(due).await,
                }
            };
            if due <= Instant::now() && !harm.hole {
                self.free = due;
                return;
            }
            tokio::select! {
                () = passes => {
                    self.free = due;
                    return;
                }
                changed = self.harm.changed() => {
                    // What waited for the old pace does not hold up the new one.
                    self.free = Instant::now();
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let longest = self.harm.borrow().piece.map(NonZeroUsize::get);
        let Some(longest) = longest else {
            return self.to.write_all(bytes).await;
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(fastrand::usize(1..=longest).min(rest.len()));
            self.to.write_all(piece).await?;
            rest = later;
        }
        Ok(())
    }
}
