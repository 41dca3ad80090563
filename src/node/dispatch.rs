//! Who handles which request: the order of the checks of RFC 3261 §8.2, on one screen.

use super::{Effect, Node};
use crate::base::now::Now;
use crate::service::digest::{self, Verdict};
use crate::service::tu::{Answer, Asker, Refusal, UserIx};
use crate::service::{message, registrar};
use crate::stack::transaction::ServerKey;
use crate::stack::transport::{Flow, reply_flow};
use crate::syntax::sip::{Method, Name, NameAddr, Request};

/// Methods that are handled.
const ALLOW: &str = "OPTIONS, REGISTER, MESSAGE, CANCEL, ACK";
/// Option tags that a request may require of us.
const SUPPORTED: &[&str] = &["path"];

impl Node {
    /// A request that no transaction knows. Nothing that is answered here before the credentials
    /// are proven leaves state behind.
    pub(super) fn request(&mut self, now: Now, key: ServerKey, flow: Flow, request: Request) {
        if request.method == Method::Ack {
            return;
        }
        let tag = key.tag().into_boxed_str();
        let asker = Asker { key, flow, request, tag };
        let done = match check(&asker.request) {
            Err(refusal) => Err(refusal),
            Ok(()) => match asker.request.method {
                Method::Register => self.register(now, &asker),
                Method::Message => self.message(now, &asker),
                Method::Options => {
                    self.stateless(Answer::inform(&asker, |w| {
                        w.header(Name::Allow, ALLOW);
                        w.header(Name::Accept, message::ACCEPT);
                        w.header(Name::AcceptEncoding, "identity");
                        w.header(Name::Supported, SUPPORTED.join(", "));
                    }));
                    Ok(())
                }
                Method::Subscribe if asker.request.is_in_dialog() => {
                    Err(Refusal::of(481, "No such dialog"))
                }
                Method::Subscribe | Method::Publish => {
                    Err(Refusal::of(489, "Event package is not in this version"))
                }
                Method::Cancel => Err(Refusal::of(481, "No transaction to cancel")),
                Method::Bye | Method::Notify | Method::Prack | Method::Update | Method::Info => {
                    Err(Refusal::of(481, "No such dialog"))
                }
                Method::Other(_) => {
                    Err(Refusal::of(501, "Method is not implemented").with(Name::Allow, ALLOW))
                }
                _ => Err(Refusal::of(405, "Method is not allowed").with(Name::Allow, ALLOW)),
            },
        };
        if let Err(refusal) = done {
            self.stateless(Answer::refuse(&asker, &refusal));
        }
    }

    fn register(&mut self, now: Now, asker: &Asker) -> Result<(), Refusal> {
        let to = asker.request.to()?;
        let aor = self
            .tables
            .settings
            .domains
            .aor(&to.uri)
            .ok_or(Refusal::of(404, "To names nobody in a domain served here"))?;
        let Some(ix) = self.proven(now, asker, &aor)? else { return Ok(()) };
        if !self.is_own(&asker.request.from()?, &aor) {
            return Err(Refusal::of(403, "From is not the authenticated account"));
        }
        self.admit(now, asker)?;
        registrar::register(&mut self.tables, now, ix, asker, &mut self.out);
        Ok(())
    }

    fn message(&mut self, now: Now, asker: &Asker) -> Result<(), Refusal> {
        if asker.request.is_in_dialog() {
            return Err(Refusal::of(481, "No such dialog"));
        }
        let from = asker.request.from()?;
        let aor = self
            .tables
            .settings
            .domains
            .aor(&from.uri)
            .ok_or(Refusal::of(403, "From names nobody in a domain served here"))?;
        let Some(ix) = self.proven(now, asker, &aor)? else { return Ok(()) };
        if asker.request.max_forwards()? == Some(0) {
            return Err(Refusal::of(483, "Too Many Hops"));
        }
        self.admit(now, asker)?;
        message::submitted(&mut self.tables, now, ix, asker, &mut self.out);
        Ok(())
    }

    /// The account whose credentials the request carries; `None` if it was challenged instead.
    fn proven(&mut self, now: Now, asker: &Asker, aor: &str) -> Result<Option<UserIx>, Refusal> {
        let t = &mut self.tables;
        let ix = t.find(aor);
        let algorithms = t.settings.algorithms;
        let mut nobody = digest::Nonces::default();
        let user = ix.and_then(|ix| t.users.get_mut(ix.0 as usize));
        let (account, nonces) = match user {
            Some(user) => (user.account.as_ref(), &mut user.nonces),
            None => (None, &mut nobody),
        };
        let (boot, request) = (&t.boot, &asker.request);
        let offered = digest::offered(account, algorithms);
        let verdict = digest::verify(boot, now.unix, request, aor, account, algorithms, nonces);
        let stale = match verdict {
            Verdict::Proven => {
                if asker.flow.connection != 0 {
                    self.effects.push(Effect::Proven(asker.flow));
                }
                return Ok(ix);
            }
            Verdict::Challenge => false,
            Verdict::Stale => true,
        };
        t.nonce_serial = t.nonce_serial.wrapping_add(1);
        let nonce = digest::nonce(&t.boot, now.unix, t.nonce_serial, aor);
        let realm = crate::service::account::split(aor).1;
        let mut refusal = Refusal::of(401, "Unauthorized");
        for challenge in digest::challenges(offered, realm, &nonce, stale) {
            refusal = refusal.with(Name::WwwAuthenticate, challenge);
        }
        self.stateless(Answer::refuse(asker, &refusal));
        Ok(None)
    }

    /// Gives a proven request a transaction, so that its repeats are absorbed.
    fn admit(&mut self, now: Now, asker: &Asker) -> Result<(), Refusal> {
        if self.transactions.accept(now, &asker.key, asker.flow, &asker.request) {
            return Ok(());
        }
        Err(Refusal::of(503, "Too many transactions").with(Name::RetryAfter, "5"))
    }

    fn is_own(&self, from: &NameAddr, aor: &str) -> bool {
        self.tables.settings.domains.aor(&from.uri).as_deref() == Some(aor)
    }

    fn stateless(&mut self, answer: Answer) {
        let flow = reply_flow(&answer.request, answer.flow);
        self.effects.push(Effect::Send { flow, octets: answer.octets });
    }
}

/// RFC 3261 §8.2.2 and §8.2.3, in their order; the mandatory headers and the form of the
/// Request-URI have been looked at by the transport.
fn check(request: &Request) -> Result<(), Refusal> {
    let scheme = request.uri.split(|o| *o == b':').next().unwrap_or_default();
    if !scheme.eq_ignore_ascii_case(b"sip") && !scheme.eq_ignore_ascii_case(b"sips") {
        return Err(Refusal::of(416, "Unsupported URI Scheme"));
    }
    if request.method == Method::Cancel {
        return Ok(());
    }
    let mut unknown: Vec<String> = Vec::new();
    for name in [Name::Require, Name::ProxyRequire] {
        for tag in request.headers.list(name) {
            let tag = String::from_utf8_lossy(tag);
            if !SUPPORTED.iter().any(|s| s.eq_ignore_ascii_case(&tag)) {
                unknown.push(tag.into_owned());
            }
        }
    }
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Refusal::of(420, "Bad Extension").with(Name::Unsupported, unknown.join(", ")))
}
