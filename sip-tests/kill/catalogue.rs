//! What is sent: message `n` of a run is made from the run's seed alone, so that it can be made
//! again where a device or the store shows it.

use bytes::Bytes;
use cpmd::base::ids::Ids;
use cpmd::base::now::Unix;
use cpmd::syntax::cpim::{Cpim, CpimWriter, Identity, Wanted};

/// What kind of content a message has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// text/plain of so many octets at least.
    Text(usize),
    /// message/cpim around such a text; whether receipts are asked for.
    Cpim(usize, bool),
    /// application/octet-stream.
    Octets(usize),
}

/// One message as it is sent.
pub struct Made {
    /// Content-Type.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
    /// What a person would read: the text, or the octets themselves.
    pub inner: Bytes,
    /// What the log keys it by.
    pub message_id: String,
}

/// The numbers of a run. Every choice of the run comes from one of these.
pub struct Dice(Ids);

impl Dice {
    /// A row of numbers for one purpose.
    pub fn new(seed: u64, purpose: u64) -> Dice {
        Dice(Ids::new(seed_of(seed, purpose)))
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0.number() % end.max(1)
    }

    /// A number from `from` up to and without `to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from))
    }

    /// True so many times in a hundred.
    pub fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }
}

/// A seed of the form that the program takes.
pub fn seed_of(seed: u64, purpose: u64) -> [u8; 32] {
    let mut out = [0; 32];
    out[..8].copy_from_slice(&seed.to_le_bytes());
    out[8..16].copy_from_slice(&purpose.to_le_bytes());
    out
}

/// Message `n`: from `from` to `to`.
pub fn make(seed: u64, n: usize, shape: Shape, from: &str, to: &str) -> Made {
    let inner = match shape {
        Shape::Text(len) | Shape::Cpim(len, _) => text(seed, n, len),
        Shape::Octets(len) => octets(seed, n, len),
    };
    let message_id = id(n);
    let (content_type, body) = match shape {
        Shape::Text(_) => ("text/plain;charset=utf-8", inner.clone()),
        Shape::Octets(_) => ("application/octet-stream", inner.clone()),
        Shape::Cpim(_, receipts) => {
            let wanted = Wanted { positive_delivery: receipts, ..Wanted::default() };
            let (from, to) = (Identity::of(from), Identity::of(to));
            // The same moment for every try: another body would be another message.
            let at = Unix(1_700_000_000_000 + n as u64);
            let cpim = CpimWriter::new(&from, &to, at).message_id(&message_id).wanted(wanted);
            ("message/cpim", cpim.finish(&inner))
        }
    };
    Made { content_type, body, inner, message_id }
}

/// The Message-ID of message `n`.
pub fn id(n: usize) -> String {
    format!("kill-{n}-end")
}

/// The message that a Message-ID, or a text that names one, means.
pub fn number(text: &str) -> Option<usize> {
    let rest = text.split_once("kill-")?.1;
    rest.split_once("-end")?.0.parse().ok()
}

/// In which form a device has a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shown {
    /// The octets that were sent.
    Whole,
    /// One line that names it.
    Line,
}

/// Looks at what a device got; the number and the form, or what is wrong with it. `made` finds
/// what was sent under a number.
pub fn recognise(
    content_type: &str,
    body: &Bytes,
    made: &dyn Fn(usize) -> Option<Made>,
) -> Result<(usize, Shown), String> {
    let octets = || String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
    if content_type.starts_with("message/cpim") {
        let cpim =
            Cpim::read(body).map_err(|e| format!("CPIM does not read: {e}: {}", octets()))?;
        let n = cpim.message_id().and_then(number).ok_or_else(|| format!("no id: {}", octets()))?;
        let sent = made(n).ok_or_else(|| format!("message {n} was never sent"))?;
        let same = if sent.content_type == "message/cpim" {
            sent.body == *body
        } else {
            sent.inner == *cpim.content()
        };
        return if same {
            Ok((n, Shown::Whole))
        } else {
            Err(format!("message {n} has other octets"))
        };
    }
    // Not in CPIM: a plain text names its number itself, and so does a line.
    let n = number(&String::from_utf8_lossy(body)).ok_or_else(|| format!("no id: {}", octets()))?;
    let sent = made(n).ok_or_else(|| format!("message {n} was never sent"))?;
    if sent.inner == *body {
        return Ok((n, Shown::Whole));
    }
    let line = body.ends_with(format!("[cpm:{}]", id(n)).as_bytes()) && !body.contains(&b'\n');
    if line { Ok((n, Shown::Line)) } else { Err(format!("message {n} has other octets")) }
}

fn text(seed: u64, n: usize, len: usize) -> Bytes {
    const PIECES: &[&str] = &[
        "so ",
        "gehe ",
        "ich\r\n",
        "durch ",
        "den ",
        "Wald 🌲 ",
        "\r\n\r\n",
        "«ø» ",
        "\t",
        "--x\r\n",
    ];
    let mut dice = Dice::new(seed, 1 << 40 | n as u64);
    let mut out = format!("{}:", id(n));
    while out.len() < len {
        out.push_str(PIECES[dice.below(PIECES.len() as u64) as usize]);
    }
    out.push('.');
    Bytes::from(out)
}

fn octets(seed: u64, n: usize, len: usize) -> Bytes {
    let mut ids = Ids::new(seed_of(seed, 2 << 40 | n as u64));
    let mut out = format!("{}\0", id(n)).into_bytes();
    while out.len() < len {
        out.extend_from_slice(&ids.number().to_le_bytes());
    }
    Bytes::from(out)
}
