//! For the tests of the machines: tables of state × event, and what happens as time passes.

use std::fmt::Debug;

use super::timing::Effect;
use crate::base::now::Mono;

/// Checks lines of the form `state event | state effects | state effects`, the first outcome over
/// UDP, the second over TCP. `run` brings a machine into the state and gives it the event. Every
/// pair of `states` and `events` must have one line.
pub(super) fn check(
    table: &str,
    states: &[&str],
    events: &[&str],
    run: impl Fn(&str, &str, bool) -> String,
) {
    let mut missing: Vec<(&str, &str)> =
        states.iter().flat_map(|s| events.iter().map(|e| (*s, *e))).collect();
    for line in table.lines().filter(|line| !line.trim().is_empty()) {
        let sides: Vec<Vec<&str>> =
            line.split('|').map(|side| side.split_whitespace().collect()).collect();
        let [pair, udp, tcp] = &sides[..] else { panic!("not three columns: {line}") };
        let [state, event] = pair[..] else { panic!("not a state and an event: {line}") };
        let at = missing.iter().position(|p| *p == (state, event));
        missing.swap_remove(at.unwrap_or_else(|| panic!("unknown or twice: {line}")));
        assert_eq!(run(state, event, false), udp.join(" "), "UDP: {line}");
        assert_eq!(run(state, event, true), tcp.join(" "), "TCP: {line}");
    }
    assert!(missing.is_empty(), "no line for {missing:?}");
}

/// The variant of a state.
pub(super) fn name(state: &impl Debug) -> String {
    format!("{state:?}").chars().take_while(char::is_ascii_alphanumeric).collect()
}

/// A state and effects as a table has them.
pub(super) fn outcome(state: &impl Debug, effects: &[Effect]) -> String {
    std::iter::once(name(state)).chain(effects.iter().map(word)).collect::<Vec<_>>().join(" ")
}

fn word(effect: &Effect) -> String {
    match effect {
        Effect::Send(bytes) => {
            let end = bytes.iter().position(|o| *o == b' ').unwrap_or(bytes.len());
            format!("send({})", String::from_utf8_lossy(&bytes[..end]))
        }
        Effect::Deliver => "deliver".to_owned(),
        Effect::Fail(why) => format!("fail({why:?})"),
        Effect::Trying => "trying".to_owned(),
        Effect::AckMissing => "ack-missing".to_owned(),
    }
}

/// What a machine does if nothing happens but time: milliseconds and effects, until it has no
/// deadline any more.
pub(super) fn silence<M>(
    machine: &mut M,
    next_deadline: impl Fn(&M) -> Option<Mono>,
    mut fire: impl FnMut(&mut M, Mono, &mut Vec<Effect>),
) -> Vec<(u64, String)> {
    let mut seen = Vec::new();
    while let Some(at) = next_deadline(machine) {
        let mut effects = Vec::new();
        fire(machine, Mono(at.0 - 1), &mut effects);
        assert_eq!(effects, [], "a microsecond before {at:?}");
        fire(machine, at, &mut effects);
        seen.push((at.0 / 1000, effects.iter().map(word).collect::<Vec<_>>().join(" ")));
    }
    seen
}

/// So many milliseconds after the start.
pub(super) fn ms(ms: u64) -> Mono {
    Mono(ms * 1000)
}
