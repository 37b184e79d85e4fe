//! How Kafka is read: by which client, and with which properties.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use clap::ValueEnum;

use super::Failure;

/// The client and its properties.
#[derive(Debug, Clone, Default, Args)]
pub struct KafkaArgs {
    /// What reads history: raw is Refold's own fetch loop, which takes the least CPU per event;
    /// librdkafka is the fallback. A property that raw cannot honour makes it leave the log to librdkafka.
    #[arg(long, env = "REFOLD_BULK_CLIENT", value_enum, default_value_t)]
    pub bulk_client: BulkClient,
    /// A Kafka client property by librdkafka's name, such as security.protocol=sasl_ssl. May be
    /// given more than once. Secrets belong in -kafka-properties-file.
    #[arg(long, value_name = "NAME=VALUE")]
    pub kafka_property: Vec<Property>,
    /// File of Kafka client properties, one name=value a line; lines that begin with # are comments.
    #[arg(long, env = "REFOLD_KAFKA_PROPERTIES_FILE", value_name = "PATH")]
    pub kafka_properties_file: Option<PathBuf>,
}

/// What reads history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum BulkClient {
    /// Refold's own fetch loop.
    #[default]
    Raw,
    /// librdkafka.
    Librdkafka,
}

/// A property of the Kafka clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl FromStr for Property {
    type Err = String;

    /// Reads `name=value`; a secret is refused, because every user of the machine sees flags.
    fn from_str(text: &str) -> Result<Self, String> {
        let property = Self::split(text)?;
        let secret = ["password", "secret", "key.pem"];
        if secret.iter().any(|word| property.name.contains(word)) {
            return Err(format!(
                "{} is a secret, and flags are not: put it into -kafka-properties-file",
                property.name
            ));
        }
        Ok(property)
    }
}

impl Property {
    fn split(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => Ok(Self {
                name: name.trim().to_owned(),
                value: value.trim().to_owned(),
            }),
            _ => Err("a property is written name=value".to_owned()),
        }
    }
}

impl KafkaArgs {
    /// The properties of the file, then those of the flags, which win.
    ///
    /// # Errors
    /// A usage failure when the file cannot be read, with the line but without its text.
    pub fn properties(&self) -> Result<Vec<Property>, Failure> {
        let mut all = Vec::new();
        if let Some(path) = &self.kafka_properties_file {
            let failed = |what: String| {
                Failure::usage(format!("-kafka-properties-file {}: {what}", path.display()))
            };
            let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
            for (at, line) in text.lines().enumerate() {
                let line = line.trim();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let property = Property::split(line)
                    .map_err(|what| failed(format!("line {}: {what}", at + 1)))?;
                all.push(property);
            }
        }
        all.extend(self.kafka_property.iter().cloned());
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_on_the_command_line_is_refused_and_said_where_it_belongs() {
        for text in [
            "sasl.password=x",
            "ssl.key.password=x",
            "sasl.oauthbearer.client.secret=x",
        ] {
            let refused = Property::from_str(text).expect_err("a secret");
            assert!(refused.contains("-kafka-properties-file"), "{refused}");
        }
        for text in ["", "=x", "no value"] {
            assert!(Property::from_str(text).is_err(), "{text}");
        }
    }

    #[test]
    fn flags_come_behind_the_file_and_a_bad_line_is_named_without_its_text() {
        let path = std::env::temp_dir().join(format!("refold-properties-{}", std::process::id()));
        let args = KafkaArgs {
            kafka_property: vec![Property::from_str("client.id=me").expect("legal")],
            kafka_properties_file: Some(path.clone()),
            ..KafkaArgs::default()
        };
        let read = |text: &str| {
            std::fs::write(&path, text).expect("the file can be written");
            args.properties()
        };
        let all = read("# who\n\nsasl.password = a=b\n").expect("legal lines");
        let shown: Vec<_> = all.iter().map(|p| (&*p.name, &*p.value)).collect();
        assert_eq!(shown, [("sasl.password", "a=b"), ("client.id", "me")]);
        let refused = read("x=1\nhunter2\n").expect_err("not a property");
        std::fs::remove_file(&path).expect("the file is there");
        assert!(refused.to_string().contains("line 2"), "{refused}");
        assert!(!refused.to_string().contains("hunter2"));
    }
}
