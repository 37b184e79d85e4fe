//! What a rebuild may bear on the database.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use refold_domain::duration;
use refold_domain::throttle::Limits;
use refold_domain::throttle::Reason;

use super::Count;

/// The limits of a replay. Over one in bytes it applies nothing until half of it is reached; over the
/// one of the reads it works in a part of the time.
#[derive(Debug, Clone, Args)]
pub struct ThrottleArgs {
    /// Replay only: stand still while a physical standby has more of the write-ahead log to replay
    /// than this, until it has half. 0 or off waits for none. Default: 256MiB.
    #[arg(long, value_name = "BYTES")]
    pub max_replay_lag: Option<Limit>,
    /// Replay only: stand still while a replication slot, in use or not, holds back more of the
    /// write-ahead log than this. 0 or off looks at none. Default: 1GiB.
    #[arg(long, value_name = "BYTES")]
    pub max_slot_wal: Option<Limit>,
    /// Replay only: stand still while pg_wal holds more than this, segments kept to be used again
    /// left out; the role has to be a member of pg_monitor. Set it above max_wal_size, or the replay
    /// waits for each checkpoint. Default: off.
    #[arg(long, value_name = "BYTES")]
    pub max_wal: Option<Limit>,
    /// Replay only: work in a part of the time, a tenth at least, while 1 of 100 reads that an api
    /// answers takes longer than this. 0 or off minds no reads. Default: 250ms.
    #[arg(long, value_name = "DURATION")]
    pub max_read_p99: Option<LongestRead>,
}

impl ThrottleArgs {
    fn given(&self) -> [(Reason, Option<Limit>); 3] {
        [
            (Reason::ReplayLag, self.max_replay_lag),
            (Reason::SlotWal, self.max_slot_wal),
            (Reason::Wal, self.max_wal),
        ]
    }

    /// The flag of a limit that was given, if there is one.
    pub fn first_flag(&self) -> Option<&'static str> {
        let mut given = self.given().into_iter();
        let flag = given.find_map(|(reason, limit)| limit.map(|_| reason.flag()));
        flag.or(self.max_read_p99.map(|_| "-max-read-p99"))
    }

    /// What reads may take, `default` where nothing was given.
    pub fn max_read_p99(&self, default: Option<Duration>) -> Option<Duration> {
        self.max_read_p99.map_or(default, |given| given.0)
    }

    /// The limits, those by default where none was given.
    pub fn limits(&self) -> Limits {
        let given = self.given().into_iter();
        given.fold(Limits::DEFAULT, |limits, (reason, given)| match given {
            Some(limit) => limits.with(reason, limit.0),
            None => limits,
        })
    }
}

/// Bytes, or no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(pub Option<u64>);

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let bytes = text.parse::<Count>();
        let bytes = bytes.map_err(|error| format!("{error}, or off"))?;
        Ok(Self(Some(bytes.0).filter(|bytes| *bytes > 0)))
    }
}

/// A duration, or no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongestRead(pub Option<Duration>);

impl FromStr for LongestRead {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if matches!(text, "off" | "0") {
            return Ok(Self(None));
        }
        let longest = duration::parse(text).map_err(|error| format!("{error}, or off"))?;
        Ok(Self(Some(longest).filter(|longest| !longest.is_zero())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_read_is_a_duration_or_none() {
        let longest = |text: &str| text.parse::<LongestRead>();
        assert_eq!(
            longest("1.5s"),
            Ok(LongestRead(Some(Duration::from_millis(1_500))))
        );
        for none in ["off", "0", "0s"] {
            assert_eq!(longest(none), Ok(LongestRead(None)), "{none}");
        }
        assert!(longest("-1s").is_err_and(|e| e.ends_with("or off")));
    }

    #[test]
    fn a_limit_is_bytes_or_none() {
        assert_eq!("256MiB".parse(), Ok(Limit(Some(256 << 20))));
        assert_eq!("off".parse(), Ok(Limit(None)));
        assert_eq!("0".parse(), Ok(Limit(None)));
        assert!("-1".parse::<Limit>().is_err_and(|e| e.ends_with("or off")));
    }

    #[test]
    fn what_is_given_replaces_the_limit_by_default() {
        let args = ThrottleArgs {
            max_replay_lag: Some(Limit(None)),
            max_slot_wal: None,
            max_wal: Some(Limit(Some(5))),
            max_read_p99: None,
        };
        let default = Some(Duration::from_millis(3));
        assert_eq!(args.max_read_p99(default), default);
        assert_eq!(args.first_flag(), Some("-max-replay-lag"));
        let wanted = Limits::DEFAULT
            .with(Reason::ReplayLag, None)
            .with(Reason::Wal, Some(5));
        assert_eq!(args.limits(), wanted);
        let reads_only = ThrottleArgs {
            max_replay_lag: None,
            max_slot_wal: None,
            max_wal: None,
            max_read_p99: Some(LongestRead(None)),
        };
        assert_eq!(reads_only.first_flag(), Some("-max-read-p99"));
        assert_eq!(reads_only.max_read_p99(default), None);
    }
}
