//! The closed sets of RFC 3261 that we act on: methods and header names.

use std::fmt;

use super::grammar::is_token;

/// A request method. Compared octet by octet: methods are case-sensitive (RFC 3261 §7.1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Method {
    /// RFC 3261 §10.
    Register,
    /// RFC 3428.
    Message,
    /// RFC 3261 §13.
    Invite,
    /// RFC 3261 §13; never answered.
    Ack,
    /// RFC 3261 §15.
    Bye,
    /// RFC 3261 §9.
    Cancel,
    /// RFC 3261 §11.
    Options,
    /// RFC 6665.
    Subscribe,
    /// RFC 6665.
    Notify,
    /// RFC 3903.
    Publish,
    /// RFC 3515.
    Refer,
    /// RFC 3311.
    Update,
    /// RFC 3262.
    Prack,
    /// RFC 6086.
    Info,
    /// A method we do not know, as it was spelled; it can be answered (501) and passed on.
    Other(Box<str>),
}

impl Method {
    /// The method with this spelling; `None` when it is not a token (RFC 3261 §25.1).
    #[must_use]
    pub fn of(spelled: &[u8]) -> Option<Method> {
        Some(match spelled {
            b"REGISTER" => Method::Register,
            b"MESSAGE" => Method::Message,
            b"INVITE" => Method::Invite,
            b"ACK" => Method::Ack,
            b"BYE" => Method::Bye,
            b"CANCEL" => Method::Cancel,
            b"OPTIONS" => Method::Options,
            b"SUBSCRIBE" => Method::Subscribe,
            b"NOTIFY" => Method::Notify,
            b"PUBLISH" => Method::Publish,
            b"REFER" => Method::Refer,
            b"UPDATE" => Method::Update,
            b"PRACK" => Method::Prack,
            b"INFO" => Method::Info,
            other if is_token(other) => Method::Other(std::str::from_utf8(other).ok()?.into()),
            _ => return None,
        })
    }

    /// The spelling on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Method::Register => "REGISTER",
            Method::Message => "MESSAGE",
            Method::Invite => "INVITE",
            Method::Ack => "ACK",
            Method::Bye => "BYE",
            Method::Cancel => "CANCEL",
            Method::Options => "OPTIONS",
            Method::Subscribe => "SUBSCRIBE",
            Method::Notify => "NOTIFY",
            Method::Publish => "PUBLISH",
            Method::Refer => "REFER",
            Method::Update => "UPDATE",
            Method::Prack => "PRACK",
            Method::Info => "INFO",
            Method::Other(spelled) => spelled,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! names {
    ($($variant:ident $long:literal $($compact:literal)?,)*) => {
        /// A header that we know by name; compact forms are the same name (RFC 3261 §7.3.3).
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Name {
            $(#[doc = concat!("`", $long, "`")] $variant,)*
            /// Any other header; its spelling is in [`super::Field::spelled`].
            Other,
        }

        const SPELLINGS: &[(Name, &str)] = &[
            $((Name::$variant, $long), $((Name::$variant, $compact),)?)*
        ];

        impl Name {
            /// The canonical long spelling; empty for [`Name::Other`].
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Name::$variant => $long,)*
                    Name::Other => "",
                }
            }
        }
    };
}

names! {
    Via "Via" "v",
    From "From" "f",
    To "To" "t",
    CallId "Call-ID" "i",
    CSeq "CSeq",
    MaxForwards "Max-Forwards",
    Contact "Contact" "m",
    ContentType "Content-Type" "c",
    ContentLength "Content-Length" "l",
    ContentEncoding "Content-Encoding" "e",
    ContentDisposition "Content-Disposition",
    ContentLanguage "Content-Language",
    Expires "Expires",
    MinExpires "Min-Expires",
    Route "Route",
    RecordRoute "Record-Route",
    Path "Path",
    ServiceRoute "Service-Route",
    Require "Require",
    ProxyRequire "Proxy-Require",
    Supported "Supported" "k",
    Unsupported "Unsupported",
    Allow "Allow",
    AllowEvents "Allow-Events" "u",
    Accept "Accept",
    AcceptEncoding "Accept-Encoding",
    AcceptContact "Accept-Contact" "a",
    RejectContact "Reject-Contact" "j",
    Authorization "Authorization",
    WwwAuthenticate "WWW-Authenticate",
    ProxyAuthorization "Proxy-Authorization",
    ProxyAuthenticate "Proxy-Authenticate",
    AuthenticationInfo "Authentication-Info",
    Event "Event" "o",
    Date "Date",
    Subject "Subject" "s",
    UserAgent "User-Agent",
    Server "Server",
    RetryAfter "Retry-After",
    Warning "Warning",
    Reason "Reason",
    Replaces "Replaces",
    PAssertedIdentity "P-Asserted-Identity",
    PPreferredIdentity "P-Preferred-Identity",
    PPreferredService "P-Preferred-Service",
    PAssertedService "P-Asserted-Service",
    Privacy "Privacy",
    ConversationId "Conversation-ID",
    ContributionId "Contribution-ID",
    InReplyToContributionId "InReplyTo-Contribution-ID",
    MessageExpires "Message-Expires",
}

impl Name {
    /// The name with this spelling, long or compact, in any case; [`Name::Other`] if unknown.
    #[must_use]
    pub fn of(spelled: &[u8]) -> Name {
        let mut slot = slot(spelled);
        while let Some(&entry) = TABLE.get(slot) {
            let Some((name, long)) =
                usize::from(entry).checked_sub(1).and_then(|i| SPELLINGS.get(i))
            else {
                return Name::Other;
            };
            if long.as_bytes() == spelled || long.as_bytes().eq_ignore_ascii_case(spelled) {
                return *name;
            }
            slot = (slot + 1) % SLOTS;
        }
        Name::Other
    }
}

const SLOTS: usize = 256;

/// Open addressing, filled by the compiler: 0 is a free slot, n is `SPELLINGS[n - 1]`.
static TABLE: [u8; SLOTS] = table();

#[expect(clippy::cast_possible_truncation, reason = "fewer than 255 spellings, asserted")]
const fn table() -> [u8; SLOTS] {
    assert!(SPELLINGS.len() < 128);
    let mut table = [0; SLOTS];
    let mut i = 0;
    while i < SPELLINGS.len() {
        let mut at = slot(SPELLINGS[i].1.as_bytes());
        while table[at] != 0 {
            at = (at + 1) % SLOTS;
        }
        i += 1;
        table[at] = i as u8;
    }
    table
}

/// Where the search for a spelling starts: its length, first, middle and last letter.
const fn slot(spelled: &[u8]) -> usize {
    let n = spelled.len();
    if n == 0 {
        return 0;
    }
    let (first, middle, last) = (spelled[0] | 32, spelled[n / 2] | 32, spelled[n - 1] | 32);
    (n * 7 + first as usize * 31 + middle as usize * 17 + last as usize * 5) % SLOTS
}
