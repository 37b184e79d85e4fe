//! A commit that is believed only when the server says so, and that waits for a synchronous
//! standby no longer than it may.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use refold_ports::sink::StoreError;
use tokio_postgres::NoTls;
use tokio_postgres::SimpleQueryMessage;

use crate::session::Session;

/// What became of a transaction.
const OUTCOME: &str = "select pg_xact_status($1::text::xid8)";

/// What is known of a commit that is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Commit {
    /// The server waited for a synchronous standby no longer, because it was told to by us or by
    /// somebody else. Other sessions see the commit; a standby that takes over may not have it.
    pub(crate) standby_given_up: bool,
    /// We asked for a cancel, which may come late and hit whatever the session does next: the
    /// session must not be used again.
    pub(crate) cancelled: bool,
}

impl Session {
    /// Commits the transaction `xid` and returns `Ok` only when it is in.
    ///
    /// On an aborted transaction the server answers `commit` with the tag
    /// ROLLBACK and no error, and the client library hides the tag. The
    /// transaction's own status, asked for in the same message, cannot be mistaken.
    pub(crate) async fn commit(&self, xid: &str) -> Result<(), StoreError> {
        let commit = commit_of(xid)?;
        let answer = self.within("commit", self.client().simple_query(&commit));
        self.settle(answer.await, xid).await
    }

    /// Commits as [`Session::commit`] does, and gives the wait for a synchronous standby up after
    /// `patience`, which has to be shorter than the session's deadline: the server then says
    /// whether it is in, where it could otherwise say nothing. No time-out of the server reaches
    /// a commit, so it is cancelled.
    pub(crate) async fn commit_within(
        &self,
        xid: &str,
        patience: Duration,
    ) -> Result<Commit, StoreError> {
        let commit = commit_of(xid)?;
        self.standby_given_up.store(false, Ordering::Release);
        let mut answer = pin!(self.within("commit", self.client().simple_query(&commit)));
        let in_time = tokio::time::timeout(patience, answer.as_mut()).await;
        let cancelled = in_time.is_err();
        let answer = match in_time {
            Ok(answer) => answer,
            Err(_) => {
                let token = self.client().cancel_token();
                let asked = tokio::time::timeout(patience, token.cancel_query(NoTls)).await;
                tracing::debug!(?asked, "a commit waits for a standby and is cancelled");
                answer.await
            }
        };
        self.settle(answer, xid).await?;
        Ok(Commit {
            standby_given_up: self.standby_given_up.load(Ordering::Acquire),
            cancelled,
        })
    }

    /// What the answer to a commit says.
    async fn settle(
        &self,
        answer: Result<Vec<SimpleQueryMessage>, StoreError>,
        xid: &str,
    ) -> Result<(), StoreError> {
        let mut refusal = None;
        let status: Option<String> = match answer {
            // A cancel that comes when the commit is through hits the question behind it. The
            // server is there and can be asked again.
            Err(error @ (StoreError::Retry(_) | StoreError::Refused(_))) => {
                refusal = Some(error);
                let what = "ask for the commit's outcome";
                let again = self.one_typed(what, OUTCOME, &[&xid]).await;
                let unknown = |error: StoreError| StoreError::Disconnected(error.to_string());
                again.map_err(unknown)?.try_get(0).ok()
            }
            answer => answer?.iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            }),
        };
        match status.as_deref() {
            Some("committed") => Ok(()),
            Some("aborted") => Err(refusal.unwrap_or_else(|| {
                StoreError::Retry("the server answered the commit with a rollback".to_owned())
            })),
            other => Err(StoreError::Disconnected(format!(
                "the commit's outcome is {}",
                other.unwrap_or("unknown")
            ))),
        }
    }
}

/// Commits `xid` and asks what became of it.
fn commit_of(xid: &str) -> Result<String, StoreError> {
    // The id comes from the server; it is parsed so that nothing else can be in the text.
    let xid: u64 = xid
        .parse()
        .map_err(|_| StoreError::Refused(format!("{xid:?} is no transaction id")))?;
    Ok(format!("commit; select pg_xact_status('{xid}')"))
}
