//! What became of a message: the first *delivered* and the first *displayed* per user, *failed*
//! once, told to the sender as he asked (RFC 5438). Receipts of devices end here and are issued
//! anew.
//!
//! | sender | delivered, displayed | failed |
//! |---|---|---|
//! | asked (CPIM, imdn.Disposition-Notification) | IMDN to his CPM devices and the device that asked | the same |
//! | did not ask | nothing (RFC 5438 §7.2) | one line of text to the device that sent it |

use std::sync::Arc;

use bytes::Bytes;

use crate::base::hash::{fingerprint, hex};
use crate::base::limits;
use crate::base::now::Now;
use crate::service::account;
use crate::service::feature::Kind;
use crate::service::log::{flush_lazy, submit, submit_lazily};
use crate::service::mailbox::{watch_expiry, with_content};
use crate::service::passage::Passage;
use crate::service::policy::too_fast;
use crate::service::record::{
    Asked, BodyAt, Class, Closed, DebtClosed, Debtor, DeviceNo, Direction, Disposed, Disposition,
    EntryNo, EntryPut, Forwarded, Record,
};
use crate::service::tu::{
    Act, Answer, Asker, Held, Note, Out, Refusal, Tables, Then, UserIx, store_unavailable,
};
use crate::syntax::cpim::{Cpim, CpimWriter, Identity, rfc3339};
use crate::syntax::imdn::{self, Imdn};
use crate::syntax::mime::MediaType;
use crate::syntax::sip::{Name, Request};

/// The dispositions that a MESSAGE carries, bare or inside a CPIM; `None` if it is no receipt.
///
/// # Errors
/// 400 for a document that does not read, 415 for an encoding that we do not know.
pub fn carried(
    request: &Request,
    media: Option<&MediaType>,
    cpim: Option<&Cpim>,
) -> Result<Option<Vec<Imdn>>, Refusal> {
    let is_imdn = |m: &MediaType| m.is("message/imdn+xml");
    let malformed = |_| Refusal::of(400, "Malformed message/imdn+xml body");
    if let Some(cpim) = cpim {
        if !is_imdn(&cpim.content_type()) {
            return Ok(None);
        }
        return Imdn::read(cpim.content()).map(Some).map_err(malformed);
    }
    if !media.is_some_and(is_imdn) {
        return Ok(None);
    }
    let encoding = request.headers.text(Name::ContentEncoding).unwrap_or("identity").trim();
    let document = if encoding.eq_ignore_ascii_case("identity") {
        request.body.clone()
    } else if encoding.eq_ignore_ascii_case("deflate") || encoding.eq_ignore_ascii_case("gzip") {
        imdn::inflate(&request.body).map_err(malformed)?
    } else {
        return Err(Refusal::of(415, "Content-Encoding is not taken")
            .with(Name::AcceptEncoding, "identity, deflate, gzip"));
    };
    Imdn::read(&document).map(Some).map_err(malformed)
}

/// A device of user `ix` has sent dispositions for messages that `sender` sent.
pub fn submitted(
    tables: &mut Tables,
    now: Now,
    ix: UserIx,
    asker: &Asker,
    sender: &str,
    receipts: &[Imdn],
    out: &mut Out,
) {
    if !tables.store_takes() {
        out.push_back(Act::Answer(Answer::refuse(asker, &store_unavailable())));
        return;
    }
    let user = tables.user_mut(ix);
    let (pace, burst) = (limits::RECEIPTS_PER_SECOND, limits::RECEIPTS_BURST);
    if let Err(wait) = user.receipts.take(now.mono, pace, burst) {
        out.push_back(Act::Answer(Answer::refuse(asker, &too_fast(wait))));
        return;
    }
    for receipt in receipts {
        let what = match receipt.status {
            imdn::Disposition::Delivered => Disposition::Delivered,
            imdn::Disposition::Displayed => Disposition::Displayed,
            // A device that could not show it has it all the same; nothing else is ours to tell.
            _ => continue,
        };
        match find(tables, ix, sender, &receipt.message_id) {
            Some(no) => dispose(tables, now, ix, no, what, Vec::new(), out),
            None => out.push_back(Act::Note(Note::UnknownReceipt {
                message_id: receipt.message_id.clone(),
            })),
        }
    }
    // What the 200 promises is on disk before it leaves.
    flush_lazy(tables, ix, out);
    let log = &mut tables.user_mut(ix).log;
    if log.is_stored() {
        out.push_back(Act::Answer(Answer::inform(asker, |_| {})));
    } else {
        log.wait(Then::Answer(Held::new(asker, 200, "OK", |_| {})));
    }
}

/// The entry that a receipt means: by the Call-ID of our leg (phones that know no Message-ID), or
/// by its Message-ID.
fn find(tables: &Tables, ix: UserIx, sender: &str, message_id: &str) -> Option<EntryNo> {
    let user = tables.user(ix);
    if let Some((no, _)) = Passage::read(&tables.legs, user.partition, &user.aor, message_id) {
        return Some(no);
    }
    let known = user.mailbox.by_message_id(Direction::Received, sender, &user.aor, message_id);
    known.map(|(no, _)| no)
}

/// A device answered 2xx: that is *delivered*, whatever receipts it sends later.
pub fn device_took(
    tables: &mut Tables,
    now: Now,
    ix: UserIx,
    no: EntryNo,
    device: DeviceNo,
    out: &mut Out,
) {
    let debtor = Debtor::Device(device);
    let closed = Record::DebtClosed(DebtClosed { no, debtor, how: Closed::Delivered });
    dispose(tables, now, ix, no, Disposition::Delivered, vec![closed], out);
}

/// Records `records` and, if it is the first of its kind, the disposition, with the receipt that
/// the sender asked for.
fn dispose(
    tables: &mut Tables,
    now: Now,
    ix: UserIx,
    no: EntryNo,
    what: Disposition,
    mut records: Vec<Record>,
    out: &mut Out,
) {
    let Some(item) = tables.user(ix).mailbox.item(no) else {
        return submit_lazily(tables, now, ix, records, out);
    };
    let theirs = item.entry.direction == Direction::Received && item.entry.class == Class::Message;
    let (first, asked) = match what {
        Disposition::Delivered => (!item.delivered, item.entry.asked.delivered),
        Disposition::Displayed => (!item.displayed, item.entry.asked.displayed),
        // A sender who did not ask still hears of a failure, in words.
        Disposition::Failed => (!item.failed && !item.delivered, true),
    };
    if !theirs || !first {
        return submit_lazily(tables, now, ix, records, out);
    }
    let entry = item.entry.clone();
    if what != Disposition::Delivered || records.is_empty() || asked {
        records.push(Record::Disposed(Disposed { no, what, at: now.unix }));
    }
    if !asked {
        return submit_lazily(tables, now, ix, records, out);
    }
    let (receipt, octets) = receipt(tables, now, ix, &entry, what);
    let number = receipt.no;
    let (more, blobs) = with_content(receipt, &octets);
    records.extend(more);
    submit(tables, now, ix, &records, blobs, [Then::Offer(number)], out);
    if let Some(item) = tables.user_mut(ix).mailbox.item_mut(number) {
        item.octets = Some(octets);
    }
    watch_expiry(tables, ix, out);
}

/// The last debt of an entry ended: if no device took it, its sender is told.
pub fn if_nobody_is_left(tables: &mut Tables, now: Now, ix: UserIx, no: EntryNo, out: &mut Out) {
    let Some(item) = tables.user(ix).mailbox.item(no) else { return };
    let received = item.entry.direction == Direction::Received;
    if received && item.open.is_empty() && !item.delivered {
        out.push_back(Act::Note(Note::Undelivered {
            message_id: item.entry.message_id.to_string(),
            why: "every device refused it, or it expired",
        }));
        dispose(tables, now, ix, no, Disposition::Failed, Vec::new(), out);
    }
}

/// The account ends: what no device has taken failed, and who sent it is told.
pub fn give_up_all(tables: &mut Tables, now: Now, ix: UserIx, out: &mut Out) {
    let lost: Vec<EntryNo> = tables
        .user(ix)
        .mailbox
        .items()
        .filter(|(_, item)| item.entry.direction == Direction::Received && !item.open.is_empty())
        .map(|(no, _)| no)
        .collect();
    for no in lost {
        dispose(tables, now, ix, no, Disposition::Failed, Vec::new(), out);
    }
}

/// Gives up what has expired.
pub fn expire(tables: &mut Tables, now: Now, ix: UserIx, out: &mut Out) {
    for no in tables.user(ix).mailbox.expired(now.mono) {
        let Some(item) = tables.user(ix).mailbox.item(no) else { continue };
        let open = item.open.clone();
        let unanswered = item.forward.then(|| item.entry.clone());
        let closed = open
            .into_iter()
            .map(|debtor| Record::DebtClosed(DebtClosed { no, debtor, how: Closed::Expired }));
        submit_lazily(tables, now, ix, closed, out);
        if let Some(entry) = unanswered {
            let done = Forwarded { no, status: 408 };
            submit_lazily(tables, now, ix, [Record::Forwarded(done)], out);
            if entry.class == Class::Message {
                refused_late(tables, now, ix, &entry, 408, out);
            }
        }
        if_nobody_is_left(tables, now, ix, no, out);
        tables.user_mut(ix).mailbox.drop_expired(no);
    }
    watch_expiry(tables, ix, out);
}

/// The sender's side learns of a refusal after it has answered 202: its user is told.
pub fn refused_late(
    tables: &mut Tables,
    now: Now,
    ix: UserIx,
    entry: &EntryPut,
    status: u16,
    out: &mut Out,
) {
    let about = format!("failed {}", entry.message_id);
    let text = notice_text(tables, ix, entry, &format!("refused with {status}"));
    let to = tables.user(ix).aor.clone();
    let owed = match entry.device {
        Some(device) => Debtor::Device(device),
        None => Debtor::Account,
    };
    let notice = EntryPut {
        no: tables.user(ix).mailbox.next(),
        class: Class::Notice,
        direction: Direction::Received,
        message_id: own_id(tables, ix, entry.no, "notice").into(),
        owed: vec![owed],
        about: Some(about),
        ..from_system(&to, now)
    };
    let octets = Bytes::from(text);
    let number = notice.no;
    let (records, blobs) = with_content(notice, &octets);
    submit(tables, now, ix, &records, blobs, [Then::Pump(number)], out);
    watch_expiry(tables, ix, out);
}

/// Prepares a receipt that came from the other side for the devices of its reader: the same
/// document for those that can read it, a line for a plain phone that is told of a failure.
pub fn for_sender(tables: &Tables, ix: UserIx, entry: &mut EntryPut, octets: Bytes) -> Bytes {
    let user = tables.user(ix);
    let about = entry.about.clone().unwrap_or_default();
    let (what, original) = about.split_once(' ').unwrap_or((&about, ""));
    let (from, to) = (&user.aor, &entry.from);
    let device =
        user.mailbox.by_message_id(Direction::Sent, from, to, original).and_then(|(_, d)| d);
    if what == "failed" && !entry.asked.failed {
        let text = notice_text(tables, ix, entry, "no device took it");
        let owed = device.filter(|d| user.location.device(*d).is_some());
        entry.owed = vec![owed.map_or(Debtor::Account, Debtor::Device)];
        entry.class = Class::Notice;
        entry.from_value = system_address(&user.aor).into();
        entry.content_type = PLAIN_TEXT;
        return Bytes::from(text);
    }
    entry.owed = user
        .location
        .devices()
        .filter(|d| d.kind == Kind::Cpm || Some(d.no) == device)
        .map(|d| Debtor::Device(d.no))
        .collect();
    octets
}

/// What our own lines to users are.
const PLAIN_TEXT: Bytes = Bytes::from_static(b"text/plain;charset=utf-8");

// --- writing ----------------------------------------------------------------------------------

/// The receipt for `entry`, as an entry of its reader's own: it is forwarded to the sender.
fn receipt(
    tables: &Tables,
    now: Now,
    ix: UserIx,
    entry: &EntryPut,
    what: Disposition,
) -> (EntryPut, Bytes) {
    let user = tables.user(ix);
    let (word, status) = match what {
        Disposition::Delivered => ("delivered", imdn::Disposition::Delivered),
        Disposition::Displayed => ("displayed", imdn::Disposition::Displayed),
        Disposition::Failed => ("failed", imdn::Disposition::DeliveryFailed),
    };
    let message_id = own_id(tables, ix, entry.no, word);
    let document = Imdn {
        message_id: entry.message_id.to_string(),
        datetime: entry.date.clone().unwrap_or_else(|| rfc3339(entry.taken)),
        recipient_uri: Some(user.aor.to_string()),
        original_recipient_uri: Some(user.aor.to_string()),
        status,
    };
    let octets = CpimWriter::new(&Identity::of(&user.aor), &Identity::of(&entry.from), now.unix)
        .message_id(&message_id)
        .content_type("message/imdn+xml")
        .content_disposition("notification")
        .finish(&document.write());
    let receipt = EntryPut {
        no: user.mailbox.next(),
        class: Class::Receipt,
        direction: Direction::Sent,
        from: user.aor.clone(),
        from_value: format!("<{}>", user.aor).into(),
        to: entry.from.clone(),
        fingerprint: fingerprint(&[message_id.as_bytes()]),
        message_id: message_id.into(),
        headers: conversation_lines(&entry.headers).into(),
        content_type: Bytes::from_static(b"message/cpim"),
        size: 0,
        body: BodyAt::Record,
        taken: now.unix,
        expires: now.unix.after(limits::MESSAGE_EXPIRES_DEFAULT),
        asked: Asked { failed: entry.asked.failed, ..Asked::default() },
        owed: Vec::new(),
        forward: Some(entry.from.clone()),
        date: None,
        device: None,
        about: Some(format!("{word} {}", entry.message_id)),
    };
    (receipt, octets)
}

/// Made from the entry it is about, so that the other side knows a repeat.
fn own_id(tables: &Tables, ix: UserIx, no: EntryNo, word: &str) -> String {
    let aor = tables.user(ix).aor.as_bytes();
    hex(&tables.legs.mac(&[b"receipt", aor, &no.to_le_bytes(), word.as_bytes()]))
}

/// Conversation-ID and Contribution-ID are copied, never made anew.
fn conversation_lines(lines: &[u8]) -> Vec<u8> {
    let kept = |line: &&[u8]| {
        [Name::ConversationId, Name::ContributionId].iter().any(|name| {
            let name = name.as_str().as_bytes();
            line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name)
        })
    };
    lines.split_inclusive(|o| *o == b'\n').filter(kept).flatten().copied().collect()
}

fn notice_text(tables: &Tables, ix: UserIx, entry: &EntryPut, why: &str) -> String {
    let own = &tables.user(ix).aor;
    let other = if entry.from == *own { &entry.to } else { &entry.from };
    format!("Your message to {other} of {} was not delivered: {why}.", rfc3339(entry.taken))
}

fn system_address(aor: &str) -> String {
    format!("<sip:{}>", account::split(aor).1)
}

fn from_system(to: &Arc<str>, now: Now) -> EntryPut {
    EntryPut {
        no: 0,
        class: Class::Notice,
        direction: Direction::Received,
        from: format!("sip:{}", account::split(to).1).into(),
        from_value: system_address(to).into(),
        to: to.clone(),
        message_id: "".into(),
        fingerprint: 0,
        headers: Bytes::new(),
        content_type: PLAIN_TEXT,
        size: 0,
        body: BodyAt::Record,
        taken: now.unix,
        expires: now.unix.after(limits::MESSAGE_EXPIRES_DEFAULT),
        asked: Asked::default(),
        owed: Vec::new(),
        forward: None,
        date: None,
        device: None,
        about: None,
    }
}
