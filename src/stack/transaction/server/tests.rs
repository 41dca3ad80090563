//! Each state × event of it.

use super::*;
use crate::stack::transaction::table::{check, ms, name, outcome, silence};

fn event(word: &str) -> Event {
    match word {
        "request" => Event::Request,
        "E" => Event::Timer(Timer::E),
        "F" => Event::Timer(Timer::F),
        "J" => Event::Timer(Timer::J),
        status => {
            Event::Respond(status.parse().unwrap(), Bytes::copy_from_slice(status.as_bytes()))
        }
    }
}

const EVENTS: [&str; 8] = ["request", "100", "183", "200", "408", "E", "F", "J"];

fn after(reliable: bool, words: &[&str]) -> Server {
    let mut machine = Server::start(ms(0));
    for word in words {
        machine.on(ms(0), reliable, event(word), &mut Vec::new());
    }
    machine
}

/// `Slow` is Trying after E has fired.
fn road(state: &str) -> &'static [&'static str] {
    match state {
        "Trying" => &[],
        "Slow" => &["E"],
        "Proceeding" => &["E", "100"],
        "Completed" => &["404"],
        _ => &["F"],
    }
}

#[test]
fn every_state_and_event() {
    let table = "
        Trying      request | Trying                | Trying
        Trying      100     | Trying                | Proceeding send(100)
        Trying      183     | Trying                | Trying
        Trying      200     | Completed send(200)   | Terminated send(200)
        Trying      408     | Terminated            | Terminated
        Trying      E       | Trying trying         | Trying trying
        Trying      F       | Terminated            | Terminated
        Trying      J       | Trying                | Trying
        Slow        request | Trying                | Trying
        Slow        100     | Proceeding send(100)  | Proceeding send(100)
        Slow        183     | Trying                | Trying
        Slow        200     | Completed send(200)   | Terminated send(200)
        Slow        408     | Terminated            | Terminated
        Slow        E       | Trying                | Trying
        Slow        F       | Terminated            | Terminated
        Slow        J       | Trying                | Trying
        Proceeding  request | Proceeding send(100)  | Proceeding send(100)
        Proceeding  100     | Proceeding            | Proceeding
        Proceeding  183     | Proceeding            | Proceeding
        Proceeding  200     | Completed send(200)   | Terminated send(200)
        Proceeding  408     | Terminated            | Terminated
        Proceeding  E       | Proceeding            | Proceeding
        Proceeding  F       | Terminated            | Terminated
        Proceeding  J       | Proceeding            | Proceeding
        Completed   request | Completed send(404)   | unreachable
        Completed   100     | Completed             | unreachable
        Completed   183     | Completed             | unreachable
        Completed   200     | Completed             | unreachable
        Completed   408     | Completed             | unreachable
        Completed   E       | Completed             | unreachable
        Completed   F       | Completed             | unreachable
        Completed   J       | Terminated            | unreachable
        Terminated  request | Terminated            | Terminated
        Terminated  100     | Terminated            | Terminated
        Terminated  183     | Terminated            | Terminated
        Terminated  200     | Terminated            | Terminated
        Terminated  408     | Terminated            | Terminated
        Terminated  E       | Terminated            | Terminated
        Terminated  F       | Terminated            | Terminated
        Terminated  J       | Terminated            | Terminated
    ";
    let states = ["Trying", "Slow", "Proceeding", "Completed", "Terminated"];
    check(table, &states, &EVENTS, |state, word, reliable| {
        let mut machine = after(reliable, road(state));
        if name(&machine.state) != state.replace("Slow", "Trying") {
            return "unreachable".to_owned();
        }
        let mut effects = Vec::new();
        machine.on(ms(0), reliable, event(word), &mut effects);
        outcome(&machine.state, &effects)
    });
}

fn quiet(reliable: bool, words: &[&str]) -> Vec<(u64, String)> {
    silence(&mut after(reliable, words), Server::next_deadline, |machine, now, out| {
        machine.fire(now, reliable, out);
    })
}

#[test]
fn how_long_each_state_lasts() {
    for reliable in [false, true] {
        let rows = [(3500, "trying".to_owned()), (32000, String::new())];
        assert_eq!(quiet(reliable, &[]), rows, "E reaches T2, then F");
        assert_eq!(quiet(reliable, &["E", "100"]), [(32000, String::new())], "F");
    }
    assert_eq!(quiet(false, &["200"]), [(32000, String::new())], "J");
    assert_eq!(quiet(true, &["200"]), [], "J is zero");
}

#[test]
fn the_road_to_a_state_does_not_matter() {
    let (one, other) = (after(false, &["404"]), after(false, &["E", "100", "request", "404"]));
    assert_eq!(one, other);
    for word in EVENTS {
        let (mut one, mut other) = (one.clone(), other.clone());
        let (mut a, mut b) = (Vec::new(), Vec::new());
        one.on(ms(1), false, event(word), &mut a);
        other.on(ms(1), false, event(word), &mut b);
        assert_eq!((one, a), (other, b));
    }
}

#[test]
fn a_kept_answer_is_small() {
    assert!(size_of::<Server>() <= 56, "{}", size_of::<Server>());
}
