//! What a MESSAGE carries: text, a CPIM message with its wishes, or receipts, bare or wrapped.

use crate::syntax::cpim::Cpim;
use crate::syntax::imdn::{Disposition, Imdn, inflate};
use crate::syntax::mime::first_text;
use crate::syntax::sip::{Name, Request};

const IMDN: &str = "message/imdn+xml";

/// The parts of a MESSAGE that an agent acts on.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// `imdn.Message-ID`.
    pub message_id: Option<String>,
    /// Who the CPIM message is from, unless it names nobody.
    pub reply_to: Option<String>,
    pub wants_delivered: bool,
    pub wants_displayed: bool,
    /// It is about another message, readable or not.
    pub is_receipt: bool,
    /// What it says of other messages.
    pub receipts: Vec<(String, Disposition)>,
    /// Another device of this account sent it.
    pub sent_by_us: bool,
    pub text: Option<String>,
}

/// `type/subtype` of a Content-Type value.
pub(super) fn media_type(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

impl Content {
    /// Reads the body of a MESSAGE; what cannot be read is left out.
    pub fn read(request: &Request) -> Content {
        let content_type = request.headers.text(Name::ContentType).unwrap_or_default();
        let kind = media_type(content_type);
        let mut content = Content::default();
        if kind.eq_ignore_ascii_case("message/cpim") {
            if let Ok(cpim) = Cpim::read(&request.body) {
                content.read_cpim(request, &cpim);
            }
        } else if kind.eq_ignore_ascii_case(IMDN) {
            content.read_receipts(&request.body, None);
        } else if !request.body.is_empty() {
            content.text = first_text(content_type.as_bytes(), &request.body);
        }
        let direction = request.headers.other("Message-Direction");
        content.sent_by_us |= direction.is_some_and(|d| d.eq_ignore_ascii_case(b"sent"));
        content
    }

    fn read_cpim(&mut self, request: &Request, cpim: &Cpim) {
        self.message_id = cpim.message_id().map(str::to_string);
        let named = cpim.from().filter(|from| !from.is_anonymous());
        self.reply_to = named.map(|from| from.uri.clone());
        let wanted = cpim.dispositions();
        (self.wants_delivered, self.wants_displayed) = (wanted.positive_delivery, wanted.display);
        self.sent_by_us = cpim.headers().iter().any(|header| {
            // No standard names its namespace, so any prefix will do.
            let local = header.name.rsplit(|o| *o == b'.').next().unwrap_or_default();
            local.eq_ignore_ascii_case(b"Message-Direction")
                && header.value.eq_ignore_ascii_case(b"sent")
        });
        let inner = cpim.content_header("Content-Type").unwrap_or(b"text/plain");
        let disposition = cpim.content_header("Content-Disposition").unwrap_or_default();
        let is_imdn = cpim.content_type().is(IMDN);
        self.is_receipt = is_imdn || starts_with(disposition, b"notification");
        if is_imdn {
            self.read_receipts(cpim.content(), cpim.content_header("Content-Encoding"));
        } else if cpim.content_header("Content-Transfer-Encoding").is_none() {
            self.text = first_text(inner, cpim.content());
        } else {
            self.text = first_text(b"message/cpim", &request.body);
        }
    }

    fn read_receipts(&mut self, document: &[u8], encoding: Option<&[u8]>) {
        self.is_receipt = true;
        let read = match encoding {
            None => Imdn::read(document),
            Some(_) => inflate(document).and_then(|xml| Imdn::read(&xml)),
        };
        let found = read.unwrap_or_default().into_iter();
        self.receipts.extend(found.map(|imdn| (imdn.message_id, imdn.status)));
    }
}

fn starts_with(value: &[u8], word: &[u8]) -> bool {
    value.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}
