//! The requests that the raw reader sends and the answers that it reads.
//!
//! Versions reach from Kafka 2.3 to 4.x. From fetch 13 on a topic goes by its
//! id, so that one which was created again under its name is noticed by the
//! broker itself.

use bytes::Bytes;

use super::unpack::AbortedTransaction;
use super::wire::Malformed;
use super::wire::Reader;
use super::wire::Writer;

/// A topic's id; all zeros when the broker gives none.
pub(crate) type TopicId = [u8; 16];

/// The id of a topic that has none.
pub(crate) const NO_ID: TopicId = [0; 16];

/// Highest fetch version that goes by the topic's name.
pub(crate) const FETCH_BY_NAME: i16 = 12;

/// The isolation level "read committed" on the wire.
const READ_COMMITTED: i8 = 1;

/// "Not a replica": the id of a client.
const CONSUMER: i32 = -1;

/// No leader epoch is known.
pub(crate) const NO_EPOCH: i32 = -1;

/// What the broker says of a kind of request: its key and the versions of both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Api {
    pub(crate) key: i16,
    pub(crate) name: &'static str,
    /// Lowest and highest version that this client speaks.
    pub(crate) min: i16,
    pub(crate) max: i16,
    /// First version in the flexible encoding; above `max` if none is.
    flexible: i16,
}

impl Api {
    pub(crate) fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible
    }
}

/// A request and how its answer is read.
pub(crate) trait Request {
    const API: Api;
    type Answer;

    fn write(&self, out: &mut Writer, version: i16);

    fn read(body: &mut Reader, version: i16) -> Result<Self::Answer, Malformed>;
}

/// Asks which versions a broker speaks. Version 0, which every broker answers.
#[derive(Debug)]
pub(crate) struct ApiVersions;

/// Key, lowest and highest version of a kind of request.
pub(crate) type SpokenVersion = (i16, i16, i16);

impl Request for ApiVersions {
    const API: Api = Api {
        key: 18,
        name: "ApiVersions",
        min: 0,
        max: 0,
        flexible: 3,
    };
    /// Error code, and the versions.
    type Answer = (i16, Vec<SpokenVersion>);

    fn write(&self, _out: &mut Writer, _version: i16) {}

    fn read(body: &mut Reader, _version: i16) -> Result<Self::Answer, Malformed> {
        let code = body.int16()?;
        let versions = body.array(|entry| Ok((entry.int16()?, entry.int16()?, entry.int16()?)))?;
        Ok((code, versions))
    }
}

/// Asks where a topic's partitions are led.
#[derive(Debug)]
pub(crate) struct Metadata<'a> {
    pub(crate) topic: &'a str,
}

/// A broker's address as the cluster advertises it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broker {
    pub(crate) node: i32,
    pub(crate) host: String,
    pub(crate) port: i32,
}

/// Where a partition is led.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionLeader {
    pub(crate) code: i16,
    pub(crate) partition: i32,
    pub(crate) node: i32,
    pub(crate) epoch: i32,
}

/// What a broker knows of the one topic that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicMetadata {
    pub(crate) code: i16,
    pub(crate) name: String,
    pub(crate) id: TopicId,
    pub(crate) partitions: Vec<PartitionLeader>,
}

/// What a broker knows of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClusterMetadata {
    pub(crate) brokers: Vec<Broker>,
    pub(crate) cluster_id: Option<String>,
    pub(crate) topics: Vec<TopicMetadata>,
}

impl Request for Metadata<'_> {
    const API: Api = Api {
        key: 3,
        name: "Metadata",
        min: 7,
        max: 12,
        flexible: 9,
    };
    type Answer = ClusterMetadata;

    fn write(&self, out: &mut Writer, version: i16) {
        out.array(1);
        if version >= 10 {
            out.uuid(NO_ID);
        }
        out.string(self.topic);
        out.end();
        // A misspelt topic must be reported as missing, not be created empty.
        out.boolean(false);
        if (8..=10).contains(&version) {
            out.boolean(false);
        }
        if version >= 8 {
            out.boolean(false);
        }
        out.end();
    }

    fn read(body: &mut Reader, version: i16) -> Result<Self::Answer, Malformed> {
        let _throttle_ms = body.int32()?;
        let brokers = body.array(|entry| {
            let broker = Broker {
                node: entry.int32()?,
                host: entry.string()?,
                port: entry.int32()?,
            };
            let _rack = entry.nullable_string()?;
            entry.end()?;
            Ok(broker)
        })?;
        let cluster_id = body.nullable_string()?;
        let _controller = body.int32()?;
        let topics = body.array(|entry| read_topic(entry, version))?;
        Ok(ClusterMetadata {
            brokers,
            cluster_id,
            topics,
        })
    }
}

fn read_topic(entry: &mut Reader, version: i16) -> Result<TopicMetadata, Malformed> {
    let code = entry.int16()?;
    let name = entry.string()?;
    let id = match version {
        10.. => entry.uuid()?,
        _ => NO_ID,
    };
    let _internal = entry.int8()?;
    let partitions = entry.array(|entry| {
        let leader = PartitionLeader {
            code: entry.int16()?,
            partition: entry.int32()?,
            node: entry.int32()?,
            epoch: entry.int32()?,
        };
        for _replicas_in_sync_offline in 0..3 {
            entry.array(Reader::int32)?;
        }
        entry.end()?;
        Ok(leader)
    })?;
    if version >= 8 {
        let _authorized_operations = entry.int32()?;
    }
    entry.end()?;
    Ok(TopicMetadata {
        code,
        name,
        id,
        partitions,
    })
}

/// An end of a partition's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The first offset still in the log.
    Low,
    /// The last stable offset.
    High,
}

/// Asks a partition's leader for an end of its log.
#[derive(Debug)]
pub(crate) struct ListOffsets<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) epoch: i32,
    pub(crate) end: End,
}

impl Request for ListOffsets<'_> {
    const API: Api = Api {
        key: 2,
        name: "ListOffsets",
        min: 4,
        max: 7,
        flexible: 6,
    };
    /// Error code and offset.
    type Answer = (i16, i64);

    fn write(&self, out: &mut Writer, _version: i16) {
        out.int32(CONSUMER);
        out.int8(READ_COMMITTED);
        out.array(1);
        out.string(self.topic);
        out.array(1);
        out.int32(self.partition);
        out.int32(self.epoch);
        out.int64(match self.end {
            End::Low => -2,
            End::High => -1,
        });
        out.end();
        out.end();
        out.end();
    }

    fn read(body: &mut Reader, _version: i16) -> Result<Self::Answer, Malformed> {
        let _throttle_ms = body.int32()?;
        let topics = body.array(|entry| {
            let _name = entry.string()?;
            let partitions = entry.array(|entry| {
                let _partition = entry.int32()?;
                let code = entry.int16()?;
                let _timestamp = entry.int64()?;
                let offset = entry.int64()?;
                let _epoch = entry.int32()?;
                entry.end()?;
                Ok((code, offset))
            })?;
            entry.end()?;
            Ok(partitions)
        })?;
        let first = topics.into_iter().flatten().next();
        first.ok_or(Malformed("it names no partition"))
    }
}

/// Fetches records of one partition. Outside any fetch session: with one
/// partition a session saves nothing.
#[derive(Debug, Clone)]
pub(crate) struct Fetch<'a> {
    pub(crate) topic: &'a str,
    pub(crate) topic_id: TopicId,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// Epoch of the leader that is asked.
    pub(crate) leader_epoch: i32,
    /// Epoch of the last batch that was fetched: the leader says if its log has another history.
    pub(crate) last_epoch: i32,
    pub(crate) max_wait_ms: i32,
    pub(crate) max_bytes: i32,
}

/// What a leader answers for the one partition.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) throttle_ms: i32,
    /// The first error code that is not 0, of the answer or of the partition.
    pub(crate) code: i16,
    pub(crate) high_watermark: i64,
    /// The last stable offset; -1 with an error.
    pub(crate) last_stable: i64,
    pub(crate) aborted: Vec<AbortedTransaction>,
    /// Where the leader's log parts from what was fetched, if it does.
    pub(crate) diverges_at: Option<i64>,
    pub(crate) records: Bytes,
}

impl Request for Fetch<'_> {
    const API: Api = Api {
        key: 1,
        name: "Fetch",
        min: 11,
        max: 17,
        flexible: 12,
    };
    type Answer = Fetched;

    fn write(&self, out: &mut Writer, version: i16) {
        if version <= 14 {
            out.int32(CONSUMER);
        }
        out.int32(self.max_wait_ms);
        // An answer as soon as there is anything.
        out.int32(1);
        out.int32(self.max_bytes);
        out.int8(READ_COMMITTED);
        // No session.
        out.int32(0);
        out.int32(-1);
        out.array(1);
        if version > FETCH_BY_NAME {
            out.uuid(self.topic_id);
        } else {
            out.string(self.topic);
        }
        out.array(1);
        out.int32(self.partition);
        out.int32(self.leader_epoch);
        out.int64(self.offset);
        if version >= 12 {
            out.int32(self.last_epoch);
        }
        // The log start of a follower, which this client is not.
        out.int64(-1);
        out.int32(self.max_bytes);
        out.end();
        out.end();
        // No partition leaves a session, and no rack is preferred.
        out.array(0);
        out.string("");
        out.end();
    }

    fn read(body: &mut Reader, version: i16) -> Result<Self::Answer, Malformed> {
        let throttle_ms = body.int32()?;
        let code = body.int16()?;
        let _session = body.int32()?;
        let topics = body.array(|entry| {
            if version > FETCH_BY_NAME {
                let _id = entry.uuid()?;
            } else {
                let _name = entry.string()?;
            }
            let partitions = entry.array(read_partition)?;
            entry.end()?;
            Ok(partitions)
        })?;
        let first = topics.into_iter().flatten().next();
        let mut fetched = match (code, first) {
            (_, Some(fetched)) => fetched,
            (0, None) => return Err(Malformed("it names no partition")),
            (_, None) => Fetched::refused(),
        };
        fetched.throttle_ms = throttle_ms;
        if code != 0 {
            fetched.code = code;
        }
        Ok(fetched)
    }
}

impl Fetched {
    fn refused() -> Self {
        Self {
            throttle_ms: 0,
            code: 0,
            high_watermark: -1,
            last_stable: -1,
            aborted: Vec::new(),
            diverges_at: None,
            records: Bytes::new(),
        }
    }
}

fn read_partition(entry: &mut Reader) -> Result<Fetched, Malformed> {
    let _partition = entry.int32()?;
    let mut fetched = Fetched {
        code: entry.int16()?,
        high_watermark: entry.int64()?,
        last_stable: entry.int64()?,
        ..Fetched::refused()
    };
    let _log_start = entry.int64()?;
    fetched.aborted = entry.array(|entry| {
        let aborted = AbortedTransaction {
            producer_id: entry.int64()?,
            first_offset: entry.int64()?,
        };
        entry.end()?;
        Ok(aborted)
    })?;
    let _preferred_replica = entry.int32()?;
    fetched.records = entry.blob()?;
    entry.tagged(|tag, field| {
        if tag == 0 {
            let _epoch = field.int32()?;
            let end = field.int64()?;
            fetched.diverges_at = (end >= 0).then_some(end);
        }
        Ok(())
    })?;
    Ok(fetched)
}

/// Names the mechanism that this client will log in by.
#[derive(Debug)]
pub(crate) struct SaslHandshake<'a> {
    pub(crate) mechanism: &'a str,
}

impl Request for SaslHandshake<'_> {
    const API: Api = Api {
        key: 17,
        name: "SaslHandshake",
        min: 1,
        max: 1,
        flexible: 2,
    };
    /// Error code, and the mechanisms that the broker takes.
    type Answer = (i16, Vec<String>);

    fn write(&self, out: &mut Writer, _version: i16) {
        out.string(self.mechanism);
    }

    fn read(body: &mut Reader, _version: i16) -> Result<Self::Answer, Malformed> {
        Ok((body.int16()?, body.array(Reader::string)?))
    }
}

/// One step of logging in.
pub(crate) struct SaslAuthenticate<'a> {
    pub(crate) token: &'a [u8],
}

/// What the broker says to a step.
#[derive(Debug)]
pub(crate) struct SaslAnswer {
    pub(crate) code: i16,
    pub(crate) reason: Option<String>,
    pub(crate) token: Bytes,
}

impl Request for SaslAuthenticate<'_> {
    const API: Api = Api {
        key: 36,
        name: "SaslAuthenticate",
        min: 0,
        max: 2,
        flexible: 2,
    };
    type Answer = SaslAnswer;

    fn write(&self, out: &mut Writer, _version: i16) {
        out.blob(self.token);
        out.end();
    }

    fn read(body: &mut Reader, _version: i16) -> Result<Self::Answer, Malformed> {
        Ok(SaslAnswer {
            code: body.int16()?,
            reason: body.nullable_string()?,
            token: body.blob()?,
        })
    }
}

#[cfg(test)]
mod tests;
