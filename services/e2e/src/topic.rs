//! A topic that a test writes by hand: records that no seeded log holds.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::admin::AdminClient;
use rdkafka::admin::AdminOptions;
use rdkafka::admin::NewPartitions;
use rdkafka::admin::NewTopic;
use rdkafka::admin::TopicReplication;
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::BaseConsumer;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::producer::FutureProducer;
use rdkafka::producer::FutureRecord;
use rdkafka::producer::Producer as _;
use refold_local::testing::wait_until;

/// Longest wait for one answer of the brokers.
const WITHIN: Duration = Duration::from_secs(20);

/// One record to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its partition.
    pub partition: i32,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// A topic on some brokers.
#[derive(Debug, Clone)]
pub struct Topic {
    brokers: String,
    name: String,
}

impl Topic {
    /// A topic that exists, or that [`Topic::create`] makes.
    pub fn on(brokers: &str, name: &str) -> Self {
        Self {
            brokers: brokers.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().expect("an admin client")
    }

    /// Creates it, and waits until every partition has a leader.
    ///
    /// # Panics
    /// When the brokers refuse.
    pub fn create(&self, partitions: i32) {
        self.create_as(partitions, TopicReplication::Fixed(1), &[]);
    }

    /// Creates it with a partition for each list of brokers, the first of which leads it.
    ///
    /// # Panics
    /// When the brokers refuse.
    pub fn create_on(&self, replicas: &[&[i32]]) {
        let partitions = replicas.len() as i32;
        self.create_as(partitions, TopicReplication::Variable(replicas), &[]);
    }

    /// Creates it so that the brokers compact it as soon as they can: of each key the last record
    /// stays. What was written last is left alone until something is written behind it.
    ///
    /// # Panics
    /// When the brokers refuse.
    pub fn create_compacted(&self, partitions: i32) {
        let settings = [
            ("cleanup.policy", "compact"),
            ("segment.ms", "100"),
            ("min.cleanable.dirty.ratio", "0.001"),
            ("min.compaction.lag.ms", "0"),
            ("max.compaction.lag.ms", "100"),
        ];
        self.create_as(partitions, TopicReplication::Fixed(1), &settings);
    }

    fn create_as(
        &self,
        partitions: i32,
        replicas: TopicReplication<'_>,
        settings: &[(&str, &str)],
    ) {
        let topic = NewTopic::new(&self.name, partitions, replicas).set("retention.ms", "-1");
        let topic = settings
            .iter()
            .fold(topic, |topic, (name, value)| topic.set(name, value));
        let options = AdminOptions::new().request_timeout(Some(WITHIN));
        let admin = self.admin();
        let answers = futures::executor::block_on(admin.create_topics([&topic], &options));
        for answer in answers.expect("the brokers answer") {
            answer.expect("the topic is created");
        }
        self.wait_for_partitions(partitions);
    }

    /// Deletes it, and waits until the brokers know it no more.
    ///
    /// # Panics
    /// When the brokers refuse.
    pub fn delete(&self) {
        let options = AdminOptions::new().request_timeout(Some(WITHIN));
        let admin = self.admin();
        let answers = futures::executor::block_on(admin.delete_topics(&[&self.name], &options));
        for answer in answers.expect("the brokers answer") {
            answer.expect("the topic is deleted");
        }
        let gone = || {
            let reader: BaseConsumer = self.client().create().expect("a client");
            let all = reader.fetch_metadata(None, WITHIN).expect("an answer");
            all.topics().iter().all(|topic| topic.name() != self.name)
        };
        assert!(wait_until(WITHIN, gone), "{} is still there", self.name);
    }

    /// The leader of a partition (-1 when it has none) and the brokers that have all of it.
    ///
    /// # Panics
    /// When the brokers do not answer.
    pub fn replicas(&self, partition: i32) -> (i32, Vec<i32>) {
        let reader: BaseConsumer = self.client().create().expect("a client");
        let told = reader.fetch_metadata(Some(&self.name), WITHIN);
        let told = told.expect("an answer");
        let all = told.topics().iter().flat_map(|topic| topic.partitions());
        let mut found = all.filter(|p| p.id() == partition);
        let found = found.next().expect("the partition");
        (found.leader(), found.isr().to_vec())
    }

    /// The offset of the next record of a partition.
    ///
    /// # Panics
    /// When the brokers do not answer.
    pub fn end(&self, partition: i32) -> i64 {
        let reader: BaseConsumer = self.client().create().expect("a client");
        let ends = reader.fetch_watermarks(&self.name, partition, WITHIN);
        ends.expect("an answer").1
    }

    /// The key of the record at an offset, as text.
    ///
    /// # Panics
    /// When there is no such record.
    pub fn key_at(&self, partition: i32, offset: i64) -> String {
        let mut config = self.client();
        config.set("group.id", "looks only");
        config.set("enable.auto.commit", "false");
        let reader: BaseConsumer = config.create().expect("a client");
        let mut place = TopicPartitionList::new();
        place
            .add_partition_offset(&self.name, partition, Offset::Offset(offset))
            .expect("a place");
        reader.assign(&place).expect("the place is assigned");
        let record = reader.poll(WITHIN).expect("a record").expect("an answer");
        assert_eq!(record.offset(), offset, "another record");
        let key = record.key().expect("a key");
        String::from_utf8(key.to_vec()).expect("a key of text")
    }

    /// Every record of a partition that the brokers still have, with its offset.
    ///
    /// # Panics
    /// When the brokers do not answer.
    pub fn records(&self, partition: i32) -> Vec<(i64, Record)> {
        let mut config = self.client();
        config.set("group.id", "looks only");
        config.set("enable.auto.commit", "false");
        config.set("enable.partition.eof", "true");
        let reader: BaseConsumer = config.create().expect("a client");
        let mut place = TopicPartitionList::new();
        place
            .add_partition_offset(&self.name, partition, Offset::Beginning)
            .expect("a place");
        reader.assign(&place).expect("the place is assigned");
        let mut records = Vec::new();
        loop {
            match reader.poll(WITHIN).expect("a record or the end") {
                Ok(record) => {
                    let own = Record {
                        partition,
                        key: record.key().unwrap_or_default().to_vec(),
                        value: record.payload().map(<[u8]>::to_vec),
                    };
                    records.push((record.offset(), own));
                }
                Err(KafkaError::PartitionEOF(_)) => return records,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Deletes the records of a partition below an offset, as retention does.
    ///
    /// # Panics
    /// When the brokers refuse.
    pub fn delete_below(&self, partition: i32, low: i64) {
        let mut below = TopicPartitionList::new();
        below
            .add_partition_offset(&self.name, partition, Offset::Offset(low))
            .expect("a place");
        let options = AdminOptions::new().request_timeout(Some(WITHIN));
        let admin = self.admin();
        let deleted = futures::executor::block_on(admin.delete_records(&below, &options));
        for partition in deleted.expect("the brokers answer").elements() {
            partition.error().expect("the records are deleted");
        }
    }

    /// Raises the number of partitions.
    ///
    /// # Panics
    /// When the brokers refuse.
    pub fn grow(&self, partitions: i32) {
        let more = NewPartitions::new(&self.name, partitions as usize);
        let options = AdminOptions::new().request_timeout(Some(WITHIN));
        let admin = self.admin();
        let answers = futures::executor::block_on(admin.create_partitions([&more], &options));
        for answer in answers.expect("the brokers answer") {
            answer.expect("the topic grows");
        }
        self.wait_for_partitions(partitions);
    }

    fn wait_for_partitions(&self, partitions: i32) {
        let reader: BaseConsumer = self.client().create().expect("a client");
        let all =
            || (0..partitions).all(|p| reader.fetch_watermarks(&self.name, p, WITHIN).is_ok());
        assert!(wait_until(WITHIN, all), "{} is not there", self.name);
    }

    /// Writes records, those of a partition in this order, and waits until all are durable.
    ///
    /// # Panics
    /// When one is refused.
    pub fn write(&self, records: &[Record]) {
        let producer: FutureProducer = self
            .client()
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .create()
            .expect("a producer");
        futures::executor::block_on(self.send(&producer, records));
    }

    /// Writes records in a transaction that is aborted: they stay in the log, a marker behind those
    /// of each partition, and nobody may read them.
    ///
    /// # Panics
    /// When the brokers refuse.
    pub fn write_aborted(&self, records: &[Record]) {
        let producer: FutureProducer = self
            .client()
            .set("transactional.id", format!("{}-aborts", self.name))
            .create()
            .expect("a producer");
        producer
            .init_transactions(WITHIN)
            .expect("a transaction's producer");
        producer.begin_transaction().expect("a transaction");
        futures::executor::block_on(self.send(&producer, records));
        producer.abort_transaction(WITHIN).expect("its end");
    }

    /// Sends records, and waits until all are durable.
    async fn send(&self, producer: &FutureProducer, records: &[Record]) {
        let sends = records.iter().map(|record| {
            let mut wanted = FutureRecord::to(&self.name)
                .partition(record.partition)
                .key(&record.key);
            if let Some(value) = &record.value {
                wanted = wanted.payload(value);
            }
            producer.send_result(wanted).map_err(|(error, _)| error)
        });
        let sends: Vec<_> = sends.collect();
        for sent in sends {
            let delivery = sent.expect("the producer takes the record").await;
            let delivery = delivery.expect("the producer lives");
            delivery.map_err(|(error, _)| error).expect("it is durable");
        }
    }
}
