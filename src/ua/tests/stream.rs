//! The same over a stream.

use super::*;

fn phone() -> Phone {
    Phone::with(config("bob", Kind::Cpm, Protocol::Tcp))
}

#[test]
fn messages_are_cut_out_of_the_stream_wherever_it_breaks() {
    let two = message(1, "c1", "text/plain", "one") + &message(1, "c2", "text/plain", "two");
    for size in [1, 7, 100, two.len()] {
        let mut bob = phone();
        for piece in two.as_bytes().chunks(size) {
            let octets = Bytes::copy_from_slice(piece);
            bob.act(|agent, now| agent.receive(now, octets));
        }
        let texts: Vec<_> = bob.agent.inbox().iter().map(|m| m.text.clone()).collect();
        assert_eq!(texts, [Some("one".to_string()), Some("two".to_string())], "{size}");
        assert_eq!(bob.sent.iter().map(|r| status_of(r)).collect::<Vec<_>>(), ["200", "200"]);
    }
}

#[test]
fn a_ping_is_answered_and_a_broken_stream_is_not_read_on() {
    let mut bob = phone();
    assert_eq!(bob.hears("\r\n\r\n"), ["\r\n"]);
    let register = bob.one(Agent::register);
    assert!(header(&register, "Via").starts_with("SIP/2.0/TCP "), "{register}");
    assert!(header(&register, "Contact").contains(";transport=tcp>"), "{register}");
    assert!(bob.wait(Duration::from_secs(20)).is_empty(), "nothing is sent twice over TCP");
    let unframed = message(1, "c1", "text/plain", "x").replace("Content-Length", "X-Length");
    assert!(bob.hears(&unframed).is_empty());
    assert!(bob.hears(&message(1, "c2", "text/plain", "x")).is_empty());
    assert!(bob.agent.inbox().is_empty());
    bob.act(Agent::disconnected);
    assert!(matches!(bob.events[..], [AgentEvent::RegisterFailed { status: 503 }]));
    assert_eq!(bob.hears(&message(1, "c2", "text/plain", "x")).len(), 1, "a new connection");
}
