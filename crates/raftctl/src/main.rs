//! `raftctl`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    raftctl::run(std::env::args_os())
}
