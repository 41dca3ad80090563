//! REGISTER (RFC 3261 §10.3, RFC 5626 §4 for instances, RFC 3327): a ladder of phases, after the
//! credentials have been checked.

use std::cmp::Ordering;
use std::time::Duration;

use crate::base::limits;
use crate::base::now::{Mono, Now};
use crate::service::location::Binding;
use crate::service::log::submit;
use crate::service::policy::too_fast;
use crate::service::record::{BindingGone, BindingPut, DeviceNo, Record};
use crate::service::tu::{
    Act, Answer, Asker, Held, Out, Refusal, Tables, Then, Timer, UserIx, store_unavailable,
};
use crate::stack::transport::Flow;
use crate::syntax::sip::{Contact, Name, NameAddr, Writer, contacts};

/// What one REGISTER wants.
enum Wish {
    /// A list of what is there.
    Fetch,
    /// All bindings gone.
    RemoveAll,
    /// These bindings put or gone.
    Update(Vec<Update>),
}

struct Update {
    contact: NameAddr,
    /// Seconds; 0 removes.
    expires: u32,
    /// The device it means, if known.
    device: Option<DeviceNo>,
}

impl Update {
    fn is_about_the_same(&self, other: &Update) -> bool {
        match (self.contact.instance(), other.contact.instance()) {
            (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
            (None, None) => self.contact.uri.same_as(&other.contact.uri),
            _ => false,
        }
    }
}

/// How a REGISTER stands to the one before it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Newer,
    Repeat,
}

/// Handles a REGISTER of the proven user `ix`.
pub fn register(tables: &mut Tables, now: Now, ix: UserIx, asker: &Asker, out: &mut Out) {
    match read_wish(tables, ix, asker) {
        Err(refusal) => out.push_back(Act::Answer(Answer::refuse(asker, &refusal))),
        Ok(wish) => commit(tables, now, ix, asker, wish, out),
    }
}

/// Removes the bindings that have run out, and with them phones that cannot come back.
pub fn expire(tables: &mut Tables, now: Now, ix: UserIx, out: &mut Out) {
    let due: Vec<DeviceNo> = tables
        .user(ix)
        .location
        .devices()
        .filter(|d| d.binding.as_ref().is_some_and(|b| b.expires <= now.mono))
        .map(|d| d.no)
        .collect();
    if !due.is_empty() {
        let gone: Vec<Record> = due.iter().map(|no| gone(*no, None)).collect();
        submit(tables, now, ix, &gone, Vec::new(), None, out);
        out.extend(due.into_iter().map(|device| Act::DeviceDown(ix, device)));
    }
    watch(tables, ix, out);
}

/// Sets the timer for the first binding that will run out.
pub fn watch(tables: &Tables, ix: UserIx, out: &mut Out) {
    out.push_back(Act::Timer(Timer::Bindings(ix), tables.user(ix).location.next_expiry()));
}

// --- reading ----------------------------------------------------------------------------------

fn read_wish(tables: &Tables, ix: UserIx, asker: &Asker) -> Result<Wish, Refusal> {
    let request = &asker.request;
    let listed = contacts(&request.headers)?;
    let header = request.expires()?;
    if listed.iter().any(|c| matches!(c, Contact::Star)) {
        if listed.len() != 1 || header != Some(0) {
            return Err(Refusal::of(400, "Contact * must be alone and with Expires: 0"));
        }
        let all = tables.user(ix).location.devices().map(|d| d.no);
        return match check_order(tables, ix, asker, all)? {
            Order::Newer => Ok(Wish::RemoveAll),
            Order::Repeat if bound(tables, ix, |_| true).is_empty() => Ok(Wish::Fetch),
            Order::Repeat => Err(out_of_order()),
        };
    }
    let mut updates: Vec<Update> = Vec::with_capacity(listed.len());
    for contact in listed {
        let Contact::Addr(contact) = contact else { continue };
        if !contact.uri.scheme.is_sip() {
            return Err(Refusal::of(400, "Contact must be a SIP URI"));
        }
        let expires = granted(&contact, header)?;
        let known = tables.user(ix).location.matching(contact.instance(), &contact.uri);
        let update = Update { device: known.map(|d| d.no), contact, expires };
        // One device named twice in a request: the last word counts.
        match updates.iter_mut().find(|u| u.is_about_the_same(&update)) {
            Some(before) => *before = update,
            None => updates.push(update),
        }
    }
    if updates.is_empty() {
        return Ok(Wish::Fetch);
    }
    let path: usize = request.headers.list(Name::Path).map(<[u8]>::len).sum();
    if path > limits::PATH_OCTETS_MAX {
        return Err(Refusal::of(400, "Path header is too long"));
    }
    if check_order(tables, ix, asker, updates.iter().filter_map(|u| u.device))? == Order::Repeat {
        let location = &tables.user(ix).location;
        let is_bound = |no| location.device(no).is_some_and(|d| d.binding.is_some());
        let so = |u: &Update| (u.expires > 0) == u.device.is_some_and(is_bound);
        return if updates.iter().all(so) { Ok(Wish::Fetch) } else { Err(out_of_order()) };
    }
    check_room(tables, ix, &updates)?;
    Ok(Wish::Update(updates))
}

/// RFC 3261 §10.3 step 7: the parameter, else the header, else our default; too brief is 423.
/// What cannot be read counts as one hour (§20.10).
fn granted(contact: &NameAddr, header: Option<u32>) -> Result<u32, Refusal> {
    let default = seconds(limits::EXPIRES_DEFAULT);
    let asked = match contact.expires() {
        Some(Ok(seconds)) => seconds,
        Some(Err(_)) => default,
        None => header.unwrap_or(default),
    };
    let least = seconds(limits::EXPIRES_MIN);
    if asked > 0 && asked < least {
        return Err(
            Refusal::of(423, "Interval Too Brief").with(Name::MinExpires, least.to_string())
        );
    }
    Ok(asked.min(seconds(limits::EXPIRES_MAX)))
}

fn out_of_order() -> Refusal {
    Refusal::of(500, "CSeq out of order")
}

/// RFC 3261 §10.3 step 7: within one Call-ID the CSeq must rise, or nothing is changed. The same
/// CSeq once more is a repeat whose transaction we no longer remember: if all is as it wants, it
/// gets the list; it changes nothing.
fn check_order(
    tables: &Tables,
    ix: UserIx,
    asker: &Asker,
    devices: impl Iterator<Item = DeviceNo>,
) -> Result<Order, Refusal> {
    let (call_id, cseq) = (asker.request.call_id()?, asker.request.cseq()?.number);
    let mut order = Order::Newer;
    for no in devices {
        let device = tables.user(ix).location.device(no);
        match device.and_then(|d| d.last_cseq(call_id)).map(|last| last.cmp(&cseq)) {
            Some(Ordering::Greater) => return Err(out_of_order()),
            Some(Ordering::Equal) => order = Order::Repeat,
            _ => {}
        }
    }
    Ok(order)
}

fn check_room(tables: &Tables, ix: UserIx, updates: &[Update]) -> Result<(), Refusal> {
    let location = &tables.user(ix).location;
    let new = updates.iter().filter(|u| u.device.is_none() && u.expires > 0).count();
    let returning = updates
        .iter()
        .filter(|u| u.expires > 0)
        .filter_map(|u| location.device(u.device?))
        .filter(|d| d.binding.is_none())
        .count();
    let bound = location.devices().filter(|d| d.binding.is_some()).count();
    if bound + new + returning > limits::BINDINGS_MAX {
        return Err(Refusal::of(403, "Too many Contact bindings"));
    }
    if location.devices().count() + new > limits::DEVICES_MAX {
        return Err(Refusal::of(403, "Too many devices"));
    }
    Ok(())
}

// --- changing ---------------------------------------------------------------------------------

fn commit(tables: &mut Tables, now: Now, ix: UserIx, asker: &Asker, wish: Wish, out: &mut Out) {
    let mut puts: Vec<(BindingPut, Mono)> = Vec::new();
    let mut up: Vec<DeviceNo> = Vec::new();
    let mut down: Vec<DeviceNo> = Vec::new();
    match wish {
        Wish::Fetch => {}
        Wish::RemoveAll => down = bound(tables, ix, |_| true),
        Wish::Update(updates) => {
            let mut next = tables.user(ix).location.next();
            for update in updates {
                if update.expires == 0 {
                    down.extend(bound(tables, ix, |no| Some(no) == update.device));
                    continue;
                }
                let device = update.device.unwrap_or(next);
                next = next.max(device + 1);
                up.push(device);
                puts.extend(change(tables, now, ix, asker, &update, device));
            }
        }
    }
    let covered = puts.is_empty() && down.is_empty();
    if !covered {
        let (pace, burst) = (limits::REGISTRATIONS_PER_SECOND, limits::REGISTRATIONS_BURST);
        let bucket = &mut tables.user_mut(ix).registrations;
        let refused = match bucket.take(now.mono, pace, burst) {
            Err(wait) => Some(too_fast(wait)),
            Ok(()) if !tables.store_takes() => Some(store_unavailable()),
            Ok(()) => None,
        };
        if let Some(refusal) = refused {
            out.push_back(Act::Answer(Answer::refuse(asker, &refusal)));
            return;
        }
        let put = puts.iter().map(|(put, _)| Record::BindingPut(put.clone()));
        let by = asker.request.call_id().ok().zip(asker.request.cseq().ok());
        let by = by.map(|(id, cseq)| (id.to_owned(), cseq.number));
        let gone = down.iter().map(|no| gone(*no, by.clone()));
        let records: Vec<Record> = put.chain(gone).collect();
        submit(tables, now, ix, &records, Vec::new(), None, out);
        for (put, expires) in puts {
            tables.user_mut(ix).location.settle(put.device, asker.flow, expires);
        }
        out.extend(down.into_iter().map(|device| Act::DeviceDown(ix, device)));
    }
    watch(tables, ix, out);
    answer_when_stored(tables, now, ix, asker, up, out);
}

/// Also a mere list tells only what is on disk, so it waits for what is under way.
fn answer_when_stored(
    tables: &mut Tables,
    now: Now,
    ix: UserIx,
    asker: &Asker,
    up: Vec<DeviceNo>,
    out: &mut Out,
) {
    if tables.user(ix).log.is_stored() {
        out.push_back(Act::Answer(Answer::inform(asker, |w| list(tables, now, ix, asker, w))));
        out.extend(up.into_iter().map(|device| Act::DeviceUp(ix, device)));
        return;
    }
    if !tables.store_works {
        // What is under way will never be there.
        out.push_back(Act::Answer(Answer::refuse(asker, &store_unavailable())));
        return;
    }
    let held = Held::new(asker, 200, "OK", |w| list(tables, now, ix, asker, w));
    let log = &mut tables.user_mut(ix).log;
    log.wait(Then::Answer(held));
    up.into_iter().for_each(|device| log.wait(Then::DeviceUp(device)));
}

fn bound(tables: &Tables, ix: UserIx, which: impl Fn(DeviceNo) -> bool) -> Vec<DeviceNo> {
    let devices = tables.user(ix).location.devices();
    devices.filter(|d| d.binding.is_some() && which(d.no)).map(|d| d.no).collect()
}

/// The record to write and when the registration runs out; nothing, where the lease on disk
/// covers the refresh: then only memory changes.
fn change(
    tables: &mut Tables,
    now: Now,
    ix: UserIx,
    asker: &Asker,
    update: &Update,
    device: DeviceNo,
) -> Option<(BindingPut, Mono)> {
    let request = &asker.request;
    let (call_id, cseq) = (request.call_id().ok()?, request.cseq().ok()?.number);
    let path: Vec<String> =
        request.headers.list(Name::Path).map(|p| String::from_utf8_lossy(p).into_owned()).collect();
    let granted = Duration::from_secs(u64::from(update.expires));
    let expires = now.mono.after(granted);
    let contact = update.contact.uri.to_string();
    let params = params_without_expires(&update.contact);
    if let Some(known) = tables.user_mut(ix).location.device_mut(device) {
        known.seen = now.unix;
        if let Some(b) = &mut known.binding {
            let same = *b.contact == *contact
                && *b.params == *params
                && *b.path == *path
                && *b.call_id == *call_id
                && same_place(b.flow, asker.flow);
            if same && expires <= b.lease {
                refresh(b, asker.flow, cseq, expires);
                return None;
            }
        }
    }
    let put = BindingPut {
        device,
        instance: update.contact.instance().map(str::to_owned),
        contact,
        params,
        flow: asker.flow.into(),
        call_id: call_id.to_owned(),
        cseq,
        path,
        lease: now.unix.after(granted * limits::LEASE_FACTOR),
        seen: now.unix,
    };
    Some((put, expires))
}

fn refresh(binding: &mut Binding, flow: Flow, cseq: u32, expires: Mono) {
    binding.flow = flow;
    binding.cseq = cseq;
    binding.expires = expires;
}

fn gone(device: DeviceNo, by: Option<(String, u32)>) -> Record {
    Record::BindingGone(BindingGone { device, by })
}

/// Whether a restart would find the device at the same place.
fn same_place(a: Flow, b: Flow) -> bool {
    a.protocol == b.protocol && a.listener == b.listener && a.peer == b.peer
}

// --- answering --------------------------------------------------------------------------------

/// RFC 3261 §10.3 step 8: all current bindings, each with the time it has left; and the way that
/// this request came (RFC 3327 §5.3).
fn list(tables: &Tables, now: Now, ix: UserIx, asker: &Asker, w: &mut Writer) {
    for device in tables.user(ix).location.devices() {
        let Some(b) = &device.binding else { continue };
        let left = b.expires.since(now.mono).as_secs();
        w.header(Name::Contact, format!("<{}>{};expires={left}", b.contact, b.params));
    }
    w.copy(&asker.request.headers, Name::Path);
}

fn params_without_expires(contact: &NameAddr) -> String {
    let mut params = contact.params.clone();
    params.remove("expires");
    params.to_string()
}

fn seconds(d: Duration) -> u32 {
    u32::try_from(d.as_secs()).unwrap_or(u32::MAX)
}
