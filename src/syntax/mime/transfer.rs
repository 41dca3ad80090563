//! Content-Transfer-Encoding (RFC 2045 §6) and charsets undone, for text that a person will read.

/// The text of `body`, or `None` where the encoding or the charset is not one of ours. Octets that
/// the charset does not know become U+FFFD. Without a charset, and for us-ascii, UTF-8 is assumed:
/// phones say the one and send the other.
pub(super) fn text(encoding: &[u8], charset: Option<&str>, body: &[u8]) -> Option<String> {
    let decoded = match encoding.trim_ascii().to_ascii_lowercase().as_slice() {
        b"" | b"7bit" | b"8bit" | b"binary" => body.to_vec(),
        b"base64" => base64(body),
        b"quoted-printable" => quoted_printable(body),
        _ => return None,
    };
    match charset.unwrap_or("utf-8").to_ascii_lowercase().as_str() {
        "utf-8" | "utf8" | "us-ascii" | "ascii" => {
            let octets = decoded.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&decoded);
            Some(String::from_utf8_lossy(octets).into_owned())
        }
        "iso-8859-1" | "latin1" => Some(decoded.into_iter().map(char::from).collect()),
        _ => None,
    }
}

/// Characters outside the alphabet are passed over, `=` ends the data (RFC 2045 §6.8); bits that do
/// not fill an octet are dropped.
fn base64(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len() / 4 * 3 + 2);
    let (mut bits, mut held) = (0u32, 0u32);
    for o in input {
        let six = match o {
            b'A'..=b'Z' => o - b'A',
            b'a'..=b'z' => o - b'a' + 26,
            b'0'..=b'9' => o - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => break,
            _ => continue,
        };
        bits = (bits << 6) | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(((bits >> held) & 0xff) as u8);
            bits &= (1 << held) - 1;
        }
    }
    out
}

/// `=XX`, soft line breaks, and blanks at line ends dropped; a `=` that starts neither stays as it
/// is (RFC 2045 §6.7).
fn quoted_printable(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len());
    for line in input.split_inclusive(|o| *o == b'\n') {
        let (line, end) = match line.strip_suffix(b"\r\n") {
            Some(line) => (line, &b"\r\n"[..]),
            None => line.strip_suffix(b"\n").map_or((line, &b""[..]), |line| (line, &b"\n"[..])),
        };
        let line = line.trim_ascii_end();
        let (line, soft) = line.strip_suffix(b"=").map_or((line, false), |line| (line, true));
        let mut rest = line;
        while let Some((o, tail)) = rest.split_first() {
            rest = tail;
            let octet = match (o, tail) {
                (b'=', [high, low, after @ ..]) => hex(*high).zip(hex(*low)).map(|(h, l)| {
                    rest = after;
                    h << 4 | l
                }),
                _ => None,
            };
            out.push(octet.unwrap_or(*o));
        }
        if !soft {
            out.extend_from_slice(end);
        }
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok())
}
