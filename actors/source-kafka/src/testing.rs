//! A topic on the broker of the tests.

use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::admin::AdminOptions;
use rdkafka::admin::NewTopic;
use rdkafka::admin::TopicReplication;
use rdkafka::client::DefaultClientContext;
use refold_local::testing;

/// Creates a topic of one partition; the brokers, and its name.
pub(crate) async fn created_topic(prefix: &str) -> (&'static str, String) {
    let brokers = testing::stack().kafka.as_str();
    let topic = testing::unique_topic(prefix);
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()
        .expect("a client");
    let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
    let created = admin.create_topics([&new], &AdminOptions::new()).await;
    created.expect("an answer")[0].as_ref().expect("created");
    (brokers, topic)
}
