//! The committed code is what the `.proto` files say.

mod generator;

#[test]
fn the_committed_code_is_current() {
    let scratch = std::env::temp_dir().join(format!("refold-proto-{}", std::process::id()));
    generator::generate(&scratch).expect("the .proto files compile");
    for name in generator::FILES {
        let fresh = std::fs::read_to_string(scratch.join(name)).expect("generated");
        let committed =
            std::fs::read_to_string(generator::committed().join(name)).expect("committed");
        assert!(
            fresh == committed,
            "{name} is out of date: cargo run -p refold-proto --example regenerate"
        );
    }
    std::fs::remove_dir_all(&scratch).expect("own directory");
}
