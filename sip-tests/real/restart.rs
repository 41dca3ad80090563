//! kill -9 between the 202 and the delivery.

use crate::Scenario;
use crate::lab::Lab;
use crate::server::{ALICE, BOB};
use crate::sipp::{Model, say};

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    ("restart-device-off", device_off),
    ("restart-device-silent", device_silent),
    ("restart-registration-kept", registration_kept),
];

/// The device is off at the 202, and comes back after the restart.
fn device_off(lab: &mut Lab) -> Result<(), String> {
    let place = lab.udp();
    let model = Model::plain(ALICE, "laptop");
    let mut laptop = model.up(&place)?;
    laptop.process().kill()?;
    for text in ["one", "two"] {
        say(&place, BOB, ALICE, text)?;
        lab.server.crash_and_return()?;
    }
    model.up(&place)?.has(&["one", "two"])
}

/// The device is registered and cannot be reached at the 202; after the restart it is sent the
/// message without having to register again.
fn device_silent(lab: &mut Lab) -> Result<(), String> {
    let place = lab.udp();
    let model = Model::plain(ALICE, "laptop");
    let mut laptop = model.up(&place)?;
    laptop.process().kill()?;
    say(&place, BOB, ALICE, "one")?;
    lab.server.crash_and_return()?;
    laptop.listen_again(&model, &place)?;
    laptop.has(&["one"])
}

/// Bindings outlive the server, and so do the credentials' rules: the nonce of the old server is
/// stale, not wrong.
fn registration_kept(lab: &mut Lab) -> Result<(), String> {
    let place = lab.udp();
    let laptop = Model::plain(ALICE, "laptop").up(&place)?;
    let bob = Model::plain(BOB, "desk").up(&place)?;
    lab.server.crash_and_return()?;
    say(&place, BOB, ALICE, "after")?;
    laptop.has(&["after"])?;
    say(&place, ALICE, BOB, "the restart")?;
    bob.has(&["the restart"])
}
