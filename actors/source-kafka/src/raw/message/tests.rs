//! The messages against another implementation of the protocol: what is
//! written here is read there, and the other way round, in every version.

use bytes::BytesMut;
use kafka_protocol::messages as theirs;
use kafka_protocol::messages::BrokerId;
use kafka_protocol::messages::ProducerId;
use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::Decodable;
use kafka_protocol::protocol::Encodable;
use kafka_protocol::protocol::Message;
use kafka_protocol::protocol::StrBytes;

use super::*;

const TOPIC: &str = "events";
const ID: TopicId = [7; 16];

fn versions(api: Api) -> std::ops::RangeInclusive<i16> {
    api.min..=api.max
}

/// A request of ours as they read it.
fn as_they_read<T: Decodable + Message>(request: &impl Request, api: Api, version: i16) -> T {
    let mut out = Writer::frame(api.is_flexible(version));
    request.write(&mut out, version);
    let mut body = Bytes::from(out.finish()).slice(4..);
    let read = T::decode(&mut body, version).expect("they can read it");
    assert!(body.is_empty(), "version {version} has {body:?} left");
    read
}

/// An answer of theirs as we read it.
fn as_we_read<R: Request>(answer: &impl Encodable, version: i16) -> R::Answer {
    let mut body = BytesMut::new();
    answer
        .encode(&mut body, version)
        .expect("they can write it");
    let flexible = R::API.is_flexible(version);
    R::read(&mut Reader::new(body.freeze(), flexible), version).expect("we can read it")
}

fn name() -> TopicName {
    TopicName(StrBytes::from_static_str(TOPIC))
}

fn fetch() -> Fetch<'static> {
    Fetch {
        topic: TOPIC,
        topic_id: ID,
        partition: 3,
        offset: 42,
        leader_epoch: 5,
        last_epoch: 4,
        max_wait_ms: 50,
        max_bytes: 1_000,
    }
}

#[test]
fn a_fetch_request_reads_the_same_in_every_version() {
    for version in versions(Fetch::API) {
        let read: theirs::FetchRequest = as_they_read(&fetch(), Fetch::API, version);
        assert_eq!(read.max_wait_ms, 50);
        assert_eq!(read.min_bytes, 1);
        assert_eq!(read.max_bytes, 1_000);
        assert_eq!(read.isolation_level, 1, "read committed");
        assert_eq!((read.session_id, read.session_epoch), (0, -1));
        let topic = &read.topics[0];
        match version {
            ..=12 => assert_eq!(topic.topic, name()),
            _ => assert_eq!(topic.topic_id.into_bytes(), ID),
        }
        let partition = &topic.partitions[0];
        assert_eq!((partition.partition, partition.fetch_offset), (3, 42));
        assert_eq!(partition.current_leader_epoch, 5);
        assert_eq!(
            partition.last_fetched_epoch,
            if version >= 12 { 4 } else { -1 }
        );
        assert_eq!(partition.partition_max_bytes, 1_000);
    }
}

#[test]
fn a_fetch_answer_reads_the_same_in_every_version() {
    use kafka_protocol::messages::fetch_response as f;
    let aborted = f::AbortedTransaction::default()
        .with_producer_id(ProducerId(9))
        .with_first_offset(40);
    let partition = f::PartitionData::default()
        .with_partition_index(3)
        .with_high_watermark(50)
        .with_last_stable_offset(48)
        .with_aborted_transactions(Some(vec![aborted]))
        .with_records(Some(Bytes::from_static(b"batches")));
    for version in versions(Fetch::API) {
        let mut partition = partition.clone();
        if version >= 12 {
            let diverging = f::EpochEndOffset::default()
                .with_epoch(2)
                .with_end_offset(30);
            partition = partition.with_diverging_epoch(diverging);
        }
        let mut topic = f::FetchableTopicResponse::default().with_partitions(vec![partition]);
        if version <= 12 {
            topic = topic.with_topic(name());
        }
        let answer = theirs::FetchResponse::default()
            .with_throttle_time_ms(17)
            .with_responses(vec![topic]);
        let read = as_we_read::<Fetch<'_>>(&answer, version);
        assert_eq!((read.throttle_ms, read.code), (17, 0));
        assert_eq!((read.high_watermark, read.last_stable), (50, 48));
        assert_eq!(read.aborted.len(), 1);
        assert_eq!(read.aborted[0].producer_id, 9);
        assert_eq!(read.aborted[0].first_offset, 40);
        assert_eq!(&read.records[..], b"batches");
        assert_eq!(read.diverges_at, (version >= 12).then_some(30));
    }
}

#[test]
fn an_error_of_a_whole_fetch_answer_is_seen() {
    let answer = theirs::FetchResponse::default().with_error_code(42);
    let read = as_we_read::<Fetch<'_>>(&answer, 17);
    assert_eq!((read.code, read.records.len()), (42, 0));
}

#[test]
fn metadata_reads_the_same_in_every_version() {
    use kafka_protocol::messages::metadata_response as m;
    for version in versions(Metadata::API) {
        let request = Metadata { topic: TOPIC };
        let read: theirs::MetadataRequest = as_they_read(&request, Metadata::API, version);
        assert!(!read.allow_auto_topic_creation, "nothing is created");
        let topics = read.topics.expect("one topic");
        assert_eq!(topics[0].name, Some(name()));

        let partition = m::MetadataResponsePartition::default()
            .with_partition_index(3)
            .with_leader_id(BrokerId(2))
            .with_leader_epoch(6)
            .with_replica_nodes(vec![BrokerId(1), BrokerId(2)]);
        let mut topic = m::MetadataResponseTopic::default()
            .with_name(Some(name()))
            .with_partitions(vec![partition]);
        if version >= 10 {
            topic.topic_id = uuid::Uuid::from_bytes(ID);
        }
        let broker = m::MetadataResponseBroker::default()
            .with_node_id(BrokerId(2))
            .with_host(StrBytes::from_static_str("b"))
            .with_port(9_092);
        let answer = theirs::MetadataResponse::default()
            .with_cluster_id(Some(StrBytes::from_static_str("c")))
            .with_brokers(vec![broker])
            .with_topics(vec![topic]);
        let read = as_we_read::<Metadata<'_>>(&answer, version);
        let expected = ClusterMetadata {
            brokers: vec![Broker {
                node: 2,
                host: "b".to_owned(),
                port: 9_092,
            }],
            cluster_id: Some("c".to_owned()),
            topics: vec![TopicMetadata {
                code: 0,
                name: TOPIC.to_owned(),
                id: if version >= 10 { ID } else { NO_ID },
                partitions: vec![PartitionLeader {
                    code: 0,
                    partition: 3,
                    node: 2,
                    epoch: 6,
                }],
            }],
        };
        assert_eq!(read, expected);
    }
}

#[test]
fn list_offsets_reads_the_same_in_every_version() {
    use kafka_protocol::messages::list_offsets_response as l;
    for version in versions(ListOffsets::API) {
        let request = ListOffsets {
            topic: TOPIC,
            partition: 3,
            epoch: 5,
            end: End::Low,
        };
        let read: theirs::ListOffsetsRequest = as_they_read(&request, ListOffsets::API, version);
        assert_eq!(read.isolation_level, 1, "read committed");
        let partition = &read.topics[0].partitions[0];
        assert_eq!((partition.partition_index, partition.timestamp), (3, -2));
        assert_eq!(partition.current_leader_epoch, 5);

        let partition = l::ListOffsetsPartitionResponse::default().with_offset(77);
        let topic = l::ListOffsetsTopicResponse::default()
            .with_name(name())
            .with_partitions(vec![partition]);
        let answer = theirs::ListOffsetsResponse::default().with_topics(vec![topic]);
        assert_eq!(as_we_read::<ListOffsets<'_>>(&answer, version), (0, 77));
    }
}

#[test]
fn logging_in_reads_the_same_in_every_version() {
    for version in versions(SaslAuthenticate::API) {
        let request = SaslAuthenticate { token: b"token" };
        let read: theirs::SaslAuthenticateRequest =
            as_they_read(&request, SaslAuthenticate::API, version);
        assert_eq!(&read.auth_bytes[..], b"token");
        let answer = theirs::SaslAuthenticateResponse::default()
            .with_error_code(58)
            .with_error_message(Some(StrBytes::from_static_str("no")))
            .with_auth_bytes(Bytes::from_static(b"back"));
        let read = as_we_read::<SaslAuthenticate<'_>>(&answer, version);
        assert_eq!((read.code, read.reason.as_deref()), (58, Some("no")));
        assert_eq!(&read.token[..], b"back");
    }
    let request = SaslHandshake { mechanism: "PLAIN" };
    let read: theirs::SaslHandshakeRequest = as_they_read(&request, SaslHandshake::API, 1);
    assert_eq!(&*read.mechanism, "PLAIN");
    let answer = theirs::SaslHandshakeResponse::default()
        .with_mechanisms(vec![StrBytes::from_static_str("OTHER")]);
    let read = as_we_read::<SaslHandshake<'_>>(&answer, 1);
    assert_eq!(read, (0, vec!["OTHER".to_owned()]));
}

#[test]
fn the_versions_of_a_broker_are_read() {
    use kafka_protocol::messages::api_versions_response as a;
    let entry = a::ApiVersion::default()
        .with_api_key(1)
        .with_min_version(4)
        .with_max_version(18);
    let answer = theirs::ApiVersionsResponse::default().with_api_keys(vec![entry]);
    let read = as_we_read::<ApiVersions>(&answer, 0);
    assert_eq!(read, (0, vec![(1, 4, 18)]));
}

#[test]
fn an_answer_that_is_cut_off_anywhere_is_an_error_and_no_panic() {
    use kafka_protocol::messages::fetch_response as f;
    let partition = f::PartitionData::default()
        .with_records(Some(Bytes::from_static(b"batches")))
        .with_aborted_transactions(Some(vec![f::AbortedTransaction::default()]));
    let topic = f::FetchableTopicResponse::default().with_partitions(vec![partition]);
    let answer = theirs::FetchResponse::default().with_responses(vec![topic]);
    let mut body = BytesMut::new();
    answer.encode(&mut body, 17).expect("they can write it");
    let body = body.freeze();
    let tail = 2;
    for end in 0..body.len() - tail {
        let mut reader = Reader::new(body.slice(..end), true);
        assert!(Fetch::read(&mut reader, 17).is_err(), "{end}");
    }
}
