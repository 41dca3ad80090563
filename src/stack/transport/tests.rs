//! The ways back, garbage, streams.

use super::*;

fn listeners() -> Vec<Listener> {
    let listener = |id, protocol, local: &str, host: &str| Listener {
        id,
        protocol,
        local: local.parse().unwrap(),
        host: host.to_owned(),
    };
    vec![
        listener(0, Protocol::Udp, "0.0.0.0:5060", "sip.a.example"),
        listener(1, Protocol::Tcp, "[::]:5070", "2001:db8::1"),
    ]
}

fn udp(peer: &str) -> Flow {
    Flow { protocol: Protocol::Udp, listener: 0, peer: peer.parse().unwrap(), connection: 0 }
}

fn tcp(connection: u64) -> Flow {
    let peer = "192.0.2.1:49152".parse().unwrap();
    Flow { protocol: Protocol::Tcp, listener: 1, peer, connection }
}

fn message(via: &str, body: &str) -> String {
    format!(
        "MESSAGE sip:bob@b.example SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@a.example>;tag=a\r\nTo: <sip:bob@b.example>\r\nCall-ID: call\r\n\
         CSeq: 1 MESSAGE\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn ok(via: &str) -> String {
    format!(
        "SIP/2.0 200 OK\r\nVia: {via}\r\nFrom: <sip:alice@a.example>;tag=a\r\n\
         To: <sip:bob@b.example>;tag=b\r\nCall-ID: call\r\nCSeq: 1 MESSAGE\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

const TCP_VIA: &str = "SIP/2.0/TCP 192.0.2.1:5060;branch=z9hG4bK1";

fn receive(transport: &mut Transport, flow: Flow, octets: &[u8]) -> Vec<Arrival> {
    let mut out = Vec::new();
    transport.receive(flow, Bytes::copy_from_slice(octets), &mut out);
    out
}

fn datagram(flow: Flow, octets: &str) -> Vec<Arrival> {
    receive(&mut Transport::new(listeners()), flow, octets.as_bytes())
}

/// One word per arrival.
fn words(arrivals: &[Arrival]) -> Vec<String> {
    arrivals
        .iter()
        .map(|arrival| match arrival {
            Arrival::Request(r) => format!("request {}", String::from_utf8_lossy(&r.body)),
            Arrival::Response(r) => format!("response {}", r.status),
            Arrival::Answer(bytes) if bytes == "\r\n" => "pong".to_owned(),
            Arrival::Answer(bytes) => {
                String::from_utf8_lossy(bytes.get(..11).unwrap()).into_owned()
            }
            Arrival::Close => "close".to_owned(),
        })
        .collect()
}

fn request(arrivals: Vec<Arrival>) -> Request {
    match arrivals.into_iter().next() {
        Some(Arrival::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn received_and_rport_and_the_way_back() {
    // sent-by and parameters, source, what the Via becomes, where the answer goes
    for (sent, source, stamped, back) in [
        (
            "10.0.0.1:5070;branch=z9hG4bK1;rport",
            "192.0.2.1:1024",
            "10.0.0.1:5070;branch=z9hG4bK1;rport=1024;received=192.0.2.1",
            "192.0.2.1:1024",
        ),
        (
            "10.0.0.1:5070;branch=z9hG4bK1",
            "192.0.2.1:1024",
            "10.0.0.1:5070;branch=z9hG4bK1;received=192.0.2.1",
            "192.0.2.1:5070",
        ),
        (
            "192.0.2.1;branch=z9hG4bK1",
            "192.0.2.1:1024",
            "192.0.2.1;branch=z9hG4bK1",
            "192.0.2.1:5060",
        ),
        (
            "192.0.2.1:0;branch=z9hG4bK1",
            "192.0.2.1:1024",
            "192.0.2.1:0;branch=z9hG4bK1",
            "192.0.2.1:5060",
        ),
        (
            "10.0.0.1;maddr=203.0.113.9;branch=z9hG4bK1",
            "192.0.2.1:1024",
            "10.0.0.1;maddr=203.0.113.9;branch=z9hG4bK1;received=192.0.2.1",
            "192.0.2.1:5060",
        ),
        (
            "[2001:db8::9]:5070;branch=z9hG4bK1;rport",
            "[2001:db8::7]:1024",
            "[2001:db8::9]:5070;branch=z9hG4bK1;rport=1024;received=2001:db8::7",
            "[2001:db8::7]:1024",
        ),
    ] {
        let flow = udp(source);
        let octets = message(&format!("SIP/2.0/UDP {sent}"), "hi");
        let request = request(datagram(flow, &octets));
        let via = request.headers.text(Name::Via).unwrap();
        assert_eq!(via, format!("SIP/2.0/UDP {stamped}"));
        let way = reply_flow(&request, flow);
        assert_eq!(way, udp(back), "{sent}");
        assert_eq!(reply_flow(&request, way), way, "asked twice");
    }
}

#[test]
fn answers_over_tcp_stay_on_the_connection() {
    let mut transport = Transport::new(listeners());
    transport.opened(tcp(1));
    let octets = message("SIP/2.0/TCP 10.0.0.1:5070;branch=z9hG4bK1", "hi");
    let request = request(receive(&mut transport, tcp(1), octets.as_bytes()));
    assert_eq!(reply_flow(&request, tcp(1)), tcp(1));
}

#[test]
fn streams_may_be_cut_anywhere() {
    let ours = "SIP/2.0/TCP [2001:db8::1]:5070;branch=z9hG4bK1";
    let stream = [
        &message(TCP_VIA, "one"),
        "\r\n\r\n",
        "\r\n",
        &message(TCP_VIA, "two\r\n\r\nwith empty lines"),
        &ok(ours),
        "\r\n\r\n",
    ]
    .concat();
    let expected =
        ["request one", "pong", "request two\r\n\r\nwith empty lines", "response 200", "pong"];
    for cut in 0..=stream.len() {
        let mut transport = Transport::new(listeners());
        transport.opened(tcp(1));
        let mut arrivals = receive(&mut transport, tcp(1), &stream.as_bytes()[..cut]);
        arrivals.extend(receive(&mut transport, tcp(1), &stream.as_bytes()[cut..]));
        assert_eq!(words(&arrivals), expected, "cut at {cut}");
    }
    let mut transport = Transport::new(listeners());
    transport.opened(tcp(1));
    let each = stream.as_bytes().chunks(1);
    let arrivals: Vec<Arrival> = each.flat_map(|o| receive(&mut transport, tcp(1), o)).collect();
    assert_eq!(words(&arrivals), expected, "octet by octet");
}

#[test]
fn garbage_closes_its_connection_and_no_other() {
    let garbage = [
        "GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n".to_owned(),
        message(TCP_VIA, "").replace("Content-Length: 0\r\n", ""),
        message(TCP_VIA, "").replace("Content-Length: 0", "Content-Length: -1"),
        "\u{16}\u{3}\u{1}".repeat(20_000),
    ];
    for octets in garbage {
        let mut transport = Transport::new(listeners());
        transport.opened(tcp(1));
        transport.opened(tcp(2));
        let half = message(TCP_VIA, "whole");
        let (first, second) = half.split_at(100);
        assert_eq!(words(&receive(&mut transport, tcp(2), first.as_bytes())), [""; 0]);
        let arrivals = words(&receive(&mut transport, tcp(1), octets.as_bytes()));
        assert_eq!(arrivals.last().unwrap(), "close", "{octets:.20}");
        assert_eq!(words(&receive(&mut transport, tcp(1), b"more")), ["close"]);
        let arrivals = receive(&mut transport, tcp(2), second.as_bytes());
        assert_eq!(words(&arrivals), ["request whole"]);
        assert_eq!(transport.connections(), 1);
    }
}

#[test]
fn a_request_without_length_is_answered_before_the_connection_closes() {
    let mut transport = Transport::new(listeners());
    transport.opened(tcp(1));
    let octets = message(TCP_VIA, "").replace("Content-Length: 0\r\n", "");
    let arrivals = receive(&mut transport, tcp(1), octets.as_bytes());
    assert_eq!(words(&arrivals), ["SIP/2.0 400", "close"]);
}

#[test]
fn malformed_requests_are_answered_and_malformed_acks_are_not() {
    let flow = udp("192.0.2.1:1024");
    let good = message("SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bK1;rport", "");
    let bad = good.replace("Call-ID: call\r\n", "");
    let arrivals = datagram(flow, &bad);
    let [Arrival::Answer(answer)] = &arrivals[..] else { panic!("{arrivals:?}") };
    let Ok(Message::Response(response)) = read(answer.clone()) else { panic!("a response") };
    assert_eq!(response.status, 400);
    assert!(String::from_utf8_lossy(&response.reason).contains("Call-ID"));
    assert_eq!(response.via().unwrap().received(), Some(flow.peer.ip()));
    assert_eq!(response.to().unwrap().tag().map(str::len), Some(32));
    assert_eq!(words(&datagram(flow, &bad)), words(&arrivals), "and the next copy alike");
    assert_eq!(datagram(flow, &bad.replace("MESSAGE", "ACK")).len(), 0);
}

#[test]
fn a_malformed_response_does_not_cost_its_connection() {
    let mut transport = Transport::new(listeners());
    transport.opened(tcp(1));
    let bad = ok(TCP_VIA).replace("SIP/2.0 200", "SIP/2.0 2000");
    assert_eq!(words(&receive(&mut transport, tcp(1), bad.as_bytes())), [""; 0]);
    assert_eq!(words(&receive(&mut transport, tcp(1), b"\r\n\r\n")), ["pong"]);
}

#[test]
fn responses_that_are_not_ours_are_dropped() {
    let flow = udp("192.0.2.1:5060");
    for (sent_by, words_of) in [
        ("sip.a.example:5060", &["response 200"][..]),
        ("SIP.A.example", &["response 200"]),
        ("sip.a.example:5061", &[]),
        ("sip.b.example:5060", &[]),
        ("[2001:db8:0::1]:5070", &["response 200"]),
    ] {
        let octets = ok(&format!("SIP/2.0/UDP {sent_by};branch=z9hG4bK1"));
        assert_eq!(words(&datagram(flow, &octets)), words_of, "{sent_by}");
    }
}

#[test]
fn datagrams_without_sip_meet_silence() {
    for octets in ["", "\r\n\r\n", "\0\0\0\0", "hello", "GET / HTTP/1.1\r\n\r\n"] {
        assert_eq!(datagram(udp("192.0.2.1:5060"), octets).len(), 0, "{octets:?}");
    }
}

#[test]
fn what_our_vias_say_of_our_sockets() {
    let said: Vec<String> = listeners().iter().map(Listener::sent_by).collect();
    assert_eq!(said, ["sip.a.example:5060", "[2001:db8::1]:5070"]);
    let own = ["SIP.A.example:5060", "sip.a.example", "[2001:DB8::1] : 5070"];
    for sent_by in own {
        assert!(is_ours(&listeners(), sent_by.as_bytes()), "{sent_by}");
    }
    for sent_by in ["sip.a.example:5070", "a.example:5060", "[2001:db8::1]", "2001:db8::1", ""] {
        assert!(!is_ours(&listeners(), sent_by.as_bytes()), "{sent_by}");
    }
}

#[test]
fn connections_are_bounded() {
    let mut transport = Transport::new(listeners());
    for connection in 0..=CONNECTIONS_MAX as u64 {
        transport.opened(tcp(connection));
    }
    assert_eq!(transport.connections(), CONNECTIONS_MAX);
    let last = tcp(CONNECTIONS_MAX as u64);
    assert_eq!(words(&receive(&mut transport, last, b"x")), ["close"]);
    transport.closed(tcp(0));
    transport.opened(last);
    assert_eq!(words(&receive(&mut transport, last, b"\r\n\r\n")), ["pong"]);
}
