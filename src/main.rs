//! The `cpmd` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    cpmd::shell::cli::main()
}
