//! The addresses on which SIP is heard.

use std::net::{IpAddr, SocketAddr};

use crate::base::limits;

use super::mistake::nearest;
use super::table::{Notes, Section};
use super::{Protocol, SIP_PORT};

/// What the table `[listen]` says; the defaults where it says nothing.
pub(super) fn listeners(
    notes: &mut Notes<'_>,
    section: &Section<'_>,
) -> Vec<(Protocol, SocketAddr)> {
    for key in ["msrp", "http"] {
        notes.texts(section, key, "127.0.0.1:8080");
        notes.ignored(section, key);
    }
    let example = "udp:127.0.0.1:5060";
    if !section.has("sip") {
        let loopback = SocketAddr::from(([127, 0, 0, 1], SIP_PORT));
        return vec![(Protocol::Udp, loopback), (Protocol::Tcp, loopback)];
    }
    let key = "listen.sip";
    let Some(texts) = notes.texts(section, "sip", example) else { return Vec::new() };
    let too_few =
        if texts.value.is_empty() { Some("is empty: nothing would be heard") } else { None };
    let too_many = (texts.value.len() > limits::LISTENERS_MAX).then_some("has too many entries");
    if let Some(what) = too_few.or(too_many) {
        let fix = format!("write 1 to {} entries like \"{example}\"", limits::LISTENERS_MAX);
        notes.mistake(texts.line, key, what, fix);
        return Vec::new();
    }
    let mut sip: Vec<(Protocol, SocketAddr)> = Vec::new();
    for text in texts.value {
        let (protocol, address) = match listener(&text.value) {
            Ok(listener) => listener,
            Err((what, fix)) => {
                notes.mistake(text.line, key, format!("`{}` {what}", text.value), fix);
                continue;
            }
        };
        let clash = sip.iter().find(|(other, taken)| {
            *other == protocol
                && taken.port() == address.port()
                && address.port() != 0
                && taken.is_ipv4() == address.is_ipv4()
                && (taken.ip() == address.ip()
                    || taken.ip().is_unspecified()
                    || address.ip().is_unspecified())
        });
        match clash {
            Some((_, taken)) => {
                let what =
                    format!("`{}` and `{protocol}:{taken}` are the same address", text.value);
                notes.mistake(text.line, key, what, "remove one of them or change its port");
            }
            None => sip.push((protocol, address)),
        }
    }
    sip
}

/// One listener; the error is (what, fix).
fn listener(text: &str) -> Result<(Protocol, SocketAddr), (String, String)> {
    let (scheme, address) = match text.split_once(':') {
        Some((scheme, rest)) if scheme.bytes().all(|octet| octet.is_ascii_alphabetic()) => {
            (scheme.to_ascii_lowercase(), rest)
        }
        _ => (String::new(), text),
    };
    let protocol = match scheme.as_str() {
        "udp" => Protocol::Udp,
        "tcp" => Protocol::Tcp,
        "tls" | "ws" | "wss" => {
            let fix = format!("write \"tcp:{address}\" or remove it");
            return Err((format!("needs {scheme}:, which is not in this version"), fix));
        }
        "" => {
            let fix = format!("write \"udp:{address}\" or \"tcp:{address}\"");
            return Err(("does not say udp: or tcp:".to_owned(), fix));
        }
        _ => {
            let near = nearest(&scheme, ["udp", "tcp"]).unwrap_or("udp");
            return Err((
                "has an unknown transport".to_owned(),
                format!("write \"{near}:{address}\""),
            ));
        }
    };
    if let Ok(address) = address.parse() {
        return Ok((protocol, address));
    }
    let bare = address.strip_prefix('[').and_then(|v| v.strip_suffix(']')).unwrap_or(address);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        let whole = SocketAddr::new(ip, SIP_PORT);
        // `::1:5060` reads as an address without a port: show the brackets for both meanings.
        let split = bare.rsplit_once(':').and_then(|(ip, port)| {
            Some(SocketAddr::new(IpAddr::V6(ip.parse().ok()?), port.parse().ok()?))
        });
        let meant = split.filter(|_| bare == address && ip.is_ipv6()).unwrap_or(whole);
        let what = if split.is_some() { "needs brackets and a port" } else { "has no port" };
        return Err((what.to_owned(), format!("write \"{protocol}:{meant}\"")));
    }
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    Err((
        "is not an IP address and a port".to_owned(),
        format!("write \"{protocol}:127.0.0.1:{}\"", port.unwrap_or(SIP_PORT)),
    ))
}
