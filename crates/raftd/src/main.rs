//! The `raftd` binary: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    raftd::main_with(std::env::args_os(), std::env::vars_os()).into()
}
