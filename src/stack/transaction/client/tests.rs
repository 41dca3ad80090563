//! Each state × event of it.

use super::*;
use crate::stack::transaction::table::{check, ms, name, outcome, silence};

fn start(reliable: bool) -> Client {
    Client::start(ms(0), reliable, Bytes::from_static(b"request"), &mut Vec::new())
}

fn after(reliable: bool, events: &[Event]) -> Client {
    let mut machine = start(reliable);
    for event in events {
        machine.on(ms(0), *event, &mut Vec::new());
    }
    machine
}

fn road(state: &str) -> &'static [Event] {
    match state {
        "Trying" => &[],
        "Proceeding" => &[Event::Provisional],
        "Completed" => &[Event::Provisional, Event::Final],
        _ => &[Event::TransportError],
    }
}

const EVENTS: [(&str, Event); 6] = [
    ("1xx", Event::Provisional),
    ("final", Event::Final),
    ("E", Event::Timer(Timer::E)),
    ("F", Event::Timer(Timer::F)),
    ("K", Event::Timer(Timer::K)),
    ("error", Event::TransportError),
];

#[test]
fn every_state_and_event() {
    let table = "
        Trying      1xx    | Proceeding deliver          | Proceeding deliver
        Trying      final  | Completed deliver           | Terminated deliver
        Trying      E      | Trying send(request)        | Trying
        Trying      F      | Terminated fail(Timeout)    | Terminated fail(Timeout)
        Trying      K      | Trying                      | Trying
        Trying      error  | Terminated fail(Transport)  | Terminated fail(Transport)
        Proceeding  1xx    | Proceeding deliver          | Proceeding deliver
        Proceeding  final  | Completed deliver           | Terminated deliver
        Proceeding  E      | Proceeding send(request)    | Proceeding
        Proceeding  F      | Terminated fail(Timeout)    | Terminated fail(Timeout)
        Proceeding  K      | Proceeding                  | Proceeding
        Proceeding  error  | Terminated fail(Transport)  | Terminated fail(Transport)
        Completed   1xx    | Completed                   | unreachable
        Completed   final  | Completed                   | unreachable
        Completed   E      | Completed                   | unreachable
        Completed   F      | Completed                   | unreachable
        Completed   K      | Terminated                  | unreachable
        Completed   error  | Completed                   | unreachable
        Terminated  1xx    | Terminated                  | Terminated
        Terminated  final  | Terminated                  | Terminated
        Terminated  E      | Terminated                  | Terminated
        Terminated  F      | Terminated                  | Terminated
        Terminated  K      | Terminated                  | Terminated
        Terminated  error  | Terminated                  | Terminated
    ";
    let states = ["Trying", "Proceeding", "Completed", "Terminated"];
    check(table, &states, &EVENTS.map(|(word, _)| word), |state, event, reliable| {
        let mut machine = after(reliable, road(state));
        if name(&machine.state) != state {
            return "unreachable".to_owned();
        }
        let (_, event) = EVENTS.into_iter().find(|(word, _)| *word == event).unwrap();
        let mut effects = Vec::new();
        machine.on(ms(0), event, &mut effects);
        outcome(&machine.state, &effects)
    });
}

#[test]
fn the_request_goes_out_at_once() {
    for reliable in [false, true] {
        let mut effects = Vec::new();
        Client::start(ms(0), reliable, Bytes::from_static(b"request"), &mut effects);
        assert_eq!(effects, [Effect::Send(Bytes::from_static(b"request"))]);
    }
}

fn quiet(mut machine: Client) -> Vec<(u64, String)> {
    silence(&mut machine, Client::next_deadline, Client::fire)
}

fn rows(times: &[u64], word: &str, end: u64, last: &str) -> Vec<(u64, String)> {
    let last = (end, last.to_owned());
    times.iter().map(|t| (*t, word.to_owned())).chain([last]).collect()
}

#[test]
fn repetitions_of_the_request() {
    let sent = [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500];
    assert_eq!(quiet(start(false)), rows(&sent, "send(request)", 32000, "fail(Timeout)"));
    assert_eq!(quiet(start(true)), rows(&[], "", 32000, "fail(Timeout)"));
}

#[test]
fn in_proceeding_repetitions_slow_down_to_t2_and_f_runs_on() {
    let sent = [500, 4500, 8500, 12500, 16500, 20500, 24500, 28500];
    let machine = after(false, &[Event::Provisional]);
    assert_eq!(quiet(machine), rows(&sent, "send(request)", 32000, "fail(Timeout)"));
    let machine = after(true, &[Event::Provisional]);
    assert_eq!(quiet(machine), rows(&[], "", 32000, "fail(Timeout)"));
}

#[test]
fn completed_lasts_t4_over_udp() {
    assert_eq!(quiet(after(false, &[Event::Final])), rows(&[], "", 5000, ""));
    assert_eq!(quiet(after(true, &[Event::Final])), []);
}

#[test]
fn a_process_that_slept_sends_one_copy_or_none() {
    let (mut machine, mut effects) = (start(false), Vec::new());
    machine.fire(ms(10_000), &mut effects);
    assert_eq!(outcome(&machine.state, &effects), "Trying send(request)");
    assert_eq!(machine.next_deadline(), Some(ms(11_000)));
    let (mut machine, mut effects) = (start(false), Vec::new());
    machine.fire(ms(40_000), &mut effects);
    assert_eq!(outcome(&machine.state, &effects), "Terminated fail(Timeout)");
}

#[test]
fn the_road_to_a_state_does_not_matter() {
    let one = after(false, &[Event::Final]);
    let other = after(false, &[Event::Provisional, Event::Provisional, Event::Final]);
    assert_eq!(one, other);
    for (_, event) in EVENTS {
        let (mut one, mut other) = (one.clone(), other.clone());
        let (mut a, mut b) = (Vec::new(), Vec::new());
        one.on(ms(1), event, &mut a);
        other.on(ms(1), event, &mut b);
        assert_eq!((one, a), (other, b));
    }
}
