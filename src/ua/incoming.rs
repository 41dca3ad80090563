//! Requests from the server: what is answered, what is shown, which receipts are given.

use super::agent::Agent;
use super::config::{AgentEvent, Answers, Kind, Receipts};
use super::content::{Content, media_type};
use super::inbox::{Asked, LINE_FORM_MARK, Received, identity};
use crate::base::now::Now;
use crate::stack::transaction::ServerKey;
use crate::stack::transport::Flow;
use crate::syntax::imdn::Disposition;
use crate::syntax::sip::{Fault, Method, Name, Request, Writer, answer, reason_phrase};

/// The methods that a device serves (RFC 3261 §20.5).
const ALLOW: &str = "MESSAGE, OPTIONS";

/// A status and the header that explains it.
type Verdict = (u16, Option<(Name, String)>);

impl Agent {
    /// A new request; retransmissions never come here.
    pub(super) fn serve(&mut self, now: Now, key: &ServerKey, flow: Flow, request: &Request) {
        if self.config.answers == Answers::Silent {
            return;
        }
        let parties = match Parties::of(request) {
            Ok(parties) => parties,
            Err(fault) => return self.answer_stateless(request, fault.status),
        };
        let (status, explained) = self.verdict(request);
        let mut writer = parties.answer(request, status, &self.ids().tag());
        if let Some((name, value)) = explained {
            writer.header(name, value);
        }
        if request.method == Method::Options {
            writer.header(Name::Allow, ALLOW);
        }
        self.reply(now, key, flow, request, status, writer);
        if request.method == Method::Message && (200..300).contains(&status) {
            self.show(now, request, &parties);
        }
    }

    /// Answers without keeping anything: what could not be read, or belongs to nothing.
    pub(super) fn answer_stateless(&mut self, request: &Request, status: u16) {
        if request.method != Method::Ack && self.config.answers != Answers::Silent {
            let tag = self.ids().tag();
            let octets = answer(request, status, reason_phrase(status), Some(&tag)).finish(b"");
            self.send(octets);
        }
    }

    fn reply(
        &mut self,
        now: Now,
        key: &ServerKey,
        flow: Flow,
        request: &Request,
        status: u16,
        writer: Writer,
    ) {
        let octets = writer.finish(b"");
        if !self.transactions().accept(now, key, flow, request) {
            return self.send(octets);
        }
        let mut acts = Vec::new();
        self.transactions().respond(now, key, status, octets, &mut acts);
        self.perform(now, acts);
    }

    fn verdict(&self, request: &Request) -> Verdict {
        let headers = &request.headers;
        if !matches!(request.method, Method::Message | Method::Options) {
            return (405, Some((Name::Allow, ALLOW.to_string())));
        }
        if let Some(wanted) = headers.get(Name::Require) {
            // RFC 3261 §8.2.2.3: no extension is known here that a request could require.
            let wanted = String::from_utf8_lossy(wanted).into_owned();
            return (420, Some((Name::Unsupported, wanted)));
        }
        let accept = || (Name::Accept, self.config.accepts.join(", "));
        if request.method == Method::Options {
            return (200, Some(accept()));
        }
        if let Answers::Status(status) = self.config.answers {
            return (status, None);
        }
        let content_type = headers.text(Name::ContentType).unwrap_or("");
        if !request.body.is_empty() && !self.takes(content_type) {
            return (415, Some(accept()));
        }
        match headers.text(Name::ContentEncoding) {
            Some(coding) if !coding.trim().eq_ignore_ascii_case("identity") => {
                (415, Some((Name::AcceptEncoding, "identity".to_string())))
            }
            _ => (200, None),
        }
    }

    fn takes(&self, content_type: &str) -> bool {
        let given = media_type(content_type);
        self.config.accepts.iter().any(|a| a == "*/*" || a.eq_ignore_ascii_case(given))
    }

    /// What a message that was taken means to the user.
    fn show(&mut self, now: Now, request: &Request, parties: &Parties) {
        let content = Content::read(request);
        let message = parties.received(request, &content);
        let key = identity(&message);
        let asked = self.asked(&content, &message);
        let first = self.inbox_mut().first_time(key, asked);
        let again = !first && self.config.kind == Kind::Plain;
        if !first {
            self.inbox_mut().counts.repeated += 1;
        }
        if !content.receipts.is_empty() {
            if first || again {
                self.inbox_mut().counts.receipts += content.receipts.len() as u64;
                for (message_id, disposition) in content.receipts {
                    self.event(AgentEvent::Receipt { message_id, disposition });
                }
            }
            return;
        }
        if content.sent_by_us {
            if first || again {
                self.inbox_mut().counts.copies += 1;
                self.event(AgentEvent::Copy(message));
            }
            return;
        }
        if first {
            self.inbox_mut().counts.received += 1;
            self.inbox_mut().show(key, message.clone());
            self.event(AgentEvent::Received(message));
            self.give_receipts(now, key);
        } else if again {
            let message = self.inbox_mut().show_again(key).unwrap_or(message);
            self.event(AgentEvent::Received(message));
        }
    }

    /// What the sender may be told. Nothing about receipts and about copies of what this account
    /// sent (RFC 5438 §7.2.1.1: never an IMDN for an IMDN).
    fn asked(&self, content: &Content, message: &Received) -> Option<Box<Asked>> {
        let (delivered, displayed) = (content.wants_delivered, content.wants_displayed);
        let silent = content.is_receipt || content.sent_by_us || self.config.kind == Kind::Plain;
        if silent || !(delivered || displayed) {
            return None;
        }
        let to = content.reply_to.clone().unwrap_or_else(|| message.from.clone());
        let message_id = message.message_id.clone()?;
        Some(Box::new(Asked { to, message_id, delivered, displayed }))
    }

    fn give_receipts(&mut self, now: Now, key: u128) {
        let (delivers, displays) = match self.config.receipts {
            Receipts::None => return,
            Receipts::Delivered => (true, false),
            Receipts::DeliveredAndDisplayed => (true, true),
        };
        let Some(asked) = self.inbox_mut().asked(key) else { return };
        let whole = asked.clone();
        asked.delivered &= !delivers;
        asked.displayed &= !displays;
        if delivers && whole.delivered {
            self.send_receipt(now, &whole, Disposition::Delivered);
        }
        if displays && whole.displayed {
            self.send_receipt(now, &whole, Disposition::Displayed);
        }
    }
}

/// The headers that answer and inbox both need, read once.
struct Parties<'a> {
    call_id: &'a str,
    cseq: u32,
    from: String,
    to: String,
    /// To has a tag already.
    tagged: bool,
}

impl<'a> Parties<'a> {
    fn of(request: &'a Request) -> Result<Parties<'a>, Fault> {
        let cseq = request.cseq()?;
        if cseq.method != request.method {
            return Err(Fault::malformed(Name::CSeq));
        }
        let to = request.to()?;
        Ok(Parties {
            call_id: request.call_id()?,
            cseq: cseq.number,
            from: request.from()?.uri.to_string(),
            tagged: to.tag().is_some(),
            to: to.uri.to_string(),
        })
    }

    fn answer(&self, request: &Request, status: u16, tag: &str) -> Writer {
        let headers = &request.headers;
        let mut writer = Writer::response(status, "");
        writer.copy(headers, Name::Via).copy(headers, Name::From);
        let to = headers.get(Name::To).unwrap_or_default();
        if self.tagged {
            writer.header(Name::To, to);
        } else {
            writer.header(Name::To, [to, b";tag=", tag.as_bytes()].concat());
        }
        writer.copy(headers, Name::CallId).copy(headers, Name::CSeq);
        writer
    }

    fn received(&self, request: &Request, content: &Content) -> Received {
        let content_type = request.headers.text(Name::ContentType).unwrap_or_default();
        Received {
            call_id: self.call_id.to_string(),
            cseq: self.cseq,
            from: self.from.clone(),
            to: self.to.clone(),
            message_id: content.message_id.clone(),
            content_type: content_type.to_string(),
            body: request.body.clone(),
            line_form: content.text.as_deref().is_some_and(is_line_form),
            text: content.text.clone(),
            shown: 1,
        }
    }
}

fn is_line_form(text: &str) -> bool {
    text.contains(LINE_FORM_MARK) && text.trim_end().lines().nth(1).is_none()
}
