//! Ports that are free: the system is asked for them.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

/// A port that is free for UDP and TCP on `host`, with `more` free ones right behind it.
///
/// # Errors
/// The machine has none, or no such address.
pub fn free(host: IpAddr, more: u16) -> Result<u16, String> {
    let mut trouble = String::new();
    for _ in 0..100 {
        match row(host, more) {
            Ok(port) => return Ok(port),
            Err(e) => trouble = e.to_string(),
        }
    }
    Err(format!("no free port on {host}: {trouble}"))
}

/// Whether this machine has the address at all.
pub fn has(host: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(host, 0)).is_ok()
}

fn row(host: IpAddr, more: u16) -> std::io::Result<u16> {
    let first = TcpListener::bind(SocketAddr::new(host, 0))?;
    let port = first.local_addr()?.port();
    // Held until all are known to be free.
    let mut udp = vec![UdpSocket::bind(SocketAddr::new(host, port))?];
    let mut tcp = vec![first];
    for next in 1..=more {
        let at = SocketAddr::new(host, port.saturating_add(next));
        udp.push(UdpSocket::bind(at)?);
        tcp.push(TcpListener::bind(at)?);
    }
    Ok(port)
}
