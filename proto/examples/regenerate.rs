//! Writes the generated code again after a change of a `.proto` file:
//! `cargo run -p refold-proto --example regenerate`.

#[path = "../tests/generator/mod.rs"]
mod generator;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let target = generator::committed();
    generator::generate(&target)?;
    for name in generator::FILES {
        println!("{}", target.join(name).display());
    }
    Ok(())
}
