//! MESSAGE from the device's side (RFC 3428): text, CPIM (RFC 3862) and receipts (RFC 5438).

use std::sync::Arc;

use bytes::Bytes;

use super::agent::Agent;
use super::config::{Kind, MessageRef};
use super::inbox::Asked;
use super::outgoing::{Draft, Purpose, line};
use crate::base::hash::{fingerprint, hex};
use crate::base::ids::Ids;
use crate::base::now::Now;
use crate::syntax::cpim::{CpimWriter, Identity, Wanted, rfc3339};
use crate::syntax::imdn::{Disposition, Imdn};
use crate::syntax::sip::Method;

/// What a CPM pager message says of itself (OMA CPM Conversation Functions, RFC 6050).
const CPM_LINES: &[u8] = b"Accept-Contact: *;\
+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.msg\"\r\n\
P-Preferred-Service: urn:urn-7:3gpp-service.ims.icsi.oma.cpm.msg\r\n";

/// A fresh Call-ID.
pub(super) fn call_id(ids: &mut Ids) -> String {
    format!("{:016x}{:016x}", ids.number(), ids.number())
}

impl Agent {
    /// Sends `text` to the URI `to` as text/plain. Receipts for it name its Call-ID.
    pub fn send_text(&mut self, now: Now, to: &str, text: &str) -> MessageRef {
        let body = Bytes::copy_from_slice(text.as_bytes());
        self.send_body(now, to, "text/plain;charset=utf-8", body, &[])
    }

    /// Sends `text` to the URI `to` as message/cpim and asks for the receipts `wanted`.
    pub fn send_cpim(&mut self, now: Now, to: &str, text: &str, wanted: Wanted) -> MessageRef {
        let id = self.ids().uuid();
        let body = self.cpim(now, to, &id).wanted(wanted).finish(text.as_bytes());
        let call_id = call_id(self.ids());
        let message = self.message_ref(&id);
        let purpose = Purpose::Message(message.clone());
        self.send_message(now, to, purpose, &call_id, "message/cpim", body, &[]);
        message
    }

    /// Sends any body. `content_type` is the whole header value; `extra` are further header
    /// lines as name and value. Receipts for it name its Call-ID, unless it is CPIM of the
    /// caller's making.
    pub fn send_body(
        &mut self,
        now: Now,
        to: &str,
        content_type: &str,
        body: Bytes,
        extra: &[(&str, &str)],
    ) -> MessageRef {
        let call_id = call_id(self.ids());
        self.send_as(now, &call_id, to, content_type, body, extra)
    }

    /// The same under a Call-ID of the caller's choice: for another try of a message that got no
    /// final answer, which the server knows again by it.
    pub fn send_as(
        &mut self,
        now: Now,
        call_id: &str,
        to: &str,
        content_type: &str,
        body: Bytes,
        extra: &[(&str, &str)],
    ) -> MessageRef {
        let message = self.message_ref(call_id);
        let purpose = Purpose::Message(message.clone());
        self.send_message(now, to, purpose, call_id, content_type, body, extra);
        message
    }

    /// The user has looked at a message: tells its sender, if the sender asked and was not told
    /// before (RFC 5438 §7.2.1). Whether a receipt was sent.
    pub fn displayed(&mut self, now: Now, message_id: &str) -> bool {
        let Some(asked) = self.inbox_mut().asked_by_id(message_id) else { return false };
        if !std::mem::replace(&mut asked.displayed, false) {
            return false;
        }
        let asked = asked.clone();
        self.send_receipt(now, &asked, Disposition::Displayed);
        true
    }

    /// Sends one receipt to the sender of a message.
    pub(super) fn send_receipt(&mut self, now: Now, asked: &Asked, what: Disposition) {
        let document = Imdn {
            message_id: asked.message_id.clone(),
            datetime: rfc3339(now.unix),
            recipient_uri: None,
            original_recipient_uri: None,
            status: what,
        };
        let id = self.ids().uuid();
        let body = self
            .cpim(now, &asked.to, &id)
            .content_type("message/imdn+xml")
            .content_disposition("notification")
            .finish(&document.write());
        self.inbox_mut().counts.given += 1;
        let call_id = call_id(self.ids());
        let to = asked.to.clone();
        self.send_message(now, &to, Purpose::Receipt, &call_id, "message/cpim", body, &[]);
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one request, each of its own type")]
    fn send_message(
        &mut self,
        now: Now,
        to: &str,
        purpose: Purpose,
        call_id: &str,
        content_type: &str,
        body: Bytes,
        extra: &[(&str, &str)],
    ) {
        let (tag, contribution) = (self.ids().tag(), self.ids().uuid());
        let aor = &self.config.aor;
        let mut lines = Vec::with_capacity(640);
        line(&mut lines, "Max-Forwards", &["70"]);
        line(&mut lines, "From", &["<", aor, ">;tag=", &tag]);
        line(&mut lines, "To", &["<", to, ">"]);
        line(&mut lines, "Call-ID", &[call_id]);
        if self.config.kind == Kind::Cpm {
            lines.extend_from_slice(CPM_LINES);
            let mut both = [aor.as_bytes(), to.as_bytes()];
            both.sort_unstable();
            line(&mut lines, "Conversation-ID", &[&hex(&fingerprint(&both).to_be_bytes())]);
            line(&mut lines, "Contribution-ID", &[&contribution]);
        }
        for (name, value) in extra {
            line(&mut lines, name, &[value]);
        }
        if !content_type.is_empty() {
            line(&mut lines, "Content-Type", &[content_type]);
        }
        let draft = Draft {
            purpose,
            method: Method::Message,
            uri: Arc::from(to),
            lines: lines.into(),
            body,
            answered: false,
            renewed: false,
        };
        self.send_in_turn(now, draft);
    }

    fn message_ref(&mut self, message_id: &str) -> MessageRef {
        self.next_number += 1;
        MessageRef { number: self.next_number, message_id: Arc::from(message_id) }
    }

    /// The beginning that message and receipt share.
    fn cpim(&self, now: Now, to: &str, id: &str) -> CpimWriter {
        let (from, to) = (Identity::of(&self.config.aor), Identity::of(to));
        CpimWriter::new(&from, &to, now.unix).message_id(id)
    }
}
