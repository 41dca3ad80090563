//! What is not for this server, or not SIP at all.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::Scenario;
use crate::lab::Lab;
use crate::server::{ALICE, BOB};
use crate::sipp::{Model, play, say};
use crate::wait;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    ("options-200", options),
    ("subscribe-489", subscribe),
    ("invite-405", invite),
    ("garbage-closes-that-connection-only", garbage),
];

fn options(lab: &mut Lab) -> Result<(), String> {
    play(&lab.udp(), "options", ALICE, &[])?;
    play(&lab.tcp(), "options", ALICE, &[]).map(drop)
}

fn subscribe(lab: &mut Lab) -> Result<(), String> {
    play(&lab.udp(), "subscribe", ALICE, &[]).map(drop)
}

fn invite(lab: &mut Lab) -> Result<(), String> {
    let to = BOB.address();
    for place in [lab.udp(), lab.tcp()] {
        play(&place, "invite", ALICE, &[("to", &to)])?;
    }
    Ok(())
}

fn garbage(lab: &mut Lab) -> Result<(), String> {
    let place = lab.tcp();
    let laptop = Model::plain(ALICE, "laptop").up(&place)?;
    for octets in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not for this port\r\n\r\n".as_slice(),
        b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n".as_slice(),
        &[0xff; 64 * 1024],
        b"MESSAGE sip:alice@a.example SIP/2.0\r\nContent-Length: -5\r\n\r\n".as_slice(),
    ] {
        is_closed_after(lab.server.v4, octets)?;
    }
    say(&place, BOB, ALICE, "still here")?;
    laptop.has(&["still here"])
}

/// The server closes a connection on which these octets come, at once: an idle one would be closed
/// in the end as well.
fn is_closed_after(server: SocketAddr, octets: &[u8]) -> Result<(), String> {
    let trouble = |e: std::io::Error| format!("a connection to {server}: {e}");
    let watch = wait::Watch::start();
    let mut stream = TcpStream::connect(server).map_err(trouble)?;
    stream.set_read_timeout(Some(wait::SOON)).map_err(trouble)?;
    match stream.write_all(octets) {
        Err(e) if !matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
            return Err(trouble(e));
        }
        _ => {}
    }
    let mut answer = [0; 4096];
    loop {
        match stream.read(&mut answer) {
            Ok(0) => break,
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::ConnectionReset => break,
            Err(e) => return Err(format!("not closed after {octets:.16?}: {e}")),
        }
    }
    if watch.ms() < 5000 { Ok(()) } else { Err(format!("closed late after {octets:.16?}")) }
}
