//! The real server, real sockets, and programs of other people: SIPp, and phones.
//!
//! `cargo test --release --test real -- [PART OF A NAME]...` plays the scenarios whose names
//! contain one of the parts, or all. Each has a server of its own on free ports of loopback and an
//! empty data directory, and ends with a clean stop and `cpmd store check`. One line for each, and
//! at the end `N passed, N failed`. The logs of what failed are kept.

mod lab;
mod messages;
#[path = "../phones/mod.rs"]
mod phones;
mod ports;
mod process;
mod registrar;
mod restart;
mod robust;
mod server;
mod sipp;
mod wait;

use std::process::ExitCode;

use lab::Lab;

type Scenario = (&'static str, fn(&mut Lab) -> Result<(), String>);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|a| a == "--list") {
        scenarios().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    // What the test harness of Rust understands and this one does not is let pass.
    let parts: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let (mut passed, mut failed) = (0_usize, 0_usize);
    for (name, play) in scenarios() {
        if !parts.is_empty() && !parts.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let watch = wait::Watch::start();
        match Lab::run(play) {
            Ok(()) => {
                passed += 1;
                println!("ok     {name} {} ms", watch.ms());
            }
            Err(why) => {
                failed += 1;
                println!("FAILED {name}: {why}");
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn scenarios() -> impl Iterator<Item = Scenario> {
    let all = [
        registrar::SCENARIOS,
        messages::SCENARIOS,
        restart::SCENARIOS,
        robust::SCENARIOS,
        phones::SCENARIOS,
    ];
    all.into_iter().flatten().copied()
}
