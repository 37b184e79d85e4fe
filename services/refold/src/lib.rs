//! Refold as a library: an author's binary is `refold::main!(AccountsV3, AccountsV4);`,
//! which is the whole product with these projections inside.

mod bench;
pub mod cli;
mod command;
mod connect;
mod demo;
mod failpoint;
mod http;
mod load;
mod machine;
mod oracle;
mod run;
mod witness;

#[doc(hidden)]
pub use refold_domain::fold::erase as __erase;
pub use run::run;

/// The `main` function of a binary that holds the given projections.
#[macro_export]
macro_rules! main {
    ($($projection:expr),+ $(,)?) => {
        fn main() -> ::std::process::ExitCode {
            $crate::run(vec![$($crate::__erase($projection)),+])
        }
    };
}
