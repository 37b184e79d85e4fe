//! How a log is compressed.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Record bytes of a batch unless others are asked for: as large as readers
/// still decompress inside their cache.
pub const BATCH_BYTES: usize = 128 << 10;

/// How the producer compresses its batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codec {
    /// Not at all.
    None,
    /// Cheapest to read back.
    #[default]
    Lz4,
    /// Smallest log at a moderate price.
    Zstd,
    /// For consumers that know nothing newer.
    Gzip,
    /// Likewise.
    Snappy,
}

impl Codec {
    const ALL: [Codec; 5] = [
        Codec::None,
        Codec::Lz4,
        Codec::Zstd,
        Codec::Gzip,
        Codec::Snappy,
    ];

    /// The name used in flags and by Kafka.
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
        }
    }

    /// The levels that can be asked for: the client's own limits. It would cut
    /// a higher one down without a word. `None` for a codec that has no levels.
    fn levels(self) -> Option<RangeInclusive<u8>> {
        match self {
            Codec::None | Codec::Snappy => None,
            Codec::Lz4 => Some(0..=12),
            Codec::Zstd => Some(1..=12),
            Codec::Gzip => Some(0..=9),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Codec {
    type Err = UnknownCodec;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|codec| codec.name() == name)
            .ok_or_else(|| UnknownCodec::Name(name.to_owned()))
    }
}

/// A codec, and how hard it tries: `lz4`, or with a level `zstd:6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compression {
    codec: Codec,
    level: Option<u8>,
}

impl Compression {
    /// The codec.
    pub fn codec(self) -> Codec {
        self.codec
    }

    /// The level; `None` for the one that the client takes by itself (3 for
    /// zstd, the fast mode of lz4).
    pub fn level(self) -> Option<u8> {
        self.level
    }
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        Self { codec, level: None }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            None => write!(f, "{}", self.codec),
            Some(level) => write!(f, "{}:{level}", self.codec),
        }
    }
}

impl FromStr for Compression {
    type Err = UnknownCodec;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((name, level)) = text.split_once(':') else {
            return Ok(text.parse::<Codec>()?.into());
        };
        let codec: Codec = name.parse()?;
        let levels = codec.levels().ok_or(UnknownCodec::NoLevels(codec))?;
        match level.parse() {
            Ok(level) if levels.contains(&level) => Ok(Self {
                codec,
                level: Some(level),
            }),
            _ => Err(UnknownCodec::Level {
                codec,
                level: level.to_owned(),
                least: *levels.start(),
                most: *levels.end(),
            }),
        }
    }
}

/// A text that names no compression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownCodec {
    /// There is no such codec.
    #[error("unknown codec {0:?} (known: none, lz4, zstd, gzip, snappy; with a level: zstd:6)")]
    Name(String),
    /// The codec has one way to compress.
    #[error("{0} has no levels: leave out what stands behind the colon")]
    NoLevels(Codec),
    /// The codec has no such level.
    #[error("{codec} has no level {level:?}: choose {least} to {most}")]
    Level {
        /// The codec.
        codec: Codec,
        /// What was asked for.
        level: String,
        /// Lowest level.
        least: u8,
        /// Highest level.
        most: u8,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compression_is_read_back_from_its_text() {
        for text in [
            "none", "lz4", "lz4:0", "lz4:12", "zstd", "zstd:1", "gzip:9", "snappy",
        ] {
            let read: Compression = text.parse().expect("known");
            assert_eq!(read.to_string(), text);
        }
        assert_eq!("zstd".parse(), Ok(Compression::from(Codec::Zstd)));
    }

    #[test]
    fn what_names_no_compression_is_refused_with_what_would() {
        let refused = |text: &str| {
            let refusal = text.parse::<Compression>().expect_err("refused");
            refusal.to_string()
        };
        assert!(refused("brotli").contains("known: none, lz4"));
        assert!(refused("zstd:13").contains("choose 1 to 12"));
        for text in ["zstd:", "zstd:-1", "zstd:fast", "lz4:300"] {
            assert!(refused(text).contains("has no level"), "{text}");
        }
        assert!(refused("snappy:1").contains("has no levels"));
    }
}
