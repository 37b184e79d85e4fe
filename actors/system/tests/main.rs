//! The actor system over the memory adapters: one binary, one word a module.

mod barrier;
mod crash;
mod group;
mod halt;
mod history;
mod large;
mod moving;
mod ownership;
mod park;
mod process;
mod rebuild;
mod schedule;
mod strikes;
mod throttle;
mod transactions;
mod world;

/// Supervision rests on unwinding: with `panic = "abort"` a panic in a fold
/// would end the whole process.
#[test]
fn panics_unwind() {
    let caught = std::panic::catch_unwind(|| panic!("on purpose"));
    assert!(caught.is_err());
}
