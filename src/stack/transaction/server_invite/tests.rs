//! Each state × event of it.

use super::*;
use crate::stack::transaction::table::{check, ms, name, outcome, silence};

fn event(word: &str) -> Event {
    match word {
        "INVITE" => Event::Invite,
        "ACK" => Event::Ack,
        "200ms" => Event::Timer(Timer::Trying),
        "G" => Event::Timer(Timer::G),
        "H" => Event::Timer(Timer::H),
        "I" => Event::Timer(Timer::I),
        "L" => Event::Timer(Timer::L),
        "error" => Event::TransportError,
        status => {
            Event::Respond(status.parse().unwrap(), Bytes::copy_from_slice(status.as_bytes()))
        }
    }
}

const EVENTS: [&str; 11] =
    ["INVITE", "ACK", "180", "200", "486", "200ms", "G", "H", "I", "L", "error"];

fn after(reliable: bool, words: &[&str]) -> ServerInvite {
    let mut machine = ServerInvite::start(ms(0), reliable);
    for word in words {
        machine.on(ms(0), event(word), &mut Vec::new());
    }
    machine
}

/// `Ringing` is Proceeding after a provisional answer.
fn road(state: &str) -> &'static [&'static str] {
    match state {
        "Proceeding" => &[],
        "Ringing" => &["183"],
        "Completed" => &["404"],
        "Confirmed" => &["404", "ACK"],
        "Accepted" => &["202"],
        _ => &["404", "H"],
    }
}

#[test]
fn every_state_and_event() {
    let table = "
        Proceeding  INVITE | Proceeding              | Proceeding
        Proceeding  ACK    | Proceeding              | Proceeding
        Proceeding  180    | Proceeding send(180)    | Proceeding send(180)
        Proceeding  200    | Accepted send(200)      | Accepted send(200)
        Proceeding  486    | Completed send(486)     | Completed send(486)
        Proceeding  200ms  | Proceeding trying       | Proceeding trying
        Proceeding  G      | Proceeding              | Proceeding
        Proceeding  H      | Proceeding              | Proceeding
        Proceeding  I      | Proceeding              | Proceeding
        Proceeding  L      | Proceeding              | Proceeding
        Proceeding  error  | Proceeding              | Proceeding
        Ringing     INVITE | Proceeding send(183)    | Proceeding send(183)
        Ringing     ACK    | Proceeding              | Proceeding
        Ringing     180    | Proceeding send(180)    | Proceeding send(180)
        Ringing     200    | Accepted send(200)      | Accepted send(200)
        Ringing     486    | Completed send(486)     | Completed send(486)
        Ringing     200ms  | Proceeding              | Proceeding
        Ringing     G      | Proceeding              | Proceeding
        Ringing     H      | Proceeding              | Proceeding
        Ringing     I      | Proceeding              | Proceeding
        Ringing     L      | Proceeding              | Proceeding
        Ringing     error  | Proceeding              | Proceeding
        Completed   INVITE | Completed send(404)     | Completed send(404)
        Completed   ACK    | Confirmed               | Terminated
        Completed   180    | Completed               | Completed
        Completed   200    | Completed               | Completed
        Completed   486    | Completed               | Completed
        Completed   200ms  | Completed               | Completed
        Completed   G      | Completed send(404)     | Completed
        Completed   H      | Terminated ack-missing  | Terminated ack-missing
        Completed   I      | Completed               | Completed
        Completed   L      | Completed               | Completed
        Completed   error  | Terminated ack-missing  | Terminated ack-missing
        Confirmed   INVITE | Confirmed               | unreachable
        Confirmed   ACK    | Confirmed               | unreachable
        Confirmed   180    | Confirmed               | unreachable
        Confirmed   200    | Confirmed               | unreachable
        Confirmed   486    | Confirmed               | unreachable
        Confirmed   200ms  | Confirmed               | unreachable
        Confirmed   G      | Confirmed               | unreachable
        Confirmed   H      | Confirmed               | unreachable
        Confirmed   I      | Terminated              | unreachable
        Confirmed   L      | Confirmed               | unreachable
        Confirmed   error  | Confirmed               | unreachable
        Accepted    INVITE | Accepted                | Accepted
        Accepted    ACK    | Accepted deliver        | Accepted deliver
        Accepted    180    | Accepted                | Accepted
        Accepted    200    | Accepted send(200)      | Accepted send(200)
        Accepted    486    | Accepted                | Accepted
        Accepted    200ms  | Accepted                | Accepted
        Accepted    G      | Accepted                | Accepted
        Accepted    H      | Accepted                | Accepted
        Accepted    I      | Accepted                | Accepted
        Accepted    L      | Terminated              | Terminated
        Accepted    error  | Accepted                | Accepted
        Terminated  INVITE | Terminated              | Terminated
        Terminated  ACK    | Terminated              | Terminated
        Terminated  180    | Terminated              | Terminated
        Terminated  200    | Terminated              | Terminated
        Terminated  486    | Terminated              | Terminated
        Terminated  200ms  | Terminated              | Terminated
        Terminated  G      | Terminated              | Terminated
        Terminated  H      | Terminated              | Terminated
        Terminated  I      | Terminated              | Terminated
        Terminated  L      | Terminated              | Terminated
        Terminated  error  | Terminated              | Terminated
    ";
    let states = ["Proceeding", "Ringing", "Completed", "Confirmed", "Accepted", "Terminated"];
    check(table, &states, &EVENTS, |state, word, reliable| {
        let mut machine = after(reliable, road(state));
        if name(&machine.state) != state.replace("Ringing", "Proceeding") {
            return "unreachable".to_owned();
        }
        let mut effects = Vec::new();
        machine.on(ms(0), event(word), &mut effects);
        outcome(&machine.state, &effects)
    });
}

fn quiet(reliable: bool, words: &[&str]) -> Vec<(u64, String)> {
    let mut machine = after(reliable, words);
    silence(&mut machine, ServerInvite::next_deadline, ServerInvite::fire)
}

#[test]
fn repetitions_of_a_refusal() {
    let mut rows: Vec<(u64, String)> =
        [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]
            .map(|t| (t, "send(404)".to_owned()))
            .to_vec();
    rows.push((32000, "ack-missing".to_owned()));
    assert_eq!(quiet(false, &["404"]), rows);
    assert_eq!(quiet(true, &["404"]), rows[10..]);
}

#[test]
fn how_long_each_state_lasts() {
    assert_eq!(quiet(false, &["404", "ACK"]), [(5000, String::new())], "timer I");
    assert_eq!(quiet(true, &["404", "ACK"]), [], "timer I is zero");
    for reliable in [false, true] {
        assert_eq!(quiet(reliable, &[]), [(200, "trying".to_owned())]);
        assert_eq!(quiet(reliable, &["180"]), [], "as long as it rings");
        assert_eq!(quiet(reliable, &["200"]), [(32000, String::new())], "timer L");
    }
}

#[test]
fn the_road_to_a_state_does_not_matter() {
    for (road, detour) in [
        (&["404"][..], &["200ms", "100", "183", "INVITE", "404", "INVITE", "200"][..]),
        (&["404", "ACK"], &["180", "404", "G", "ACK", "ACK", "INVITE"]),
        (&["200"], &["180", "200", "200", "ACK", "INVITE", "error"]),
    ] {
        let (one, other) = (after(false, road), after(false, detour));
        assert_eq!(one, other);
        for word in EVENTS {
            let (mut one, mut other) = (one.clone(), other.clone());
            let (mut a, mut b) = (Vec::new(), Vec::new());
            one.on(ms(1), event(word), &mut a);
            other.on(ms(1), event(word), &mut b);
            assert_eq!((one, a), (other, b));
        }
    }
}
