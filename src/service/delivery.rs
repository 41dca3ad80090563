//! Sending what is owed: per device one transaction at a time, retries, forms, and what the
//! device's answer means.
//!
//! | answer of the device | next act |
//! |---|---|
//! | 2xx | delivered: the debt is closed |
//! | 406, 415, 488 | the next form; the refused type is remembered. A receipt: the debt is closed |
//! | 413, 513 | one line of text |
//! | 6xx | refused: the debt is closed |
//! | 408, 430, 480, 5xx, no answer, no way | the device rests; its queue waits |
//! | any other | this message rests; after three times the next form |
//!
//! A message at rest holds the ones behind it for 30 s at most. A registration of the device ends
//! all rest. Call-ID = f(message, device); branch and CSeq = f(attempt): a repeat after a restart
//! is a retransmission, never a new request.

use std::time::Duration;

use bytes::Bytes;

use crate::base::limits;
use crate::base::now::Now;
use crate::service::disposition;
use crate::service::feature::Kind;
use crate::service::form::{self, Form};
use crate::service::lane::{Current, Try};
use crate::service::location::{Device, Takes};
use crate::service::log::submit_lazily;
use crate::service::passage::Passage;
use crate::service::record::{
    Class, Closed, DebtClosed, DebtMoved, Debtor, DeviceNo, Direction, EntryNo, EntryPut, Record,
};
use crate::service::tu::{Act, Note, Out, Tables, Timer, UserIx, backoff};
use crate::stack::transaction::{ClientId, Failure};
use crate::stack::transport::{Flow, Protocol};
use crate::syntax::mime::MediaType;
use crate::syntax::sip::{Host, Method, Name, Response, Uri, Writer};

/// How a request to a device ended.
#[derive(Debug)]
pub enum End<'a> {
    /// It answered.
    Answer(&'a Response),
    /// It did not.
    Failed(Failure),
}

/// Sends the next entry that the device is owed, if it can be sent now.
pub fn pump(tables: &mut Tables, now: Now, ix: UserIx, device: DeviceNo, out: &mut Out) {
    while pump_one(tables, now, ix, device, out) {}
}

/// True if the entry turned out to need nothing and the next may be looked at.
fn pump_one(t: &mut Tables, now: Now, ix: UserIx, device: DeviceNo, out: &mut Out) -> bool {
    let user = t.user_mut(ix);
    let bound = user.location.device(device).is_some_and(|d| d.binding.is_some());
    let Some(lane) = user.mailbox.lanes.get_mut(&device) else { return false };
    if !bound || lane.current.is_some() {
        return false;
    }
    if let Some(at) = lane.rest_until.filter(|at| *at > now.mono) {
        out.push_back(Act::Timer(Timer::Lane(ix, device), Some(at)));
        return false;
    }
    let no = match lane.next(now.mono) {
        Ok(no) => no,
        Err(at) => {
            out.push_back(Act::Timer(Timer::Lane(ix, device), at));
            return false;
        }
    };
    let Some(item) = user.mailbox.item(no) else {
        if let Some(lane) = user.mailbox.lanes.get_mut(&device) {
            lane.clear(no);
        }
        return true;
    };
    if !item.stored {
        return false;
    }
    let fetch = match (&item.octets, &item.at) {
        (None, Some(at)) => Some(at.clone()),
        _ => None,
    };
    let tried = user.mailbox.lanes.get(&device).and_then(|l| l.tries.get(&no)).copied();
    if let Some(at) = fetch {
        if let Some(lane) = user.mailbox.lanes.get_mut(&device) {
            let (form, attempt) = (Form::Original, 0);
            lane.current =
                Some(Current { no, form, attempt, client: None, flow: None, reused: false });
        }
        out.push_back(Act::Fetch { user: ix, no, device: Some(device), at });
        return false;
    }
    let begin = tried.map_or(0, |t| t.form);
    let attempt = tried.map_or(0, |t| t.attempts) + 1;
    match prepare(t, ix, device, no, begin, attempt) {
        Some(ready) => {
            send(t, now, ix, device, no, ready, out);
            false
        }
        None => {
            // No form that it takes is left. What it said may have been meant for that moment.
            rest_message(t, now, ix, device, no, 0, limits::RETRY_MAX);
            begin_again(t, ix, device, no);
            true
        }
    }
}

struct Ready {
    flow: Flow,
    connect: bool,
    branch: String,
    call_id: String,
    request: Bytes,
    form_at: usize,
    form: Form,
    attempt: u32,
    plain: bool,
}

/// Finds the first form from `begin` on that the device takes and that fits, and writes it.
fn prepare(
    tables: &mut Tables,
    ix: UserIx,
    device: DeviceNo,
    no: EntryNo,
    begin: usize,
    attempt: u32,
) -> Option<Ready> {
    let fresh = tables.client_id();
    let udp_max = tables.settings.udp_bytes_max;
    let user = tables.user(ix);
    let device = user.location.device(device)?;
    let binding = device.binding.as_ref()?;
    let item = user.mailbox.item(no)?;
    let octets = item.octets.clone().unwrap_or_default();
    let (flow, connect) = way(binding.flow, &binding.contact, fresh)?;
    let leg = Passage::new(&tables.legs, user.partition, &user.aor, no, device.no);
    for (at, form) in form::forms(device.kind, &item.entry).iter().enumerate().skip(begin) {
        let Some(body) = form::render(*form, &item.entry, &octets) else { continue };
        if !form::takes(device.takes.as_deref(), &body.content_type) {
            continue;
        }
        #[expect(clippy::cast_possible_truncation, reason = "there are four forms")]
        let cseq = at as u32 * 1000 + attempt.min(999);
        let branch = leg.branch(&tables.legs, cseq);
        let sent_by = tables.sent_by(flow.listener).as_bytes();
        let protocol = flow.protocol.as_str().as_bytes();
        let via = [b"SIP/2.0/", protocol, b" ", sent_by, b";branch=", branch.as_bytes(), b";rport"];
        let request = write(&leg, &via, cseq, device, &item.entry, *form, &body);
        let last = *form == Form::Line;
        if flow.protocol == Protocol::Udp && request.len() > udp_max && !last {
            continue;
        }
        return Some(Ready {
            flow,
            connect,
            branch,
            call_id: leg.call_id,
            request,
            form_at: at,
            form: *form,
            attempt,
            plain: device.kind == Kind::Plain,
        });
    }
    None
}

/// Next hop of a binding is its flow; a TCP flow that is gone is reopened to its own Contact only.
fn way(flow: Flow, contact: &str, fresh: u64) -> Option<(Flow, bool)> {
    if flow.protocol == Protocol::Udp || flow.connection != 0 {
        return Some((flow, false));
    }
    let uri = Uri::parse(contact.as_bytes()).ok()?;
    let ip = match uri.host {
        Host::V4(ip) => ip.into(),
        Host::V6(ip) => ip.into(),
        Host::Name(_) => return None,
    };
    if ip != flow.peer.ip() {
        // Nobody may have us open connections to somebody else.
        return None;
    }
    let peer = std::net::SocketAddr::new(ip, uri.port.unwrap_or(5060));
    Some((Flow { peer, connection: fresh, ..flow }, true))
}

fn send(
    tables: &mut Tables,
    now: Now,
    ix: UserIx,
    device: DeviceNo,
    no: EntryNo,
    ready: Ready,
    out: &mut Out,
) {
    let id = tables.client_id();
    let user = tables.user_mut(ix);
    if ready.connect {
        out.push_back(Act::Connect(ready.flow));
        if let Some(b) = user.location.device_mut(device).and_then(|d| d.binding.as_mut()) {
            b.flow = ready.flow;
        }
    }
    let replayed = user.mailbox.item(no).is_some_and(|i| i.replayed) && ready.attempt == 1;
    let tried = user.mailbox.lanes.get(&device).and_then(|l| l.tries.get(&no));
    if ready.plain && (replayed || tried.is_some_and(|t| t.unsure)) {
        out.push_back(Act::Note(Note::MayRepeat { call_id: ready.call_id }));
    }
    if let Some(lane) = user.mailbox.lanes.get_mut(&device) {
        lane.current = Some(Current {
            no,
            form: ready.form,
            attempt: ready.attempt,
            client: Some(id),
            flow: Some(ready.flow),
            reused: !ready.connect,
        });
        if ready.attempt > 1 || ready.form_at > 0 {
            let tried = lane.tries.entry(no).or_insert(Try::new(now.mono));
            tried.form = ready.form_at;
        }
    }
    let Ready { branch, flow, request, .. } = ready;
    out.push_back(Act::Send { id, user: ix, device, branch, flow, request });
}

/// A request to a device has ended.
pub fn ended(
    tables: &mut Tables,
    now: Now,
    ix: UserIx,
    device: DeviceNo,
    id: ClientId,
    end: &End<'_>,
    out: &mut Out,
) {
    let Some(lane) = tables.user_mut(ix).mailbox.lanes.get_mut(&device) else { return };
    let Some(current) = lane.current.take_if(|c| c.client == Some(id)) else { return };
    let no = current.no;
    let answered = matches!(end, End::Answer(r) if r.status < 300 || r.status >= 600);
    if !answered {
        let tried = lane.tries.entry(no).or_insert(Try::new(now.mono));
        tried.unsure |= matches!(end, End::Failed(_));
    }
    match end {
        End::Answer(r) if r.status < 300 => {
            lane.failures = 0;
            disposition::device_took(tables, now, ix, no, device, out);
        }
        End::Answer(r) if r.status >= 600 => {
            let how = Closed::Refused(r.status);
            close(tables, now, ix, no, device, how, out);
        }
        End::Answer(r) if matches!(r.status, 406 | 415 | 488) && is_receipt(tables, ix, no) => {
            // It has one form, and the device that asked for it cannot read it.
            close(tables, now, ix, no, device, Closed::Refused(r.status), out);
        }
        End::Answer(r) if matches!(r.status, 406 | 415 | 488) => {
            learn(tables, ix, device, no, current.form, r);
            next_form(tables, now, ix, device, no);
        }
        End::Answer(r) if matches!(r.status, 413 | 513) => last_form(tables, now, ix, device, no),
        End::Answer(r) if matches!(r.status, 408 | 430 | 480 | 500..=599) => {
            rest_device(tables, now, ix, device, &current, retry_after(r));
        }
        End::Answer(_) => {
            if current.attempt % 3 == 0 {
                next_form(tables, now, ix, device, no);
            }
            let pause = backoff(current.attempt - 1);
            rest_message(tables, now, ix, device, no, current.attempt, pause);
        }
        End::Failed(Failure::Transport)
            if lose_connection(tables, ix, device, current.flow) && current.reused =>
        {
            // The connection was dead; a new one is tried at once.
        }
        End::Failed(_) => rest_device(tables, now, ix, device, &current, None),
    }
    if tables.user(ix).location.device(device).is_none() {
        if let Some(item) = tables.user_mut(ix).mailbox.item_mut(no) {
            item.replayed |= matches!(end, End::Failed(_));
        }
        device_down(tables, now, ix, device, out);
        // The phone may have registered anew meanwhile.
        let bound = tables.user(ix).location.devices().find(|d| d.binding.is_some());
        if let Some(heir) = bound.map(|d| d.no) {
            device_up(tables, now, ix, heir, out);
        }
    }
    forget_octets(tables, now, ix, no);
    pump(tables, now, ix, device, out);
}

fn is_receipt(tables: &Tables, ix: UserIx, no: EntryNo) -> bool {
    tables.user(ix).mailbox.item(no).is_some_and(|i| i.entry.class == Class::Receipt)
}

/// Content that was asked for has come, or is damaged.
pub fn fetched(
    tables: &mut Tables,
    now: Now,
    ix: UserIx,
    device: DeviceNo,
    no: EntryNo,
    octets: Option<Bytes>,
    out: &mut Out,
) {
    let mailbox = &mut tables.user_mut(ix).mailbox;
    if let Some(lane) = mailbox.lanes.get_mut(&device) {
        lane.current.take_if(|c| c.no == no && c.client.is_none());
    }
    match octets {
        Some(octets) => {
            if let Some(item) = mailbox.item_mut(no) {
                item.octets = Some(octets);
            }
        }
        None => {
            out.push_back(Act::Note(Note::StoreTrouble { what: "content cannot be read" }));
            rest_message(tables, now, ix, device, no, 1, limits::RETRY_MAX);
        }
    }
    pump(tables, now, ix, device, out);
}

/// A device registered or was heard: its queue goes on, and it takes what nobody has claimed.
pub fn device_up(tables: &mut Tables, now: Now, ix: UserIx, device: DeviceNo, out: &mut Out) {
    if tables.user(ix).location.device(device).is_none_or(|d| d.binding.is_none()) {
        // It has left again while its registration was being written.
        return;
    }
    let mailbox = &tables.user(ix).mailbox;
    let to = Debtor::Device(device);
    let claims: Vec<Record> = mailbox
        .unclaimed_by(device)
        .into_iter()
        .map(|no| Record::DebtMoved(DebtMoved { no, from: Debtor::Account, to }))
        .collect();
    submit_lazily(tables, now, ix, claims, out);
    let user = tables.user_mut(ix);
    let flow = user.location.device(device).and_then(|d| d.binding.as_ref()).map(|b| b.flow);
    if let Some(lane) = user.mailbox.lanes.get_mut(&device) {
        lane.wake(now.mono);
        lane.abandon_unless_on(flow, now.mono);
    }
    pump(tables, now, ix, device, out);
}

/// A device is gone: what a phone without an instance was owed falls to the account; what is on
/// its way to it only when it has not answered.
pub fn device_down(tables: &mut Tables, now: Now, ix: UserIx, device: DeviceNo, out: &mut Out) {
    out.push_back(Act::Timer(Timer::Lane(ix, device), None));
    let user = tables.user_mut(ix);
    if user.location.device(device).is_some() {
        return;
    }
    let current = user.mailbox.lanes.get_mut(&device).and_then(|lane| {
        lane.current.take_if(|c| c.client.is_none());
        lane.current.as_ref().map(|c| c.no)
    });
    let from = Debtor::Device(device);
    let moved: Vec<Record> = user
        .mailbox
        .items()
        .filter(|(no, item)| Some(*no) != current && item.open.contains(&from))
        .map(|(no, _)| Record::DebtMoved(DebtMoved { no, from, to: Debtor::Account }))
        .collect();
    submit_lazily(tables, now, ix, moved, out);
    if current.is_none() {
        tables.user_mut(ix).mailbox.lanes.remove(&device);
    }
}

/// Ends a debt.
pub fn close(
    tables: &mut Tables,
    now: Now,
    ix: UserIx,
    no: EntryNo,
    device: DeviceNo,
    how: Closed,
    out: &mut Out,
) {
    let closed = DebtClosed { no, debtor: Debtor::Device(device), how };
    submit_lazily(tables, now, ix, [Record::DebtClosed(closed)], out);
    disposition::if_nobody_is_left(tables, now, ix, no, out);
}

// --- resting ----------------------------------------------------------------------------------

fn rest_message(
    tables: &mut Tables,
    now: Now,
    ix: UserIx,
    device: DeviceNo,
    no: EntryNo,
    attempts: u32,
    pause: Duration,
) {
    let mailbox = &mut tables.user_mut(ix).mailbox;
    let Some(lane) = mailbox.lanes.get_mut(&device) else { return };
    let tried = lane.tries.entry(no).or_insert(Try::new(now.mono));
    tried.again = now.mono.after(pause);
    tried.attempts = tried.attempts.max(attempts);
}

fn rest_device(
    tables: &mut Tables,
    now: Now,
    ix: UserIx,
    device: DeviceNo,
    current: &Current,
    retry_after: Option<Duration>,
) {
    let mailbox = &mut tables.user_mut(ix).mailbox;
    let Some(lane) = mailbox.lanes.get_mut(&device) else { return };
    let pause = retry_after.unwrap_or_else(|| backoff(lane.failures));
    lane.failures += 1;
    lane.rest_until = Some(now.mono.after(pause));
    let tried = lane.tries.entry(current.no).or_insert(Try::new(now.mono));
    tried.attempts = tried.attempts.max(current.attempt);
    // It may be the message that the device cannot bear: after a while the others go before it.
    let stubborn = now.mono.since(tried.since) >= limits::RETRY_HOLDS_QUEUE;
    let behind = if stubborn { limits::RETRY_HOLDS_QUEUE.max(pause) } else { Duration::ZERO };
    tried.again = now.mono.after(pause + behind);
}

/// Content is kept in memory only while a device may take it soon: one that is registered and not
/// at rest.
pub fn forget_octets(tables: &mut Tables, now: Now, ix: UserIx, no: EntryNo) {
    let user = tables.user_mut(ix);
    let Some(item) = user.mailbox.item(no).filter(|i| i.at.is_some() && !i.forward) else { return };
    let wanted = item.open.iter().filter_map(Debtor::device).any(|device| {
        let bound = user.location.device(device).is_some_and(|d| d.binding.is_some());
        let lane = user.mailbox.lanes.get(&device);
        bound && lane.is_some_and(|l| l.is_ready_for(no, now.mono))
    });
    if let Some(item) = user.mailbox.item_mut(no).filter(|_| !wanted) {
        item.octets = None;
    }
}

/// Forgets what the device has refused: all forms of the entry are tried again after its rest.
fn begin_again(tables: &mut Tables, ix: UserIx, device: DeviceNo, no: EntryNo) {
    let user = tables.user_mut(ix);
    if let Some(device) = user.location.device_mut(device) {
        device.takes = None;
    }
    let lane = user.mailbox.lanes.get_mut(&device);
    if let Some(tried) = lane.and_then(|lane| lane.tries.get_mut(&no)) {
        tried.form = 0;
    }
}

fn next_form(tables: &mut Tables, now: Now, ix: UserIx, device: DeviceNo, no: EntryNo) {
    set_form(tables, now, ix, device, no, |form| form + 1);
}

fn last_form(tables: &mut Tables, now: Now, ix: UserIx, device: DeviceNo, no: EntryNo) {
    let user = tables.user(ix);
    let kind = user.location.device(device).map_or(Kind::Plain, |d| d.kind);
    let count = user.mailbox.item(no).map_or(1, |i| form::forms(kind, &i.entry).len());
    // A line that is itself too large stays where it is, and rests.
    set_form(tables, now, ix, device, no, |form| if form + 1 < count { count - 1 } else { count });
}

fn set_form(
    tables: &mut Tables,
    now: Now,
    ix: UserIx,
    device: DeviceNo,
    no: EntryNo,
    to: impl Fn(usize) -> usize,
) {
    let Some(lane) = tables.user_mut(ix).mailbox.lanes.get_mut(&device) else { return };
    let tried = lane.tries.entry(no).or_insert(Try::new(now.mono));
    tried.form = to(tried.form);
    tried.attempts = 0;
    tried.again = now.mono;
}

/// What a refusal teaches: from Accept what it takes, else what it does not.
fn learn(
    tables: &mut Tables,
    ix: UserIx,
    device: DeviceNo,
    no: EntryNo,
    form: Form,
    response: &Response,
) {
    let user = tables.user_mut(ix);
    let Some(item) = user.mailbox.item(no) else { return };
    let octets = item.octets.clone().unwrap_or_default();
    let Some(body) = form::render(form, &item.entry, &octets) else { return };
    let Ok(media) = MediaType::parse(&body.content_type) else { return };
    let only: Vec<String> = response
        .headers
        .list(Name::Accept)
        .map(|a| String::from_utf8_lossy(a).into_owned())
        .collect();
    let Some(device) = user.location.device_mut(device) else { return };
    let takes = device.takes.get_or_insert_with(|| Box::new(Takes::default()));
    if !only.is_empty() {
        takes.only = only;
    } else if !takes.refused.iter().any(|r| r == media.essence()) {
        // A sender chooses the types: the oldest refusal makes room.
        if takes.refused.len() >= limits::REFUSED_TYPES_MAX {
            takes.refused.remove(0);
        }
        takes.refused.push(media.essence().to_owned());
    }
}

/// Marks the device's connection as gone, unless it has another one by now; false if it is
/// reached without one.
fn lose_connection(tables: &mut Tables, ix: UserIx, device: DeviceNo, lost: Option<Flow>) -> bool {
    let binding = tables.user_mut(ix).location.device_mut(device).and_then(|d| d.binding.as_mut());
    match binding {
        Some(b) if b.flow.protocol == Protocol::Tcp => {
            if Some(b.flow) == lost {
                b.flow.connection = 0;
            }
            true
        }
        _ => false,
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers.text(Name::RetryAfter)?;
    let digits: String = text.trim().chars().take_while(char::is_ascii_digit).collect();
    let asked = Duration::from_secs(digits.parse().ok()?);
    Some(asked.clamp(Duration::from_secs(1), limits::RETRY_MAX))
}

// --- writing ----------------------------------------------------------------------------------

fn write(
    leg: &Passage,
    via: &[&[u8]],
    cseq: u32,
    device: &Device,
    entry: &EntryPut,
    form: Form,
    body: &form::Body,
) -> Bytes {
    let (contact, path) = match &device.binding {
        Some(b) => (b.contact.as_bytes(), &*b.path),
        None => (b"".as_slice(), [].as_slice()),
    };
    let mut w = Writer::request(&Method::Message, contact);
    w.joined(Name::Via, via);
    w.header(Name::MaxForwards, "70");
    for hop in path {
        w.header(Name::Route, hop);
    }
    w.joined(Name::From, &[&entry.from_value, b";tag=", leg.tag.as_bytes()]);
    w.joined(Name::To, &[b"<", entry.to.as_bytes(), b">"]);
    w.header(Name::CallId, &leg.call_id);
    w.header(Name::CSeq, format!("{cseq} MESSAGE"));
    if device.kind == Kind::Cpm && entry.class != Class::Notice {
        w.joined(Name::PAssertedIdentity, &[b"<", entry.from.as_bytes(), b">"]);
    }
    if entry.direction == Direction::Sent {
        w.named(b"Message-Direction", b"sent");
    }
    match form {
        Form::Original => w.raw_lines(&entry.headers),
        Form::Wrapped | Form::Unwrapped => w.raw_lines(&without_content_headers(&entry.headers)),
        // The line has to fit where nothing else did.
        Form::Line => &mut w,
    };
    if !body.content_type.is_empty() {
        w.header(Name::ContentType, &body.content_type);
    }
    w.finish(&body.octets)
}

/// Content-Encoding and the like describe the octets that came, not the ones that we made.
fn without_content_headers(lines: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(lines.len());
    for line in lines.split_inclusive(|o| *o == b'\n') {
        let content = line.get(..8).is_some_and(|n| n.eq_ignore_ascii_case(b"content-"));
        if !content {
            out.extend_from_slice(line);
        }
    }
    out
}
