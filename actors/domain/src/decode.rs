//! Decode: from a record's bytes to an envelope, in the topic's wire form.

use refold_projection::KeyRef;
use refold_projection::Payload;
use refold_projection::Uuid;

/// The form in which a topic carries its envelopes. Chosen per topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WireForm {
    /// Protocol buffers, `proto/envelope.proto`.
    Proto,
    /// JSON with the same fields.
    Json,
}

impl WireForm {
    /// The word on the command line and in the registry.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Proto => "proto",
            Self::Json => "json",
        }
    }

    /// The form of a word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Proto, Self::Json]
            .into_iter()
            .find(|f| f.word() == word)
    }
}
