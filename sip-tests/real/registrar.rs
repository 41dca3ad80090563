//! REGISTER as SIPp sends it.

use crate::Scenario;
use crate::lab::Lab;
use crate::server::{ALICE, Account};
use crate::sipp::{Model, Place, Sipp, play};

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    ("register-401-then-200", register),
    ("wrong-password", wrong_password),
    ("unknown-user-gets-the-same-answer", unknown_user),
    ("three-devices-of-one-account", three_devices),
    ("fetch-bindings", fetch),
    ("too-brief-423", brief),
    ("contact-star", star),
    ("register-over-tcp", over_tcp),
    ("register-over-ipv6", over_ipv6),
];

const STRANGER: Account = Account { user: "mallory", domain: "a.example", password: "secret" };

fn register(lab: &mut Lab) -> Result<(), String> {
    play(&lab.udp(), "register", ALICE, &[("instance", "one")]).map(drop)
}

fn wrong_password(lab: &mut Lab) -> Result<(), String> {
    let guess = Account { password: "guess", ..ALICE };
    play(&lab.udp(), "refused", guess, &[("instance", "one")])?;
    bindings(&lab.udp(), ALICE, 0)
}

/// Nobody may learn from an answer which accounts exist.
fn unknown_user(lab: &mut Lab) -> Result<(), String> {
    let guess = Account { password: "guess", ..ALICE };
    let known = play(&lab.udp(), "refused", guess, &[("instance", "one")])?;
    let unknown = play(&lab.udp(), "refused", STRANGER, &[("instance", "one")])?;
    let (known, unknown) = (answers(&known), answers(&unknown));
    let unknown: Vec<String> =
        unknown.iter().map(|text| text.replace(STRANGER.user, ALICE.user)).collect();
    if known.len() == 2 && known == unknown {
        return Ok(());
    }
    Err(format!("answers differ: {known:?} and {unknown:?}"))
}

fn three_devices(lab: &mut Lab) -> Result<(), String> {
    for (device, count) in [("laptop", 1), ("phone", 2), ("tablet", 3)] {
        play(&lab.udp(), "register", ALICE, &[("instance", device)])?;
        bindings(&lab.udp(), ALICE, count)?;
    }
    // The same device again is not a fourth one.
    play(&lab.udp(), "register", ALICE, &[("instance", "phone")])?;
    bindings(&lab.udp(), ALICE, 3)
}

fn fetch(lab: &mut Lab) -> Result<(), String> {
    bindings(&lab.udp(), ALICE, 0)?;
    let _device = Model::plain(ALICE, "laptop").up(&lab.udp())?;
    bindings(&lab.udp(), ALICE, 1)
}

fn brief(lab: &mut Lab) -> Result<(), String> {
    play(&lab.udp(), "brief", ALICE, &[("instance", "one")])?;
    bindings(&lab.udp(), ALICE, 0)
}

fn star(lab: &mut Lab) -> Result<(), String> {
    for device in ["laptop", "phone"] {
        play(&lab.udp(), "register", ALICE, &[("instance", device)])?;
    }
    bindings(&lab.udp(), ALICE, 2)?;
    play(&lab.udp(), "star", ALICE, &[])?;
    bindings(&lab.udp(), ALICE, 0)
}

fn over_tcp(lab: &mut Lab) -> Result<(), String> {
    play(&lab.tcp(), "register", ALICE, &[("instance", "one")])?;
    bindings(&lab.udp(), ALICE, 1)
}

fn over_ipv6(lab: &mut Lab) -> Result<(), String> {
    for place in lab.ipv6()? {
        play(&place, "register", ALICE, &[("instance", "one")])?;
    }
    bindings(&lab.udp(), ALICE, 1)
}

/// Looks whether the server lists as many bindings.
///
/// # Errors
/// It lists more or fewer.
pub fn bindings(place: &Place, account: Account, expected: usize) -> Result<(), String> {
    let fetched = play(place, "fetch", account, &[])?;
    let text = fetched.messages();
    let answer = text.rsplit("SIP/2.0 200 OK").next().unwrap_or_default();
    let count = answer.lines().filter(|line| line.starts_with("Contact:")).count();
    if count == expected && text.contains("SIP/2.0 200 OK") {
        return Ok(());
    }
    Err(format!("{count} bindings, expected {expected}: {answer}"))
}

/// The responses that a process has received, without what differs from one request to the next.
fn answers(sipp: &Sipp) -> Vec<String> {
    let text = sipp.messages();
    let responses = text.split("SIP/2.0 401").skip(1);
    responses
        .map(|response| {
            let lines = response.lines().take_while(|line| !line.trim().is_empty());
            let same = |line: &str| {
                let name = line.split(':').next().unwrap_or_default();
                match name {
                    "Via" | "Call-ID" | "From" => name.to_owned(),
                    "To" => line.split(";tag=").next().unwrap_or_default().to_owned(),
                    "WWW-Authenticate" => without_nonce(line),
                    _ => line.to_owned(),
                }
            };
            lines.map(same).collect::<Vec<String>>().join("\n")
        })
        .collect()
}

fn without_nonce(line: &str) -> String {
    let Some((before, after)) = line.split_once("nonce=\"") else { return line.to_owned() };
    let Some((nonce, rest)) = after.split_once('"') else { return line.to_owned() };
    format!("{before}nonce of {} octets{rest}", nonce.len())
}
