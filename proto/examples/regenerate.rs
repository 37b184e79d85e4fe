//! Writes the generated code again after a change of a `.proto` file, and the
//! golden files that do not exist yet: `cargo run -p refold-proto --example
//! regenerate`. A golden file that exists is never touched.

#[path = "../tests/generator/mod.rs"]
mod generator;
#[path = "../tests/golden_events/mod.rs"]
mod golden_events;

use refold_proto::WireFormat;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let target = generator::committed();
    generator::generate(&target)?;
    for name in generator::FILES {
        println!("{}", target.join(name).display());
    }
    for format in [WireFormat::Proto, WireFormat::Json] {
        for (name, bytes) in golden_events::encoded(format) {
            let path = golden_events::directory().join(name);
            if !path.exists() {
                std::fs::write(&path, bytes)?;
                println!("{}", path.display());
            }
        }
    }
    Ok(())
}
