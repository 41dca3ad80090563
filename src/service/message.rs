//! A message from acceptance to the recipient's mailbox (RFC 3428; OMA CPM standalone message,
//! pager mode): sentbox and forward debt, the offer to the other side, its answer.
//!
//! | cause | answer |
//! |---|---|
//! | From, P-Preferred-Identity or CPIM From is somebody else | 403 |
//! | too many messages | 480 with Retry-After |
//! | content encoding we do not know | 415 with Accept-Encoding |
//! | a typing indication outside a session | 415 with Accept |
//! | malformed CPIM or IMDN | 400 |
//! | recipient's domain or account unknown | 404 |
//! | recipient's mailbox full | 480 with Retry-After |
//! | store broken | 503 with Retry-After |

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::base::hash::fingerprint;
use crate::base::limits;
use crate::base::log::Stored;
use crate::base::now::Now;
use crate::service::delivery;
use crate::service::disposition;
use crate::service::feature::Kind;
use crate::service::log::{submit, submit_lazily};
use crate::service::mailbox::{Known, Pending, watch_expiry, with_content};
use crate::service::policy::too_fast;
use crate::service::record::{
    Asked, BodyAt, Class, Debtor, DeviceNo, Direction, EntryNo, EntryPut, Forwarded, Record,
};
use crate::service::tu::{
    Act, Answer, Asker, Held, Note, Offer, Out, Refusal, Tables, Then, Timer, UserIx,
    store_unavailable,
};
use crate::syntax::cpim::Cpim;
use crate::syntax::mime::{self, MediaType};
use crate::syntax::sip::{Name, NameAddr, Request, Uri};

/// Media types that are taken in a MESSAGE; anything else is taken too, these are what we know.
pub const ACCEPT: &str = "text/plain, message/cpim, message/imdn+xml, multipart/mixed, */*;q=0.5";

/// Handles a MESSAGE of the proven user `ix`.
pub fn submitted(tables: &mut Tables, now: Now, ix: UserIx, asker: &Asker, out: &mut Out) {
    if let Err(refusal) = try_submit(tables, now, ix, asker, out) {
        out.push_back(Act::Answer(Answer::refuse(asker, &refusal)));
    }
}

fn try_submit(
    tables: &mut Tables,
    now: Now,
    ix: UserIx,
    asker: &Asker,
    out: &mut Out,
) -> Result<(), Refusal> {
    let request = &asker.request;
    let media = MediaType::parse(request.headers.get(Name::ContentType).unwrap_or_default()).ok();
    let is = |what: &str| media.as_ref().is_some_and(|m| m.is(what));
    check_identity(tables, ix, request)?;
    if media.is_none() && !request.body.is_empty() {
        return Err(Refusal::of(400, "Missing or malformed Content-Type header"));
    }
    if is("application/im-iscomposing+xml") {
        return Err(Refusal::of(415, "Typing indications need a session")
            .with(Name::Accept, "text/plain, message/cpim, message/imdn+xml, multipart/mixed"));
    }
    let cpim = if is("message/cpim") {
        let read = Cpim::read(&request.body)
            .map_err(|_| Refusal::of(400, "Malformed message/cpim body"))?;
        check_cpim_identity(tables, ix, &read)?;
        Some(read)
    } else {
        None
    };
    if let Some(media) = media.as_ref().filter(|m| m.top() == "multipart") {
        check_parts(tables, ix, media, &request.body, 1)?;
    }
    let to = recipient(tables, request)?;
    if let Some(receipts) = disposition::carried(request, media.as_ref(), cpim.as_ref())? {
        disposition::submitted(tables, now, ix, asker, &to, &receipts, out);
        return Ok(());
    }
    check_encoding(request)?;
    let settings = &tables.settings;
    let (pace, burst) = (settings.messages_per_second, settings.messages_burst);
    tables.user_mut(ix).bucket.take(now.mono, pace, burst).map_err(too_fast)?;
    if !tables.store_takes() {
        return Err(store_unavailable());
    }
    let recipient = tables.find(&to).map(|ix| tables.user(ix));
    let Some(to) = recipient.filter(|user| user.account.is_some()).map(|user| user.aor.clone())
    else {
        return Err(Refusal::of(404, "No such account here"));
    };
    let entry = sent_entry(tables, now, ix, asker, cpim.as_ref(), to)?;
    keep(tables, now, ix, asker, entry, request.body.clone(), out);
    Ok(())
}

/// Puts the entry into the sentbox with its forward debt; the answer waits for the other side.
fn keep(
    tables: &mut Tables,
    now: Now,
    ix: UserIx,
    asker: &Asker,
    entry: EntryPut,
    octets: Bytes,
    out: &mut Out,
) {
    let held = Held::new(asker, 202, "Accepted", |_| {});
    match tables.user(ix).mailbox.known(&entry) {
        Known::Same(no) => {
            // A new try of a message that we have: the same answer, nothing stored again.
            if let Some(first) = tables.user_mut(ix).mailbox.pending.get_mut(&no) {
                first.retries.push(held);
                return;
            }
            let log = &mut tables.user_mut(ix).log;
            match log.stored.filter(|_| log.is_stored()) {
                Some(stored) => out.push_back(Act::Answer(held.release(&stored))),
                None => log.wait(Then::Answer(held)),
            }
            return;
        }
        Known::Other => out.push_back(Act::Note(Note::SameIdOtherBody {
            message_id: entry.message_id.to_string(),
        })),
        Known::New => {}
    }
    let no = entry.no;
    let (records, blobs) = with_content(entry, &octets);
    submit(tables, now, ix, &records, blobs, [Then::Offer(no)], out);
    let mailbox = &mut tables.user_mut(ix).mailbox;
    mailbox.pending.insert(no, Pending { held, retries: Vec::new(), stored: None });
    if let Some(item) = mailbox.item_mut(no) {
        item.octets = Some(octets);
    }
    watch_expiry(tables, ix, out);
}

/// The sentbox entry is on disk: it is offered to the recipient's side, and copies go out.
pub fn offer(
    tables: &mut Tables,
    now: Now,
    ix: UserIx,
    no: EntryNo,
    stored: Stored,
    out: &mut Out,
) {
    if let Some(pending) = tables.user_mut(ix).mailbox.pending.get_mut(&no) {
        pending.stored = Some(stored);
        let at = now.mono.after(limits::FORWARD_WAIT);
        out.push_back(Act::Timer(Timer::Forward(ix, no), Some(at)));
    }
    if let Some(item) = tables.user_mut(ix).mailbox.item_mut(no) {
        item.stored = true;
    }
    offer_again(tables, ix, no, out);
    let lanes: Vec<DeviceNo> = owed_devices(tables, ix, no);
    for device in lanes {
        delivery::pump(tables, now, ix, device, out);
    }
}

/// Offers an entry whose forward debt is open; its content is read first if it is not at hand.
pub fn offer_again(tables: &mut Tables, ix: UserIx, no: EntryNo, out: &mut Out) {
    let Some(item) = tables.user(ix).mailbox.item(no).filter(|i| i.forward) else { return };
    match (&item.octets, &item.at) {
        (Some(octets), _) => out.push_back(Act::Offer(Box::new(Offer {
            from: ix,
            sent: no,
            entry: item.entry.clone(),
            octets: octets.clone(),
        }))),
        (None, Some(at)) => {
            let at = at.clone();
            out.push_back(Act::Fetch { user: ix, no, device: None, at });
        }
        (None, None) => {}
    }
}

/// Content that was to be offered again has been read.
pub fn fetched(tables: &mut Tables, ix: UserIx, no: EntryNo, octets: Option<Bytes>, out: &mut Out) {
    match (octets, tables.user_mut(ix).mailbox.item_mut(no)) {
        (Some(octets), Some(item)) => {
            item.octets = Some(octets);
            offer_again(tables, ix, no, out);
        }
        (None, Some(_)) => {
            out.push_back(Act::Note(Note::StoreTrouble { what: "content cannot be read" }));
        }
        _ => {}
    }
}

/// The recipient's side takes an entry into its mailbox, or refuses it. Idempotent.
pub fn take(tables: &mut Tables, now: Now, offer: Offer, out: &mut Out) {
    let Offer { from, sent, entry, octets } = offer;
    let refuse = |status, out: &mut Out| {
        out.push_back(Act::Offered { from, no: sent, status });
    };
    let to = entry.forward.as_ref().unwrap_or(&entry.to);
    let Some(ix) = tables.find(to).filter(|ix| tables.user(*ix).account.is_some()) else {
        return refuse(404, out);
    };
    if !tables.store_takes() {
        return refuse(503, out);
    }
    let mut entry = EntryPut::clone(&entry);
    entry.direction = Direction::Received;
    entry.forward = None;
    let taken = Then::Taken { no: None, from, sent };
    match tables.user(ix).mailbox.known(&entry) {
        Known::Same(_) if tables.user(ix).log.is_stored() => return refuse(202, out),
        Known::Same(_) => return tables.user_mut(ix).log.wait(taken),
        _ => {}
    }
    let full = tables.user(ix).mailbox.is_full();
    if full && entry.class == Class::Message {
        return refuse(480, out);
    }
    let sender_device = entry.device.take().filter(|_| from == ix);
    entry.no = tables.user(ix).mailbox.next();
    let octets = match entry.class {
        Class::Message => {
            entry.owed = everybody(tables, ix, sender_device);
            octets
        }
        Class::Receipt => disposition::for_sender(tables, ix, &mut entry, octets),
        Class::Notice => return refuse(403, out),
    };
    if full {
        let mailbox = &tables.user(ix).mailbox;
        entry.owed.retain(|d| d.device().is_some_and(|no| mailbox.has_room_for(no)));
    }
    if full && entry.owed.is_empty() {
        let why = "a receipt for a mailbox that is full";
        out.push_back(Act::Note(Note::Undelivered {
            message_id: entry.message_id.to_string(),
            why,
        }));
        return refuse(480, out);
    }
    if entry.owed.is_empty() {
        // A receipt that no device of the sender can read: there is nothing to keep.
        return refuse(202, out);
    }
    let no = entry.no;
    let (records, blobs) = with_content(entry, &octets);
    let then = Then::Taken { no: Some(no), from, sent };
    submit(tables, now, ix, &records, blobs, [then], out);
    if let Some(item) = tables.user_mut(ix).mailbox.item_mut(no) {
        item.octets = Some(octets);
    }
    watch_expiry(tables, ix, out);
}

/// The recipient's entry is on disk: the sender's side hears it, and delivery begins.
pub fn taken(tables: &mut Tables, now: Now, ix: UserIx, no: Option<EntryNo>, out: &mut Out) {
    let Some(no) = no else { return };
    if let Some(item) = tables.user_mut(ix).mailbox.item_mut(no) {
        item.stored = true;
    }
    for device in owed_devices(tables, ix, no) {
        delivery::pump(tables, now, ix, device, out);
    }
    delivery::forget_octets(tables, now, ix, no);
}

/// The other side has answered, with 202 or a final refusal.
pub fn offered(tables: &mut Tables, now: Now, ix: UserIx, no: EntryNo, status: u16, out: &mut Out) {
    if status == 503 {
        // Its store is broken, and so is ours: it is offered again after the restart.
        return;
    }
    let Some(item) = tables.user(ix).mailbox.item(no).filter(|i| i.forward) else { return };
    let class = item.entry.class;
    let entry = (status >= 300 && class == Class::Message).then(|| item.entry.clone());
    let late = match tables.user_mut(ix).mailbox.pending.remove(&no) {
        Some(pending) => {
            out.push_back(Act::Timer(Timer::Forward(ix, no), None));
            let stored = pending.stored;
            for held in pending.tries() {
                let answer = match stored {
                    Some(stored) if status < 300 => held.release(&stored),
                    _ => held.refuse(&refusal(status)),
                };
                out.push_back(Act::Answer(answer));
            }
            false
        }
        None => true,
    };
    submit_lazily(tables, now, ix, [Record::Forwarded(Forwarded { no, status })], out);
    if let Some(entry) = entry.filter(|_| late) {
        disposition::refused_late(tables, now, ix, &entry, status, out);
    }
    delivery::forget_octets(tables, now, ix, no);
}

/// The sender has waited long enough: it gets its 202, and the forward debt stays.
pub fn waited(tables: &mut Tables, ix: UserIx, no: EntryNo, out: &mut Out) {
    let pending = tables.user_mut(ix).mailbox.pending.remove(&no);
    if let Some((pending, stored)) = pending.and_then(|p| p.stored.map(|stored| (p, stored))) {
        out.extend(pending.tries().map(|held| Act::Answer(held.release(&stored))));
    }
}

fn refusal(status: u16) -> Refusal {
    match status {
        404 => Refusal::of(404, "No such account here"),
        480 => Refusal::of(480, "Mailbox full").with(Name::RetryAfter, "600"),
        _ => Refusal::of(500, "Not accepted by the recipient's side"),
    }
}

// --- who --------------------------------------------------------------------------------------

/// The sender is the account whose credentials were used, and From names it: by From the account
/// was looked up. No other header may name somebody else.
fn check_identity(tables: &Tables, ix: UserIx, request: &Request) -> Result<(), Refusal> {
    let own = &*tables.user(ix).aor;
    for value in request.headers.list(Name::PPreferredIdentity) {
        let named = NameAddr::parse(value)
            .map_err(|_| Refusal::of(400, "Malformed P-Preferred-Identity header"))?;
        if tables.settings.domains.aor(&named.uri).as_deref() != Some(own) {
            return Err(Refusal::of(403, "P-Preferred-Identity is not the authenticated account"));
        }
    }
    Ok(())
}

/// `anonymous@anonymous.invalid` means the asserted identity; any other must be the account's own.
fn check_cpim_identity(tables: &Tables, ix: UserIx, cpim: &Cpim) -> Result<(), Refusal> {
    let Some(from) = cpim.from() else {
        return Err(Refusal::of(400, "Missing From in message/cpim body"));
    };
    if from.is_anonymous() {
        return Ok(());
    }
    let uri = Uri::parse(from.uri.as_bytes()).ok();
    let named = uri.and_then(|uri| tables.settings.domains.aor(&uri));
    if named.as_deref() == Some(&*tables.user(ix).aor) {
        return Ok(());
    }
    Err(Refusal::of(403, "CPIM From is not the authenticated account"))
}

/// A CPIM inside a multipart body names its sender too.
fn check_parts(
    tables: &Tables,
    ix: UserIx,
    media: &MediaType,
    body: &Bytes,
    depth: usize,
) -> Result<(), Refusal> {
    let malformed = || Refusal::of(400, "Malformed multipart body");
    if depth > limits::MULTIPART_DEPTH_MAX {
        return Err(Refusal::of(400, "Multipart body is nested too deeply"));
    }
    let boundary = media.boundary().ok_or_else(malformed)?;
    for part in mime::parts(boundary, body).map_err(|_| malformed())? {
        let inner = part.media_type();
        if inner.is("message/cpim") {
            let cpim = Cpim::read(&part.body)
                .map_err(|_| Refusal::of(400, "Malformed message/cpim body"))?;
            check_cpim_identity(tables, ix, &cpim)?;
        } else if inner.top() == "multipart" {
            check_parts(tables, ix, &inner, &part.body, depth + 1)?;
        }
    }
    Ok(())
}

fn recipient(tables: &Tables, request: &Request) -> Result<String, Refusal> {
    let uri = request.target()?;
    tables
        .settings
        .domains
        .aor(&uri)
        .ok_or(Refusal::of(404, "Request-URI names nobody in a domain served here"))
}

/// All devices that can come back, and those that are there; or whichever comes next.
fn everybody(tables: &Tables, ix: UserIx, except: Option<DeviceNo>) -> Vec<Debtor> {
    let owed: Vec<Debtor> = tables
        .user(ix)
        .location
        .devices()
        .filter(|d| Some(d.no) != except)
        .map(|d| Debtor::Device(d.no))
        .collect();
    if owed.is_empty() { vec![Debtor::Account] } else { owed }
}

fn owed_devices(tables: &Tables, ix: UserIx, no: EntryNo) -> Vec<DeviceNo> {
    let open = tables.user(ix).mailbox.item(no).map(|i| i.open.as_slice()).unwrap_or_default();
    open.iter().filter_map(Debtor::device).collect()
}

// --- what -------------------------------------------------------------------------------------

fn check_encoding(request: &Request) -> Result<(), Refusal> {
    let mut encodings = request.headers.list(Name::ContentEncoding);
    if encodings.all(|encoding| encoding.eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    Err(Refusal::of(415, "Content-Encoding is not taken").with(Name::AcceptEncoding, "identity"))
}

fn sent_entry(
    tables: &mut Tables,
    now: Now,
    ix: UserIx,
    asker: &Asker,
    cpim: Option<&Cpim>,
    to: Arc<str>,
) -> Result<EntryPut, Refusal> {
    let request = &asker.request;
    let own_id = cpim.and_then(Cpim::message_id);
    let message_id = match own_id {
        Some(id) => id,
        None => request.call_id()?,
    };
    let mut headers = end_to_end(request);
    if headers.len() > limits::END_TO_END_OCTETS_MAX {
        return Err(Refusal::of(513, "Header lines for the recipient are too large"));
    }
    for name in [Name::ConversationId, Name::ContributionId] {
        if request.headers.get(name).is_none() {
            let made = tables.ids.uuid();
            let line = [name.as_str().as_bytes(), b": ", made.as_bytes(), b"\r\n"];
            line.iter().for_each(|part| headers.extend_from_slice(part));
        }
    }
    if let Some(service) = request.headers.get(Name::PPreferredService) {
        headers.extend_from_slice(b"P-Asserted-Service: ");
        headers.extend_from_slice(service);
        headers.extend_from_slice(b"\r\n");
    }
    let wait = request.expires()?.map_or(limits::MESSAGE_EXPIRES_DEFAULT, |seconds| {
        Duration::from_secs(u64::from(seconds))
            .clamp(limits::MESSAGE_EXPIRES_MIN, limits::MESSAGE_EXPIRES_MAX)
    });
    let user = tables.user(ix);
    let device = sending_device(tables, ix, asker);
    // A copy: a slice would keep the whole packet.
    let content_type =
        Bytes::copy_from_slice(request.headers.get(Name::ContentType).unwrap_or_default());
    let copies = user
        .location
        .devices()
        .filter(|d| d.kind == Kind::Cpm && Some(d.no) != device && *to != *user.aor)
        .filter(|d| user.mailbox.has_room_for(d.no))
        .map(|d| Debtor::Device(d.no))
        .collect();
    let from = request.from()?;
    let from_value = match from.display {
        Some(name) => format!("{} <{}>", quoted(&name), user.aor),
        None => format!("<{}>", user.aor),
    };
    let wanted = cpim.map(Cpim::dispositions).unwrap_or_default();
    Ok(EntryPut {
        no: user.mailbox.next(),
        class: Class::Message,
        direction: Direction::Sent,
        from: user.aor.clone(),
        from_value: from_value.into(),
        message_id: message_id.into(),
        fingerprint: fingerprint(&[&content_type, &request.body]),
        headers: headers.into(),
        content_type,
        size: 0,
        body: BodyAt::Record,
        taken: now.unix,
        expires: now.unix.after(wait),
        asked: Asked {
            delivered: wanted.positive_delivery,
            failed: wanted.negative_delivery,
            displayed: wanted.display,
        },
        date: cpim.and_then(Cpim::date_time).map(str::to_owned),
        owed: copies,
        forward: Some(to.clone()),
        to,
        device,
        about: None,
    })
}

/// The device that sent it: by its Contact's instance, which real phones add although RFC 3428
/// forbids it, else by the flow.
fn sending_device(tables: &Tables, ix: UserIx, asker: &Asker) -> Option<DeviceNo> {
    let location = &tables.user(ix).location;
    let named = asker.request.headers.list(Name::Contact).next();
    let by_instance = named.and_then(|value| {
        let contact = NameAddr::parse(value).ok()?;
        location.matching(Some(contact.instance()?), &contact.uri).map(|d| d.no)
    });
    by_instance.or_else(|| location.on_flow(asker.flow))
}

fn quoted(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 2);
    out.push('"');
    for c in name.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// Header lines that travel from end to end, octets kept. Those of a hop, of a dialog, of identity
/// and of credentials are ours to write, or nobody's business further on.
fn end_to_end(request: &Request) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    for field in request.headers.iter() {
        if travels(field.name, field.spelled) {
            let name = field.name.as_str();
            let name = if name.is_empty() { field.spelled } else { name.as_bytes() };
            out.extend_from_slice(name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(field.value);
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}

fn travels(name: Name, spelled: &[u8]) -> bool {
    match name {
        Name::ConversationId
        | Name::ContributionId
        | Name::InReplyToContributionId
        | Name::Subject
        | Name::Date
        | Name::ContentEncoding
        | Name::ContentDisposition
        | Name::ContentLanguage => true,
        Name::Other => {
            let p_header = spelled.get(..2).is_some_and(|p| p.eq_ignore_ascii_case(b"P-"));
            let ours = spelled.eq_ignore_ascii_case(b"Message-Direction");
            let hop = HOP_BY_HOP.iter().any(|h| spelled.eq_ignore_ascii_case(h));
            // A compact name of a header that our reader does not know: Referred-By, Identity, …
            let compact = spelled.len() == 1;
            let cpmd = spelled.get(..6).is_some_and(|p| p.eq_ignore_ascii_case(b"X-cpm-"));
            !p_header && !ours && !hop && !compact && !cpmd
        }
        _ => false,
    }
}

/// Headers without a name of their own in our reader that do not travel.
const HOP_BY_HOP: &[&[u8]] = &[
    b"Timestamp",
    b"Remote-Party-ID",
    b"Reply-To",
    b"History-Info",
    b"Diversion",
    b"Identity",
    b"Identity-Info",
    b"Request-Disposition",
    b"Max-Breadth",
    b"Resource-Priority",
    b"Session-ID",
    b"Security-Client",
    b"Security-Verify",
    b"Allow-Events",
    b"Alert-Info",
    b"Call-Info",
    b"RAck",
    b"RSeq",
    b"Join",
    b"Refer-To",
    b"Referred-By",
];
