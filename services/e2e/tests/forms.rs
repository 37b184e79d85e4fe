//! One log in two wire forms folds to equal tables.

use refold_e2e::Stream;
use refold_e2e::World;
use refold_local::testing::ScratchDir;

const VERSIONS: [&str; 2] = ["accounts_v3", "accounts_v4"];

#[test]
fn a_stream_written_as_proto_and_as_json_folds_to_equal_tables() {
    let stream = Stream {
        events: 60_000,
        aggregates: 6_000,
        partitions: 4,
        ..Stream::default()
    };
    let json = Stream {
        format: "json",
        ..stream
    };
    let proto = World::seeded("proto", stream);
    let json = World::seeded("json", json);
    let scratch = ScratchDir::new("refold-forms").expect("a directory");
    for version in VERSIONS {
        proto.replay(version);
        json.replay(version);
        let file = scratch.path().join(version);
        let file = file.display();
        json.sql(&format!("\\copy (table {version}) to '{file}'"));
        // Every column of the view: key, the author's columns, version, offset, partition.
        proto.sql(&format!(
            "create table from_json as table {version} with no data;
             \\copy from_json from '{file}'"
        ));
        let rows = proto.cell("select count(*) from from_json");
        assert_eq!(rows, stream.aggregates.to_string(), "{version}");
        for (left, right) in [(version, "from_json"), ("from_json", version)] {
            let only = proto.sql(&format!("table {left} except table {right} limit 3"));
            assert!(only.is_empty(), "only in {left}: {only:?}");
        }
        proto.sql("drop table from_json");
    }
    proto.assert_equals_oracle("accounts_v4");
}
