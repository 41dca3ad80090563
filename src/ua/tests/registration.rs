//! REGISTER: challenges, nonces, expiries, timers.

use super::*;
use crate::base::hash::{md5_hex, sha256_hex};
use crate::ua::Phase;

/// What RFC 7616 §3.4.1 says the response has to be.
fn expected(request: &str, hash: fn(&[u8]) -> String) -> String {
    let ha1 = hash(b"alice:a.example:secret");
    let ha2 = hash(b"REGISTER:sip:a.example");
    let (nonce, nc) = (credential(request, "nonce"), credential(request, "nc"));
    let cnonce = credential(request, "cnonce");
    hash(format!("{ha1}:{nonce}:{nc}:{cnonce}:auth:{ha2}").as_bytes())
}

#[test]
fn a_challenge_is_answered_and_the_registration_refreshed() {
    let md5 = challenge("m", ", algorithm=MD5");
    let sha = challenge("s", ", algorithm=SHA-256");
    let both = format!("{md5}{sha}");
    let turned = format!("{sha}{md5}");
    let unnamed = challenge("u", "");
    type Hash = fn(&[u8]) -> String;
    let rows: [(&str, &str, bool, &str, Hash); 6] = [
        ("MD5 alone", &md5, false, "MD5", md5_hex),
        ("SHA-256 alone", &sha, false, "SHA-256", sha256_hex),
        ("both", &both, false, "SHA-256", sha256_hex),
        ("both, the other way round", &turned, false, "SHA-256", sha256_hex),
        ("both, an old phone", &turned, true, "MD5", md5_hex),
        ("no algorithm", &unnamed, false, "", md5_hex),
    ];
    for (what, lines, md5_only, algorithm, hash) in rows {
        let mut phone = Phone::new("alice", Kind::Cpm);
        phone.agent.set_md5_only(md5_only);
        let first = phone.one(Agent::register);
        assert!(first.starts_with("REGISTER sip:a.example SIP/2.0\r\n"), "{first}");
        assert_eq!(header(&first, "Authorization"), "");
        assert!(header(&first, "Contact").contains("+sip.instance=\"<urn:uuid:"), "{first}");
        assert!(header(&first, "Contact").contains("oma.cpm.msg"), "{first}");
        let second = phone.hears(&answer(&first, 401, lines)).remove(0);
        assert_eq!(credential(&second, "algorithm"), algorithm, "{what}");
        assert_eq!(credential(&second, "response"), expected(&second, hash), "{what}");
        assert_eq!(header(&second, "Call-ID"), header(&first, "Call-ID"));
        assert_eq!(header(&second, "CSeq"), "2 REGISTER");
        assert_ne!(header(&second, "Via"), header(&first, "Via"));
        phone.hears(&answer(&second, 200, &granted(&second, 100)));
        let events = phone.take_events();
        let [AgentEvent::Registered { bindings, expires: 100 }] = &events[..] else {
            panic!("{what}: {events:?}");
        };
        assert_eq!(bindings.len(), 2);
        assert_eq!(bindings[1].instance.as_deref(), Some("urn:uuid:other"));

        // Four fifths of 100 s later it refreshes, with the same nonce.
        assert!(phone.wait(Duration::from_secs(79)).is_empty(), "{what}");
        let refresh = phone.wait(Duration::from_secs(1)).remove(0);
        assert_eq!(credential(&refresh, "nc"), "00000002");
        assert_eq!(credential(&refresh, "response"), expected(&refresh, hash), "{what}");
    }
}

#[test]
fn no_challenge_that_we_can_answer_is_a_failure() {
    for lines in [&challenge("n", ", algorithm=SHA-512-256"), "WWW-Authenticate: Basic r=1\r\n", ""]
    {
        let mut phone = Phone::new("alice", Kind::Plain);
        let first = phone.one(Agent::register);
        assert!(phone.hears(&answer(&first, 401, lines)).is_empty());
        assert!(matches!(phone.events[..], [AgentEvent::RegisterFailed { status: 401 }]));
    }
}

#[test]
fn a_nonce_serves_many_requests_and_is_replaced_when_stale() {
    let mut phone = Phone::new("alice", Kind::Cpm);
    phone.register(&challenge("n1", ""));
    for count in 2..5 {
        let again = phone.one(Agent::register);
        assert_eq!(credential(&again, "nonce"), "n1");
        assert_eq!(credential(&again, "nc"), format!("{count:08x}"));
        phone.hears(&answer(&again, 200, &granted(&again, 600)));
    }
    let sent = phone.one(|agent, now| agent.send_text(now, "sip:bob@b.example", "hi"));
    assert_eq!(credential(&sent, "nc"), "00000005");
    let repeated = phone.hears(&answer(&sent, 401, &challenge("n2", ", stale=true"))).remove(0);
    assert_eq!((credential(&repeated, "nonce"), credential(&repeated, "nc")), ("n2", "00000001"));
    assert_eq!(header(&repeated, "Call-ID"), header(&sent, "Call-ID"));
    phone.hears(&answer(&repeated, 202, "Authentication-Info: qop=auth, nextnonce=\"n3\"\r\n"));
    let next = phone.one(Agent::register);
    assert_eq!((credential(&next, "nonce"), credential(&next, "nc")), ("n3", "00000001"));
    // A server that finds every nonce stale is not asked for ever.
    let stale = |n: &str| challenge(n, ", stale=true");
    let next = phone.hears(&answer(&next, 401, &stale("n4"))).remove(0);
    assert!(phone.hears(&answer(&next, 401, &stale("n5"))).is_empty());
    assert!(matches!(phone.events.last(), Some(AgentEvent::RegisterFailed { status: 401 })));
}

#[test]
fn a_wrong_password_ends_after_one_repeat() {
    let mut phone = Phone::new("alice", Kind::Plain);
    let first = phone.one(Agent::register);
    let second = phone.hears(&answer(&first, 401, &challenge("n1", ""))).remove(0);
    assert!(phone.hears(&answer(&second, 401, &challenge("n2", ""))).is_empty());
    assert!(matches!(phone.events[..], [AgentEvent::RegisterFailed { status: 401 }]));
    assert_eq!(phone.agent.state().phase, Phase::Failed(401));
    assert!(phone.wait(Duration::from_secs(3600)).is_empty(), "it does not go on by itself");
    let next = phone.one(Agent::register);
    assert_eq!(header(&next, "Authorization"), "", "what was wrong is not sent again unasked");
}

#[test]
fn too_brief_an_interval_is_raised_once() {
    let mut phone = Phone::new("alice", Kind::Cpm);
    let first = phone.one(Agent::register);
    assert_eq!(header(&first, "Expires"), "600");
    let second = phone.hears(&answer(&first, 423, "Min-Expires: 1800\r\n")).remove(0);
    assert_eq!(header(&second, "Expires"), "1800");
    assert!(phone.events.is_empty());
    assert!(phone.hears(&answer(&second, 423, "Min-Expires: 1800\r\n")).is_empty());
    assert!(matches!(phone.events[..], [AgentEvent::RegisterFailed { status: 423 }]));
}

#[test]
fn without_an_answer_it_is_sent_again_and_given_up_after_32_seconds() {
    let mut phone = Phone::new("alice", Kind::Cpm);
    let first = phone.one(Agent::register);
    let repeats = phone.wait(Duration::from_millis(31_999));
    // Timer E: 0.5, 1, 2 s, then every 4 s.
    assert_eq!(repeats.len(), 10);
    assert!(repeats.iter().all(|r| *r == first));
    phone.wait(Duration::from_millis(1));
    assert!(matches!(phone.events[..], [AgentEvent::RegisterFailed { status: 408 }]));
    assert!(phone.hears(&answer(&first, 200, "")).is_empty(), "too late");
    assert_eq!(phone.events.len(), 1);
}

#[test]
fn a_refresh_that_failed_is_tried_again() {
    let mut phone = Phone::new("alice", Kind::Cpm);
    phone.register(&challenge("n1", ""));
    let refresh = phone.wait(Duration::from_secs(480)).remove(0);
    phone.hears(&answer(&refresh, 503, "Retry-After: 5 (soon)\r\n"));
    assert!(matches!(phone.take_events()[..], [AgentEvent::RegisterFailed { status: 503 }]));
    let again = phone.wait(Duration::from_secs(5)).remove(0);
    phone.hears(&answer(&again, 200, &granted(&again, 600)));
    assert!(phone.agent.is_registered());
}

#[test]
fn bindings_are_fetched_and_removed() {
    let mut phone = Phone::new("alice", Kind::Cpm);
    phone.register(&challenge("n1", ""));
    let all = "Contact: <sip:a@192.0.2.8>;expires=9\r\n";
    type Verb = fn(&mut Agent, Now);
    let rows: [(Verb, &str, &str, &str); 3] = [
        (Agent::fetch, "", "", all),
        (Agent::unregister, "<sip:alice@192.0.2.7:5071>", "0", all),
        (Agent::unregister_all, "*", "0", ""),
    ];
    for (what, contact, expires, lines) in rows {
        let request = phone.one(what);
        assert!(header(&request, "Contact").starts_with(contact), "{request}");
        assert_eq!(header(&request, "Contact").is_empty(), contact.is_empty());
        assert_eq!(header(&request, "Expires"), expires);
        phone.hears(&answer(&request, 200, lines));
        match &phone.take_events()[..] {
            [AgentEvent::Registered { bindings, expires: 0 }] if contact.is_empty() => {
                assert_eq!((bindings.len(), bindings[0].expires), (1, 9));
                assert!(phone.agent.is_registered());
            }
            [AgentEvent::Unregistered] => assert_eq!(phone.agent.state().phase, Phase::Idle),
            other => panic!("{other:?}"),
        }
    }
    assert!(phone.wait(Duration::from_secs(3600)).is_empty());
}

#[test]
fn one_register_at_a_time() {
    let mut phone = Phone::new("alice", Kind::Cpm);
    let first = phone.one(|agent, now| {
        agent.register(now);
        agent.register(now);
        agent.unregister(now);
    });
    let second = phone.hears(&answer(&first, 200, &granted(&first, 600))).remove(0);
    assert_eq!(header(&second, "Expires"), "600");
    let third = phone.hears(&answer(&second, 200, &granted(&second, 600))).remove(0);
    assert_eq!(header(&third, "Expires"), "0");
}

#[test]
fn after_a_restart_nothing_is_left_but_the_instance() {
    let mut phone = Phone::new("alice", Kind::Cpm);
    phone.register(&challenge("n1", ""));
    let before = phone.one(Agent::register);
    phone.agent.restart();
    assert_eq!(phone.agent.next_deadline(), None);
    assert!(phone.hears(&answer(&before, 200, "")).is_empty() && phone.events.is_empty());
    let after = phone.one(Agent::register);
    assert_ne!(header(&after, "Call-ID"), header(&before, "Call-ID"));
    assert_eq!(header(&after, "Contact"), header(&before, "Contact"));
    assert_eq!(header(&after, "Authorization"), "");
}
