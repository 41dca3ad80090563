//! The kill loop: Bob's devices write to Alice's three devices, some of which sleep, wake and move,
//! while the server is killed with SIGKILL at any moment, or dies at a named point, and is started
//! again at once. Then every device and the store are read, and compared with what was promised.
//!
//! `sip-tests/kill/run [KILLS] [--seed S] [--rate R] [--every K] [--server CPMD]`; 20
//! kills where none are named.
//! A seed gives the same messages, sleeps and deaths, as far as processes and sockets allow.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may give up, and this one is about real time"
)]

mod audit;
mod catalogue;
mod count;
mod device;
mod fate;
mod ledger;
mod load;
mod rig;
mod server;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ledger::Faults;
use rig::{Options, Rig};

const USAGE: &str =
    "usage: sip-tests/kill/run [KILLS] [--seed S] [--rate R] [--every K] [--server CPMD]";

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let (kills, seed) = (options.kills, options.seed);
    println!("{kills} kills, seed {seed} (again: sip-tests/kill/run {kills} --seed {seed})");
    let dir = tempfile::Builder::new().prefix("cpmd-kill-").tempdir().unwrap();
    let mut rig = Rig::new(options, dir.path());
    rig.run(&mut |rig| println!("{}", progress(rig)));
    println!("{}", progress(&rig));
    let failed = report(&rig);
    if failed > 0 {
        let kept = dir.keep();
        println!("kept: {}", kept.display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = now.unwrap_or_default().as_millis() as u64 % 1_000_000;
    let program = PathBuf::from(env!("CARGO_BIN_EXE_cpmd"));
    let mut options = Options { program, kills: 20, seed, rate: 200, every: 0 };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seed" => options.seed = number(&argument, &mut arguments)?,
            "--rate" => options.rate = number(&argument, &mut arguments)?,
            "--server" => options.program = arguments.next().unwrap_or_default().into(),
            "--every" => options.every = number(&argument, &mut arguments)?,
            kills => {
                let wrong = |_| format!("\"{kills}\" is not a number of kills");
                options.kills = kills.parse().map_err(wrong)?;
            }
        }
    }
    options.kills = options.kills.max(2);
    if options.every == 0 {
        options.every = if options.kills >= 100 { 50 } else { 10 };
    }
    Ok(options)
}

fn number(name: &str, rest: &mut impl Iterator<Item = String>) -> Result<u64, String> {
    let text = rest.next().unwrap_or_default();
    text.parse().map_err(|_| format!("{name} \"{text}\" is not a number"))
}

fn progress(rig: &Rig) -> String {
    let kills: Vec<String> = rig.kills.iter().map(|(name, n)| format!("{n} {name}")).collect();
    format!(
        "{:4} s: {} kills ({}); {} sent, {} acknowledged, {} delivered, {} owed",
        rig.elapsed().as_secs(),
        rig.done,
        kills.join(", "),
        rig.ledger.sent.len(),
        rig.ledger.acknowledged,
        rig.ledger.delivered,
        rig.ledger.missing,
    )
}

/// Prints everything; how many claims do not hold.
fn report(rig: &Rig) -> usize {
    let ledger = &rig.ledger;
    let (foretold, again, unnamed) = ledger.plain_repeats(&rig.server.named);
    let (lacking, unreceipted) = (ledger.lacking(), ledger.unreceipted());
    let mut starts = rig.server.starts.clone();
    starts.sort_unstable();
    let ms = |at: usize| starts.get(at).copied().unwrap_or(Duration::ZERO).as_millis();
    let (last, lives) = (starts.len().saturating_sub(1), rig.server.life);
    println!("\nlives of the server                   {lives:>9}");
    for (name, n) in &rig.kills {
        println!("  killed {name:<28} {n:>10}");
    }
    let first = rig.server.starts.first().copied().unwrap_or_default().as_millis();
    let final_ = rig.server.starts.last().copied().unwrap_or_default().as_millis();
    println!("spawn to ready, ms: first {first}, last {final_}");
    println!("  median {}, 99 of 100 {}, longest {}", ms(last / 2), ms(last * 99 / 100), ms(last));
    for (what, n) in [
        ("messages sent", ledger.sent.len() as u64),
        ("messages with a 2xx", ledger.acknowledged),
        ("messages that devices got", ledger.delivered),
        ("messages in the store, both sides", rig.found.messages),
        ("content kept as files", rig.found.blobs),
        ("records in the store", rig.found.records),
        ("batches in the store", rig.found.batches),
        ("registrations compared", rig.compared),
        ("legs named as sent again", rig.server.named.len() as u64),
        ("plain phone: shown again, named", foretold),
        ("plain phone: retransmissions", again),
        ("copies to the sending device", ledger.own_copies),
        ("errors in the server's log", rig.server.errors.len() as u64),
    ] {
        println!("{what:<37} {n:>9}");
    }
    for error in rig.server.errors.iter().take(10) {
        println!("  {error}");
    }
    println!();
    let claims: [(&str, &Faults); 10] = [
        ("lost", &lacking),
        ("altered", &ledger.altered),
        ("doubled on CPM devices", &ledger.doubled),
        ("doubled on the plain phone, unnamed", &unnamed),
        ("receipts lost", &unreceipted),
        ("registrations not as promised", &rig.claims.registrations),
        ("store not as acknowledged", &rig.claims.store),
        ("starts failed", &rig.claims.starts),
        ("refused", &rig.claims.refused),
        ("never answered", &rig.claims.unanswered),
    ];
    let mut failed = 0;
    for (claim, faults) in &claims {
        let verdict = if faults.count == 0 { "ok    " } else { "FAILED" };
        println!("{verdict} {claim:<37} {}", faults.count);
        faults.first.iter().for_each(|what| println!("         {what}"));
        failed += usize::from(faults.count > 0);
    }
    println!("{} passed, {failed} failed", claims.len() - failed);
    failed
}
