//! The `cpmd` command.

fn main() {}
