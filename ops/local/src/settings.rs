//! The settings of broker and database: one table each.
//!
//! The local stack, the guards for tests and the compose file all use these; a test compares
//! the compose file with them.

use crate::machine;

/// Version of the Kafka jars and of the broker image.
pub const KAFKA_VERSION: &str = "4.3.1";

/// Broker settings that do not depend on the number of nodes.
pub const KAFKA: &[(&str, &str)] = &[
    // The log is the truth: nothing may age out of it.
    ("log.retention.ms", "-1"),
    ("log.retention.bytes", "-1"),
    // A mistyped topic is an error, not a new empty log.
    ("auto.create.topics.enable", "false"),
    // The producer's codec and batch boundaries are kept as they are.
    ("compression.type", "producer"),
    ("message.max.bytes", "4194304"),
    ("replica.fetch.max.bytes", "4194304"),
    // Assignments settle at once; positions do not come from the group anyway.
    ("group.initial.rebalance.delay.ms", "0"),
    // The group carries membership only, so its internal topics stay small.
    ("offsets.topic.num.partitions", "8"),
    ("transaction.state.log.num.partitions", "8"),
    ("share.coordinator.state.topic.num.partitions", "8"),
    ("num.network.threads", "3"),
    ("num.io.threads", "8"),
    ("socket.send.buffer.bytes", "1048576"),
    ("socket.receive.buffer.bytes", "1048576"),
];

/// Options of the broker's Java machine, apart from its heap.
pub const KAFKA_JVM: &[&str] = &["-XX:+UseG1GC", "-XX:MaxGCPauseMillis=50"];

/// Heap of one broker in MiB.
pub const KAFKA_HEAP_MIB: u32 = 512;

/// Broker settings that follow from the number of nodes (1 or 3).
pub fn kafka_replication(nodes: usize) -> Vec<(&'static str, &'static str)> {
    let (factor, min_isr) = if nodes >= 3 { ("3", "2") } else { ("1", "1") };
    vec![
        ("default.replication.factor", factor),
        ("min.insync.replicas", min_isr),
        ("offsets.topic.replication.factor", factor),
        ("transaction.state.log.replication.factor", factor),
        ("transaction.state.log.min.isr", min_isr),
        ("share.coordinator.state.topic.replication.factor", factor),
        ("share.coordinator.state.topic.min.isr", min_isr),
    ]
}

/// Database settings, tuned for a rebuild that writes much and must survive a crash.
pub const POSTGRES: &[(&str, &str)] = &[
    // Durability is what is being measured and tested: never off.
    ("fsync", "on"),
    ("full_page_writes", "on"),
    // Full-page images after a checkpoint are most of an upsert's WAL: checkpoint rarely.
    ("max_wal_size", "8GB"),
    // Every commit waits while a segment of the log is created; one that is kept is taken again.
    ("min_wal_size", "1GB"),
    ("checkpoint_timeout", "15min"),
    ("checkpoint_completion_target", "0.9"),
    ("wal_compression", "lz4"),
    ("wal_buffers", "64MB"),
    ("shared_buffers", "1GB"),
    ("maintenance_work_mem", "512MB"),
    ("work_mem", "32MB"),
    ("max_connections", "200"),
    // Point reads and batches of known shape: compiling them only adds latency.
    ("jit", "off"),
    ("random_page_cost", "1.1"),
    ("effective_io_concurrency", "64"),
    ("track_io_timing", "on"),
];

/// Arguments of `initdb`, in the container as on the host.
pub const POSTGRES_INITDB: &[&str] = &["--data-checksums", "--locale=C", "--encoding=UTF8"];

/// How much the write-ahead log has to carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WalLevel {
    /// Enough for a standby, as production would run.
    #[default]
    Replica,
    /// Tables created and filled in one transaction bypass the log: the fastest bulk load.
    Minimal,
}

impl WalLevel {
    /// The settings that belong to the level.
    pub fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Replica => &[("wal_level", "replica")],
            Self::Minimal => &[("wal_level", "minimal"), ("max_wal_senders", "0")],
        }
    }

    /// The level's name in Postgres.
    pub fn name(self) -> &'static str {
        match self {
            Self::Replica => "replica",
            Self::Minimal => "minimal",
        }
    }
}

/// [`POSTGRES`] with `shared_buffers` bounded by an eighth of this machine's memory.
pub(crate) fn postgres_for_this_machine() -> Vec<(String, String)> {
    POSTGRES
        .iter()
        .map(|&(name, value)| {
            let value = if name == "shared_buffers" {
                format!("{}MB", shared_buffers_mib(machine::memory_mib()))
            } else {
                value.to_owned()
            };
            (name.to_owned(), value)
        })
        .collect()
}

/// At most the table's 1 GiB, at most an eighth of the memory, at least 128 MiB.
fn shared_buffers_mib(memory_mib: u64) -> u64 {
    (memory_mib / 8).clamp(128, 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_buffers_follow_the_memory_up_to_a_gibibyte() {
        assert_eq!(shared_buffers_mib(512), 128);
        assert_eq!(shared_buffers_mib(4096), 512);
        assert_eq!(shared_buffers_mib(65_536), 1024);
    }

    #[test]
    fn fsync_is_on() {
        assert!(POSTGRES.contains(&("fsync", "on")));
    }
}
