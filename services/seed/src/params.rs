//! What decides every byte of a seeded log.

use refold_proto::WireFormat;
use serde::{Deserialize, Serialize};

/// The parameters of a log. Two logs with equal parameters hold equal records
/// at equal offsets; the parameters are stored beside the log so that it can
/// be verified later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedParams {
    /// Seed of every random choice.
    pub seed: u64,
    /// Events in all, creation events included. What a tail appends later
    /// is not counted here.
    pub events: u64,
    /// Aggregates: their ids are `1..=aggregates`.
    pub aggregates: u64,
    /// Partitions of the topic.
    pub partitions: u32,
    /// Exponent of the popularity: the aggregate of rank `r` is drawn with a
    /// weight of `r^-zipf`.
    pub zipf: f64,
    /// Form of the values.
    #[serde(with = "format_name")]
    pub format: WireFormat,
}

impl Default for SeedParams {
    fn default() -> Self {
        Self {
            seed: 42,
            events: 2_000_000,
            aggregates: 200_000,
            partitions: 16,
            zipf: 1.1,
            format: WireFormat::Proto,
        }
    }
}

/// Parameters that describe no log.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidParams {
    /// There is nothing to write about.
    #[error("a log needs at least one aggregate")]
    NoAggregates,
    /// Ids are kept in 32 bits.
    #[error("{0} aggregates are more than the {max} that can be told apart", max = u32::MAX)]
    TooManyAggregates(u64),
    /// Every aggregate needs its creation event.
    #[error("{events} events cannot create {aggregates} aggregates: at least one event each")]
    TooFewEvents {
        /// Events asked for.
        events: u64,
        /// Aggregates asked for.
        aggregates: u64,
    },
    /// Kafka numbers partitions with 31 bits; far fewer make sense.
    #[error("{0} partitions: choose 1 to 10000")]
    Partitions(u32),
    /// Beyond 10 one aggregate has practically all events.
    #[error("a Zipf exponent of {0}: choose 0 to 10")]
    Zipf(f64),
}

impl SeedParams {
    /// Checks that the parameters describe a log.
    ///
    /// # Errors
    /// [`InvalidParams`] says which of them does not fit.
    pub fn validate(&self) -> Result<(), InvalidParams> {
        if self.aggregates == 0 {
            return Err(InvalidParams::NoAggregates);
        }
        if self.aggregates > u64::from(u32::MAX) {
            return Err(InvalidParams::TooManyAggregates(self.aggregates));
        }
        if self.events < self.aggregates {
            return Err(InvalidParams::TooFewEvents {
                events: self.events,
                aggregates: self.aggregates,
            });
        }
        if !(1..=10_000).contains(&self.partitions) {
            return Err(InvalidParams::Partitions(self.partitions));
        }
        if !(0.0..=10.0).contains(&self.zipf) {
            return Err(InvalidParams::Zipf(self.zipf));
        }
        Ok(())
    }
}

mod format_name {
    use refold_proto::WireFormat;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        format: &WireFormat,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(format.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<WireFormat, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_survive_their_text() {
        let params = SeedParams {
            format: WireFormat::Json,
            ..SeedParams::default()
        };
        let text = serde_json::to_string(&params).expect("serialises");
        assert_eq!(serde_json::from_str::<SeedParams>(&text).ok(), Some(params));
    }

    #[test]
    fn parameters_that_describe_no_log_are_refused() {
        let refused = |change: fn(&mut SeedParams)| {
            let mut params = SeedParams::default();
            change(&mut params);
            params.validate().expect_err("refused").to_string()
        };
        assert!(SeedParams::default().validate().is_ok());
        assert!(refused(|p| p.aggregates = 0).contains("at least one aggregate"));
        assert!(refused(|p| p.aggregates = 1 << 33).contains("8589934592 aggregates"));
        assert!(refused(|p| p.events = 199_999).contains("cannot create 200000"));
        assert!(refused(|p| p.partitions = 0).contains("choose 1 to 10000"));
        assert!(refused(|p| p.zipf = f64::NAN).contains("NaN"));
        assert!(refused(|p| p.zipf = -0.1).contains("-0.1"));
    }
}
