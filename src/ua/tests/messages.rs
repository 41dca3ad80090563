//! MESSAGE both ways, and receipts.

use super::*;
use crate::syntax::cpim::Wanted;
use crate::syntax::imdn::Disposition;
use crate::ua::LINE_FORM_MARK;

const DELIVERY: &str = "imdn.Disposition-Notification: positive-delivery, display\r\n";
const BOTH: Wanted =
    Wanted { positive_delivery: true, negative_delivery: false, display: true, processing: false };

fn body_of(message: &str) -> &str {
    message.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

fn seen(phone: &mut Phone) -> Vec<(Option<String>, u32)> {
    let events = phone.take_events().into_iter();
    events
        .filter_map(|e| match e {
            AgentEvent::Received(m) => Some((m.text, m.shown)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_text_goes_out_and_its_answer_comes_back() {
    for kind in [Kind::Cpm, Kind::Plain] {
        for (status, name) in [(202, "accepted"), (404, "not found"), (603, "declined")] {
            let mut alice = Phone::new("alice", kind);
            let mut sent = None;
            let request = alice.one(|agent, now| {
                sent = Some(agent.send_text(now, "sip:bob@b.example", "hé\r\nVia: x"));
            });
            let sent = sent.expect("a reference");
            assert!(request.starts_with("MESSAGE sip:bob@b.example SIP/2.0\r\n"), "{request}");
            assert_eq!(header(&request, "Call-ID"), &*sent.message_id);
            assert_eq!(header(&request, "Content-Length"), "11");
            assert_eq!(body_of(&request), "hé\r\nVia: x");
            assert_eq!(header(&request, "Contact"), "", "RFC 3428 §4");
            assert_eq!(header(&request, "Conversation-ID").is_empty(), kind == Kind::Plain);
            alice.hears(&answer(&request, 100, ""));
            assert!(alice.events.is_empty(), "{name}");
            alice.hears(&answer(&request, status, ""));
            alice.hears(&answer(&request, status, ""));
            let [AgentEvent::Sent { message, status: told }] = &alice.events[..] else {
                panic!("{:?}", alice.events);
            };
            assert_eq!((message, *told), (&sent, status));
        }
    }
}

#[test]
fn a_proxy_challenge_is_answered_in_kind() {
    let mut alice = Phone::new("alice", Kind::Plain);
    let request = alice.one(|agent, now| agent.send_text(now, "sip:bob@b.example", "hi"));
    let lines = challenge("p1", "").replace("WWW-", "Proxy-");
    let again = alice.hears(&answer(&request, 407, &lines)).remove(0);
    assert!(header(&again, "Proxy-Authorization").contains("nonce=\"p1\""), "{again}");
    let register = alice.one(Agent::register);
    assert_eq!(header(&register, "Proxy-Authorization"), "");
}

#[test]
fn to_one_uri_messages_go_one_by_one() {
    let mut alice = Phone::new("alice", Kind::Plain);
    let (bob, carol) = ("sip:bob@b.example", "sip:carol@b.example");
    let sent = alice.act(|agent, now| {
        for (to, text) in [(bob, "1"), (bob, "2"), (carol, "3"), (bob, "4")] {
            agent.send_text(now, to, text);
        }
    });
    assert_eq!(sent.iter().map(|r| body_of(r)).collect::<Vec<_>>(), ["1", "3"]);
    let two = alice.hears(&answer(&sent[0], 200, ""));
    assert_eq!(two.iter().map(|r| body_of(r)).collect::<Vec<_>>(), ["2"]);
    // An unanswered one does not hold the next for ever.
    alice.wait(Duration::from_secs(32));
    assert_eq!(alice.sent.last().map(|r| body_of(r)), Some("4"));
    let failed = |e: &AgentEvent| matches!(e, AgentEvent::SendFailed { timeout: true, .. });
    assert_eq!(alice.events.iter().filter(|e| failed(e)).count(), 2);
}

#[test]
fn a_retransmission_is_answered_again_and_shown_once() {
    for (kind, shown_when_sent_anew) in [(Kind::Cpm, 1), (Kind::Plain, 2)] {
        let mut bob = Phone::new("bob", kind);
        let first = bob.hears(&message(1, "c1", "text/plain", "hi"));
        assert_eq!(status_of(&first[0]), "200");
        assert!(header(&first[0], "To").contains(";tag="));
        assert_eq!(bob.hears(&message(1, "c1", "text/plain", "hi")), first);
        assert_eq!(seen(&mut bob), [(Some("hi".to_string()), 1)]);
        // The same message in another transaction: a server that started anew.
        assert_eq!(status_of(&bob.hears(&message(2, "c1", "text/plain", "hi"))[0]), "200");
        let shown = bob.agent.inbox().iter().map(|m| m.shown).collect::<Vec<_>>();
        assert_eq!(shown, [shown_when_sent_anew]);
        assert_eq!(seen(&mut bob).len(), usize::from(kind == Kind::Plain));
        assert_eq!((bob.agent.counts().received, bob.agent.counts().repeated), (1, 1));
        bob.hears(&message(1, "c2", "text/plain", "hi"));
        assert_eq!(bob.agent.inbox().len(), 2);
        // Timer J: then the retransmission is no longer known.
        bob.wait(Duration::from_secs(33));
        assert_eq!(bob.agent.next_deadline(), None);
    }
}

#[test]
fn requests_and_their_answers() {
    let text = || message(1, "c1", "text/plain", "hi");
    let with = |line: &str| text().replace("Max-Forwards", &format!("{line}\r\nMax-Forwards"));
    let method = |m: &str| text().replace("MESSAGE", m);
    let ok = Answers::Ok200;
    let rows = [
        ("text", text(), ok, "200", "", "", 1),
        (
            "with parameters",
            message(1, "c", "Text/Plain; charset=utf-8", "x"),
            ok,
            "200",
            "",
            "",
            1,
        ),
        ("cpim", message(1, "c", "message/cpim", "x"), ok, "415", "Accept", "text/plain", 0),
        ("an image", message(1, "c", "image/png", "x"), ok, "415", "Accept", "text/plain", 0),
        ("empty", message(1, "c", "image/png", ""), ok, "200", "", "", 1),
        ("coded", with("Content-Encoding: gzip"), ok, "415", "Accept-Encoding", "identity", 0),
        ("identity", with("Content-Encoding: identity"), ok, "200", "", "", 1),
        ("required", with("Require: x-new"), ok, "420", "Unsupported", "x-new", 0),
        ("OPTIONS", method("OPTIONS"), ok, "200", "Allow", "MESSAGE, OPTIONS", 0),
        ("OPTIONS", method("OPTIONS"), ok, "200", "Accept", "text/plain", 0),
        ("INVITE", method("INVITE"), ok, "405", "Allow", "MESSAGE, OPTIONS", 0),
        ("CANCEL", method("CANCEL"), ok, "481", "", "", 0),
        ("ACK", method("ACK"), ok, "", "", "", 0),
        ("no From", text().replace("From: <", "X: <"), ok, "400", "", "", 0),
        ("told to refuse", text(), Answers::Status(486), "486", "", "", 0),
        ("told to accept", text(), Answers::Status(202), "202", "", "", 1),
        ("silent", text(), Answers::Silent, "", "", "", 0),
        ("silent to all", method("OPTIONS"), Answers::Silent, "", "", "", 0),
    ];
    for (what, request, answers, status, name, value, shown) in rows {
        let mut bob = Phone::new("bob", Kind::Plain);
        bob.agent.set_answers(answers);
        let answered = bob.hears(&request);
        assert_eq!(answered.first().map_or("", |a| status_of(a)), status, "{what}");
        if !name.is_empty() {
            assert_eq!(header(&answered[0], name), value, "{what}");
        }
        assert_eq!(seen(&mut bob).len(), shown, "{what}");
    }
}

#[test]
fn garbage_is_dropped() {
    let mut bob = Phone::new("bob", Kind::Plain);
    for octets in ["", "\0\0\0\0", "hello", "SIP/2.0 200 OK\r\n\r\n"] {
        assert!(bob.hears(octets).is_empty(), "{octets:?}");
    }
    assert!(bob.events.is_empty());
}

#[test]
fn a_receipt_goes_to_whoever_asked_once() {
    let asks = |more: &str| message(1, "c1", "message/cpim", &cpim("m1", more, "hi"));
    let rows = [
        ("asked", asks(DELIVERY), Receipts::Delivered, vec!["delivered"]),
        (
            "asked for both",
            asks(DELIVERY),
            Receipts::DeliveredAndDisplayed,
            vec!["delivered", "displayed"],
        ),
        ("gives none", asks(DELIVERY), Receipts::None, vec![]),
        ("not asked", asks(""), Receipts::DeliveredAndDisplayed, vec![]),
        (
            "asks for failures",
            asks("imdn.Disposition-Notification: negative-delivery\r\n"),
            Receipts::Delivered,
            vec![],
        ),
        ("text cannot ask", message(1, "c1", "text/plain", "x"), Receipts::Delivered, vec![]),
        (
            "our own message",
            asks(&format!("{DELIVERY}Message-Direction: sent\r\n")),
            Receipts::Delivered,
            vec![],
        ),
    ];
    for (what, request, receipts, expected) in rows {
        let mut bob = Phone::new("bob", Kind::Cpm);
        bob.agent.set_receipts(receipts);
        let mut sent = bob.hears(&request).split_off(1);
        // The second waits for the first: both go to the same URI.
        while sent.len() < expected.len() {
            let last = sent.last().cloned().unwrap_or_default();
            sent.extend(bob.hears(&answer(&last, 200, "")));
        }
        assert_eq!(sent.len(), expected.len(), "{what}: {sent:#?}");
        for (receipt, status) in sent.iter().zip(&expected) {
            assert!(receipt.starts_with("MESSAGE sip:alice@a.example SIP/2.0"), "{what}");
            assert!(header(receipt, "From").starts_with("<sip:bob@a.example>"), "{what}");
            assert_eq!(header(receipt, "Content-Type"), "message/cpim");
            for part in [
                "From: <sip:bob@a.example>\r\n",
                "Content-Disposition: notification\r\n",
                "<message-id>m1</message-id>",
                &format!("<status><{status}/></status>"),
            ] {
                assert!(body_of(receipt).contains(part), "{what}: {part} in {receipt}");
            }
        }
        // Again, in another transaction and after the user has looked at it.
        let again = bob.hears(&request.replace("z9hG4bKc11", "z9hG4bKnew"));
        assert_eq!(again.len(), 1, "{what}: {again:#?}");
        assert!(bob.take_events().iter().all(|e| !matches!(e, AgentEvent::Sent { .. })));
    }
}

#[test]
fn displayed_is_told_when_the_user_looks_and_only_once() {
    let mut bob = Phone::new("bob", Kind::Cpm);
    let request = message(1, "c1", "message/cpim", &cpim("m1", DELIVERY, "hi"));
    let request = request.replacen("From: <sip:alice", "From: <sip:hidden", 1);
    let delivered = bob.hears(&request).remove(1);
    bob.hears(&answer(&delivered, 200, ""));
    let displayed = bob.one(|agent, now| assert!(agent.displayed(now, "m1")));
    // Receipts go to the CPIM identity, where the message has one.
    assert!(displayed.starts_with("MESSAGE sip:alice@a.example "), "{displayed}");
    assert!(displayed.contains("<displayed/>"));
    assert!(bob.act(|agent, now| assert!(!agent.displayed(now, "m1"))).is_empty());
    assert!(bob.act(|agent, now| assert!(!agent.displayed(now, "unknown"))).is_empty());
    assert_eq!(bob.agent.counts().given, 2);

    let nobody = message(1, "c2", "message/cpim", &cpim("m2", DELIVERY, "hi")).replace(
        "\r\n\r\nFrom: <sip:alice@a.example>",
        "\r\n\r\nFrom: <sip:anonymous@anonymous.invalid>",
    );
    bob.hears(&answer(&displayed, 200, ""));
    let receipt = bob.hears(&nobody).remove(1);
    assert!(receipt.starts_with("MESSAGE sip:alice@a.example "), "{receipt}");
}

#[test]
fn never_a_receipt_for_a_receipt() {
    let (mut alice, mut bob) = (Phone::new("alice", Kind::Cpm), Phone::new("bob", Kind::Cpm));
    let mut sent = None;
    let request = alice.one(|agent, now| {
        sent = Some(agent.send_cpim(now, "sip:bob@a.example", "hi", BOTH));
    });
    let id = sent.expect("a reference").message_id;
    // The server carries the body to bob, and bob's receipt to alice.
    let receipt = bob.hears(&message(1, "c1", "message/cpim", body_of(&request))).remove(1);
    assert_eq!(bob.agent.inbox()[0].message_id.as_deref(), Some(&*id));
    assert_eq!(bob.agent.inbox()[0].text.as_deref(), Some("hi"));
    // Even one that asks.
    let asking = body_of(&receipt).replacen("\r\n\r\n", &format!("\r\n{DELIVERY}\r\n"), 1);
    for (n, body) in [(1, body_of(&receipt)), (2, &asking)] {
        let body = body.replacen("imdn.Message-ID: ", &format!("imdn.Message-ID: {n}"), 1);
        let answers = alice.hears(&message(n, "c9", "message/cpim", &body));
        assert_eq!(answers.len(), 1, "{answers:#?}");
        let [AgentEvent::Receipt { message_id, disposition }] = &alice.take_events()[..] else {
            panic!("no receipt");
        };
        assert_eq!((&**message_id, *disposition), (&*id, Disposition::Delivered));
    }
    assert!(alice.agent.inbox().is_empty());
    assert_eq!(alice.agent.counts().receipts, 2);
}

#[test]
fn what_another_device_sent_is_a_copy() {
    let body = cpim("m1", DELIVERY, "mine");
    let in_cpim = cpim("m1", &format!("{DELIVERY}Message-Direction: sent\r\n"), "mine");
    let sip = message(1, "c1", "message/cpim", &body)
        .replace("Max-Forwards", "Message-Direction: sent\r\nMax-Forwards");
    for request in [sip, message(1, "c1", "message/cpim", &in_cpim)] {
        let mut alice = Phone::new("alice", Kind::Cpm);
        assert_eq!(alice.hears(&request).len(), 1, "no receipt");
        let [AgentEvent::Copy(copy)] = &alice.events[..] else { panic!("{:?}", alice.events) };
        assert_eq!(copy.text.as_deref(), Some("mine"));
        assert!(alice.agent.inbox().is_empty());
        alice.hears(&request.replace("z9hG4bKc11", "z9hG4bKnew"));
        assert_eq!(alice.events.len(), 1);
        assert!(!alice.agent.displayed(alice.now, "m1"));
    }
}

#[test]
fn the_line_form_is_known_by_its_mark() {
    for (text, line_form) in [
        (format!("Alice: a photo {LINE_FORM_MARK}x1]"), true),
        ("just text".to_string(), false),
        (format!("two\nlines {LINE_FORM_MARK}x1]"), false),
    ] {
        let mut bob = Phone::new("bob", Kind::Plain);
        bob.hears(&message(1, "c1", "text/plain", &text));
        assert_eq!(bob.agent.inbox()[0].line_form, line_form, "{text}");
    }
}
