//! The ladder on a terminal: a column per peer with cpmd in the middle, one row per message.

use super::{Direction, Line};

/// Columns of peers; a further peer takes the column that was silent longest.
const LANES_MAX: usize = 4;
/// Characters from one column to the next.
const WIDTH: usize = 24;
/// Characters of the time in front of the columns, with the space after it.
const TIME: usize = 13;

/// Draws lines as they come; the columns are printed again whenever they change.
#[derive(Debug)]
pub struct Ladder {
    colour: bool,
    /// Peers in order of their columns: cpmd stands after the first half of them.
    lanes: Vec<Lane>,
    drawn: u64,
}

#[derive(Debug)]
struct Lane {
    peer: String,
    /// The user that was first seen there.
    name: String,
    /// When it was last used, in rows.
    used: u64,
}

impl Ladder {
    /// With colours or without.
    #[must_use]
    pub fn new(colour: bool) -> Ladder {
        Ladder { colour, lanes: Vec::new(), drawn: 0 }
    }

    /// The rows for one message, each ending with a line feed.
    #[must_use]
    pub fn draw(&mut self, line: &Line) -> String {
        let mut text = String::new();
        let (lane, changed) = self.lane(line);
        if changed {
            self.heads(&mut text);
        }
        text.push_str(&format!("{} {}\n", time(line.at), self.row(lane, line)));
        for detail in details(line) {
            text.push_str(&format!("{:TIME$}{}\n", "", self.paint("2", &detail)));
        }
        text
    }

    /// The column of the line's peer, and whether the columns have changed.
    fn lane(&mut self, line: &Line) -> (usize, bool) {
        self.drawn += 1;
        let peer = format!("{} {}", line.protocol, line.peer);
        let name = user(line).unwrap_or_default();
        if let Some(at) = self.lanes.iter().position(|lane| lane.peer == peer) {
            let Some(lane) = self.lanes.get_mut(at) else { return (at, false) };
            lane.used = self.drawn;
            let learned = lane.name.is_empty() && !name.is_empty();
            if learned {
                lane.name = name;
            }
            return (at, learned);
        }
        let lane = Lane { peer, name, used: self.drawn };
        if self.lanes.len() < LANES_MAX {
            self.lanes.push(lane);
            return (self.lanes.len() - 1, true);
        }
        let silent = self.lanes.iter().enumerate().min_by_key(|(_, lane)| lane.used);
        let at = silent.map_or(0, |(at, _)| at);
        if let Some(old) = self.lanes.get_mut(at) {
            *old = lane;
        }
        (at, true)
    }

    /// Column number of a lane on the screen: the odd ones stand right of cpmd, so that the
    /// columns that are there keep their side when another one comes.
    fn column(&self, lane: usize) -> usize {
        if lane.is_multiple_of(2) {
            self.middle() - 1 - lane / 2
        } else {
            self.middle() + 1 + lane / 2
        }
    }

    /// Column number of cpmd.
    fn middle(&self) -> usize {
        self.lanes.len().div_ceil(2)
    }

    fn heads(&self, text: &mut String) {
        let columns = self.lanes.len() + 1;
        let mut names = vec![String::new(); columns];
        let mut peers = vec![String::new(); columns];
        for (at, lane) in self.lanes.iter().enumerate() {
            let column = self.column(at);
            if let Some(name) = names.get_mut(column) {
                *name = shorten(&lane.name, WIDTH - 2);
            }
            if let Some(peer) = peers.get_mut(column) {
                *peer = shorten(&lane.peer, WIDTH - 2);
            }
        }
        if let Some(name) = names.get_mut(self.middle()) {
            "cpmd".clone_into(name);
        }
        text.push('\n');
        for row in [names, peers] {
            let mut heads = String::new();
            for head in row {
                heads.push_str(&format!("{head:^WIDTH$}"));
            }
            let heads = format!("{:TIME$}{heads}", "");
            text.push_str(&format!("{}\n", self.paint("1", heads.trim_end())));
        }
    }

    /// The rails with the arrow of one message between two of them.
    fn row(&self, lane: usize, line: &Line) -> String {
        let (there, here) = (self.column(lane), self.middle());
        let (left, right) = (there.min(here), there.max(here));
        let rightwards = (line.direction == Some(Direction::In)) == (there < here);
        let room = (right - left) * WIDTH - 3;
        let label = label(line, room);
        let arrow = format!("{:─^room$}", format!(" {label} "));
        let arrow = if rightwards { format!("{arrow}─▶") } else { format!("◀─{arrow}") };
        let mut row = " ".repeat(WIDTH / 2);
        for column in 0..=self.lanes.len() {
            // The rails between the two ends are crossed by the arrow.
            if column > left && column < right {
                continue;
            }
            row.push('│');
            if column == left {
                row.push_str(&self.paint(colour(&line.start), &arrow));
            } else {
                row.push_str(&" ".repeat(WIDTH - 1));
            }
        }
        row.trim_end().to_owned()
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Requests blue, provisional and success green, challenges yellow, refusals red.
fn colour(start: &str) -> &'static str {
    match start.as_bytes().first() {
        Some(b'1' | b'2') => "32",
        Some(b'3') => "33",
        Some(b'4'..=b'6') if start.starts_with("401") || start.starts_with("407") => "33",
        Some(b'4'..=b'6') => "31",
        Some(b'(') => "2",
        _ => "36",
    }
}

/// The user at the peer's end: who sends a request, or whom we send it to.
fn user(line: &Line) -> Option<String> {
    let from_peer = (line.direction == Some(Direction::In)) != is_answer(line);
    let uri = if from_peer { line.from.as_deref() } else { line.to.as_deref() }?;
    let user = uri.split_once(':').map_or(uri, |(_, rest)| rest).split('@').next()?;
    Some(user.split(':').next()?.to_owned())
}

/// What stands on an arrow of `room` characters: the start line, or of a request its method.
fn label(line: &Line, room: usize) -> String {
    let room = room.saturating_sub(3);
    if line.start.chars().count() <= room || is_answer(line) {
        return shorten(&line.start, room);
    }
    shorten(line.start.split(' ').next().unwrap_or_default(), room)
}

fn is_answer(line: &Line) -> bool {
    line.start.starts_with(|c: char| c.is_ascii_digit())
}

fn details(line: &Line) -> Vec<String> {
    let mut first: Vec<String> = Vec::new();
    if let Some((_, target)) = line.start.split_once(' ').filter(|_| !is_answer(line)) {
        first.push(target.to_owned());
    }
    first.extend(line.cseq.as_ref().map(|cseq| format!("CSeq {cseq}")));
    match (&line.from, &line.to) {
        (Some(from), Some(to)) => first.push(format!("{from} → {to}")),
        (Some(one), None) | (None, Some(one)) => first.push(one.clone()),
        (None, None) => {}
    }
    if line.body_octets > 0 {
        let kind = line.content_type.as_deref().unwrap_or("octets");
        first.push(format!("{kind} ({} B)", line.body_octets));
    }
    let mut second: Vec<String> = Vec::new();
    second.extend(line.call_id.as_ref().map(|call| format!("Call-ID {call}")));
    second.extend(line.hidden.iter().cloned());
    second.extend(line.fault.as_ref().map(|fault| format!("refused: {fault}")));
    [first, second].into_iter().filter(|row| !row.is_empty()).map(|row| row.join(" · ")).collect()
}

fn shorten(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars().take(max.saturating_sub(1)).chain(['…']).collect()
}

/// Time of day, UTC.
fn time(at: u64) -> String {
    let (ms, s) = (at % 1000, at / 1000);
    format!("{:02}:{:02}:{:02}.{ms:03}", s / 3600 % 24, s / 60 % 60, s % 60)
}
