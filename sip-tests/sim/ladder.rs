//! What passed, drawn as a ladder: a column per party, an arrow per message, nothing that changes
//! from one run to the next.

use std::fmt::Write as _;

use cpmd::service::record::{Record, decode};
use cpmd::syntax::sip::{Message, Name};

use bytes::Bytes;

/// One arrow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// When, in microseconds.
    pub at: u64,
    /// Who sent.
    pub from: String,
    /// To whom.
    pub to: String,
    /// What.
    pub label: String,
}

const WIDTH: usize = 26;

/// Draws the rows between these lanes; rows with anybody else are left out.
pub fn draw(lanes: &[&str], rows: &[Row]) -> String {
    let mut text = format!("{:>9}  ", "");
    for lane in lanes {
        let _ok = write!(text, "{lane:<WIDTH$}");
    }
    let mut text = format!("{}\n", text.trim_end());
    let began = rows.first().map_or(0, |r| r.at);
    for row in rows {
        let place = |name: &str| lanes.iter().position(|lane| *lane == name);
        let (Some(from), Some(to)) = (place(&row.from), place(&row.to)) else { continue };
        let at = row.at - began;
        let stamp = format!("{:>3}.{:03} s  ", at / 1_000_000, at / 1000 % 1000);
        text.push_str(format!("{stamp}{}", arrow(lanes.len(), from, to, &row.label)).trim_end());
        text.push('\n');
    }
    text
}

fn arrow(lanes: usize, from: usize, to: usize, label: &str) -> String {
    let (left, right) = (from.min(to), from.max(to));
    let mut line = String::new();
    for lane in 0..lanes {
        if lane == from && from == to {
            line.push_str(&format!("╳ {label:<0$}", WIDTH - 2));
            continue;
        }
        line.push('│');
        if lane < left || lane >= right {
            line.push_str(&" ".repeat(WIDTH - 1));
            continue;
        }
        if lane > left {
            line.pop();
            continue;
        }
        let room = (right - left) * WIDTH - 1;
        let label: String = label.chars().take(room - 5).collect();
        let shaft = format!("{:─^1$}", format!(" {label} "), room - 1);
        line.push_str(&if from < to { format!("{shaft}▶") } else { format!("◀{shaft}") });
    }
    line
}

/// What a message is, in a few words.
pub fn label(message: Option<&Message>) -> String {
    match message {
        Some(Message::Request(r)) => {
            let kind = r.headers.text(Name::ContentType).unwrap_or_default();
            let kind = kind.split(';').next().unwrap_or_default();
            format!("{} {kind}", r.method).trim_end().to_owned()
        }
        Some(Message::Response(r)) => {
            format!("{} {}", r.status, String::from_utf8_lossy(&r.reason))
        }
        None => "(not SIP)".to_owned(),
    }
}

/// What tells one message from another, for the eye.
pub fn detail(message: Option<&Message>) -> String {
    let (headers, body) = match message {
        Some(Message::Request(r)) => (&r.headers, &r.body),
        Some(Message::Response(r)) => (&r.headers, &r.body),
        None => return String::new(),
    };
    let of = |name| headers.text(name).unwrap_or_default().to_owned();
    let words = String::from_utf8_lossy(body);
    let words = words.lines().last().unwrap_or_default();
    format!("[{} {}] {words}", of(Name::CallId), of(Name::CSeq))
}

/// What a batch holds, in a few words.
pub fn batch(value: &Bytes) -> String {
    let word = |record: &Record| match record {
        Record::AccountPut(_) => "AccountPut",
        Record::AccountGone => "AccountGone",
        Record::BindingPut(_) => "BindingPut",
        Record::BindingGone(_) => "BindingGone",
        Record::DeviceGone(_) => "DeviceGone",
        Record::EntryPut(_) => "EntryPut",
        Record::Body(_) => "Body",
        Record::DebtClosed(_) => "DebtClosed",
        Record::DebtMoved(_) => "DebtMoved",
        Record::Forwarded(_) => "Forwarded",
        Record::Disposed(_) => "Disposed",
        #[expect(unreachable_patterns, reason = "record kinds come with later work")]
        _ => "other",
    };
    let records = decode(value).unwrap_or_default();
    records.iter().map(word).collect::<Vec<_>>().join(" ")
}
