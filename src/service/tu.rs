//! The contract of the services: what they may know ([`Tables`]) and what they may do ([`Out`]).
//!
//! A service is functions over the tables. It changes a user's state only by submitting records
//! ([`submit`]): the same [`User::apply`] that replay uses folds them, the batch goes to the
//! store, and what must wait for the store is given along as a [`Then`].

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::base::hash::Secret;
use crate::base::ids::{Ids, Partition};
use crate::base::limits;
use crate::base::log::{Append, Position, Stored};
use crate::base::now::{Mono, Now};
use crate::service::account::Domains;
use crate::service::digest::{Algorithms, Nonces};
use crate::service::location::Location;
use crate::service::log::Log;
use crate::service::mailbox::Mailbox;
use crate::service::policy::Bucket;
use crate::service::record::{AccountPut, DeviceNo, EntryNo, EntryPut, Record};
use crate::stack::transaction::{ClientId, ServerKey};
use crate::stack::transport::Flow;
use crate::syntax::sip::{Fault, Name, Request, Writer, answer};

/// Which user of this node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UserIx(pub u32);

/// What the operator has set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Home domains.
    pub domains: Domains,
    /// Digest algorithms offered.
    pub algorithms: Algorithms,
    /// Requests larger than this do not go out over UDP.
    pub udp_bytes_max: usize,
    /// Messages per second of one account, in the long run.
    pub messages_per_second: u32,
    /// Messages of one account at once.
    pub messages_burst: u32,
}

/// One served user: the unit of ownership.
#[derive(Debug)]
pub struct User {
    /// Address of record.
    pub aor: Arc<str>,
    /// Fixed share it belongs to.
    pub partition: Partition,
    /// Credentials, if the account exists.
    pub account: Option<AccountPut>,
    /// Whether they come from the configuration: then the log does not decide.
    pub provisioned: bool,
    /// Its devices and where they are.
    pub location: Location,
    /// Its messages and what its devices are owed.
    pub mailbox: Mailbox,
    /// Nonces it has used.
    pub nonces: Nonces,
    /// Its pace.
    pub bucket: Bucket,
    /// The pace of its registrations.
    pub registrations: Bucket,
    /// The pace of its receipts.
    pub receipts: Bucket,
    /// Its log.
    pub log: Log,
}

/// All state of the node.
#[derive(Debug)]
pub struct Tables {
    /// What the operator has set.
    pub settings: Settings,
    /// All users.
    pub users: Vec<User>,
    index: HashMap<Arc<str>, UserIx>,
    /// Source of random names.
    pub ids: Ids,
    /// Makes nonces; new at every start.
    pub boot: Secret,
    /// Makes the ids of our legs; the same for ever.
    pub legs: Secret,
    /// Whether the store still takes writes.
    pub store_works: bool,
    /// Batches without an outcome.
    pub under_way: usize,
    /// Serial of the next nonce.
    pub nonce_serial: u32,
    /// What Via says of each listener: `host:port`.
    sent_by: Vec<String>,
    next_client: ClientId,
    next_ticket: u64,
}

/// Who asked, and how to answer.
#[derive(Clone, Debug)]
pub struct Asker {
    /// The server transaction; without state if nothing was accepted yet.
    pub key: ServerKey,
    /// Where the request came from.
    pub flow: Flow,
    /// The request.
    pub request: Request,
    /// Our To tag.
    pub tag: Box<str>,
}

/// A protocol "no": a value, not an error.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// 300 to 699.
    pub status: u16,
    /// What a person reads; names the header where one is to blame.
    pub reason: Cow<'static, str>,
    /// Headers that this status calls for.
    pub headers: Vec<(Name, String)>,
}

impl Refusal {
    /// A refusal without further headers.
    #[must_use]
    pub const fn of(status: u16, reason: &'static str) -> Refusal {
        Refusal { status, reason: Cow::Borrowed(reason), headers: Vec::new() }
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: Name, value: impl Into<String>) -> Refusal {
        self.headers.push((name, value.into()));
        self
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Refusal { status: fault.status, reason: fault.reason, headers: Vec::new() }
    }
}

/// The store is broken or full: ask again later (RFC 3261 §21.5.4).
#[must_use]
pub fn store_unavailable() -> Refusal {
    Refusal::of(503, "Storage Unavailable").with(Name::RetryAfter, "10")
}

/// An answer that may leave. It can be made only from a refusal, from something that promises
/// nothing, or from a [`Held`] answer and the token of the store.
#[derive(Clone, Debug)]
pub struct Answer {
    /// To whom.
    pub key: ServerKey,
    /// Where the request came from.
    pub flow: Flow,
    /// For responses that no transaction holds.
    pub request: Request,
    /// Its status.
    pub status: u16,
    /// The response.
    pub octets: Bytes,
}

impl Answer {
    /// Says no.
    #[must_use]
    pub fn refuse(asker: &Asker, refusal: &Refusal) -> Answer {
        let mut w = answer(&asker.request, refusal.status, &refusal.reason, Some(&asker.tag));
        for (name, value) in &refusal.headers {
            w.header(*name, value);
        }
        Answer::made(asker, refusal.status, w)
    }

    /// Tells what is, and promises nothing: OPTIONS, a list of bindings, a refresh that is covered
    /// by a lease already on disk.
    #[must_use]
    pub fn inform(asker: &Asker, fill: impl FnOnce(&mut Writer)) -> Answer {
        let mut w = answer(&asker.request, 200, "OK", Some(&asker.tag));
        fill(&mut w);
        Answer::made(asker, 200, w)
    }

    fn made(asker: &Asker, status: u16, w: Writer) -> Answer {
        Answer {
            key: asker.key,
            flow: asker.flow,
            request: asker.request.clone(),
            status,
            octets: w.finish(b""),
        }
    }
}

/// A 2xx that is ready and waits for the disk.
#[derive(Clone, Debug)]
pub struct Held(Answer);

impl Held {
    /// Prepares a 2xx.
    #[must_use]
    pub fn new(asker: &Asker, status: u16, reason: &str, fill: impl FnOnce(&mut Writer)) -> Held {
        let mut w = answer(&asker.request, status, reason, Some(&asker.tag));
        fill(&mut w);
        Held(Answer::made(asker, status, w))
    }

    /// Lets it go: what it promises is on disk.
    #[must_use]
    pub fn release(self, _proof: &Stored) -> Answer {
        self.0
    }

    /// Turns it into a refusal, because the disk said no.
    #[must_use]
    pub fn refuse(self, refusal: &Refusal) -> Answer {
        let asker = Asker {
            key: self.0.key,
            flow: self.0.flow,
            request: self.0.request,
            tag: self.0.key.tag().into_boxed_str(),
        };
        Answer::refuse(&asker, refusal)
    }
}

/// What goes on when a batch is on disk.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most of them are held answers")]
pub enum Then {
    /// The answer leaves.
    Answer(Held),
    /// A device registered: what it is owed can go out.
    DeviceUp(DeviceNo),
    /// The sent entry is handed to the recipient's side.
    Offer(EntryNo),
    /// The recipient's side has an entry: the sender's side is told, and delivery begins.
    Taken {
        /// The entry here, if it is new.
        no: Option<EntryNo>,
        /// The sender.
        from: UserIx,
        /// The entry there.
        sent: EntryNo,
    },
    /// An entry that came from nobody else is delivered.
    Pump(EntryNo),
    /// The operator is answered.
    Operator(u64),
}

/// A moment that a service waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// A binding runs out.
    Bindings(UserIx),
    /// A device's queue may go on.
    Lane(UserIx, DeviceNo),
    /// The sender has waited long enough for the other side.
    Forward(UserIx, EntryNo),
    /// A message expires.
    Expiry(UserIx),
    /// Records nobody waits for are written.
    Lazy(UserIx),
    /// Devices long unseen are forgotten, old keys dropped.
    Sweep,
}

/// Something worth a line in the log or a count; nothing depends on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Note {
    /// A phone that cannot tell repeats may show this one twice: it was sent again after a restart.
    MayRepeat {
        /// Call-ID of the leg.
        call_id: String,
    },
    /// The same Message-ID came with other content, and was taken as another message.
    SameIdOtherBody {
        /// The id.
        message_id: String,
    },
    /// A debt ended without delivery.
    Undelivered {
        /// The entry's Message-ID.
        message_id: String,
        /// Why.
        why: &'static str,
    },
    /// A disposition named no message that we know.
    UnknownReceipt {
        /// The id it named.
        message_id: String,
    },
    /// A device was forgotten.
    DeviceForgotten {
        /// Its number.
        device: DeviceNo,
    },
    /// The store answered something that must not be.
    StoreTrouble {
        /// In words.
        what: &'static str,
    },
}

/// What a service wants done.
#[derive(Debug)]
pub enum Act {
    /// A response leaves.
    Answer(Answer),
    /// A request goes to a device.
    Send {
        /// Comes back with the outcome.
        id: ClientId,
        /// Whose device.
        user: UserIx,
        /// Which one.
        device: DeviceNo,
        /// Its branch.
        branch: String,
        /// Where it goes.
        flow: Flow,
        /// The request.
        request: Bytes,
    },
    /// A connection to a device is to be opened; what is sent on the flow waits for it.
    Connect(Flow),
    /// A batch for the store.
    Append(UserIx, Append),
    /// Content is to be read.
    Fetch {
        /// Whose.
        user: UserIx,
        /// Of which entry.
        no: EntryNo,
        /// For which device; for the other side where it names none.
        device: Option<DeviceNo>,
        /// Where it stands.
        at: Content,
    },
    /// A timer is set or stopped.
    Timer(Timer, Option<Mono>),
    /// A device registered or refreshed: what it is owed can go out.
    DeviceUp(UserIx, DeviceNo),
    /// A device is no longer registered.
    DeviceDown(UserIx, DeviceNo),
    /// An entry is offered to the recipient's side.
    Offer(Box<Offer>),
    /// The recipient's side has answered.
    Offered {
        /// The sender.
        from: UserIx,
        /// The entry there.
        no: EntryNo,
        /// 202, or a final refusal.
        status: u16,
    },
    /// The operator's question is answered.
    Operator(u64),
    /// Something worth a line.
    Note(Note),
}

/// What passes from the sender's side to the recipient's: the one link between two users, the same
/// whether they share a process or not. Its answer is [`Act::Offered`].
#[derive(Clone, Debug)]
pub struct Offer {
    /// The sender, for the answer.
    pub from: UserIx,
    /// The entry on the sender's side, for the answer.
    pub sent: EntryNo,
    /// The entry as the sender's side holds it.
    pub entry: Arc<EntryPut>,
    /// Its content.
    pub octets: Bytes,
}

/// Where content stands in the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// A [`Record::Body`] at this place.
    Record(Position),
    /// A blob.
    Blob(String),
}

/// The list that services push what they want done onto; the node drains it in order.
pub type Out = VecDeque<Act>;

impl Tables {
    /// Empty tables.
    #[must_use]
    pub fn new(settings: Settings, sent_by: Vec<String>, seed: [u8; 32], legs: Secret) -> Tables {
        let mut ids = Ids::new(seed);
        let boot = ids.secret();
        // A connection that a node before this one asked for may end only now.
        let next_client = ids.number() >> 24;
        Tables {
            settings,
            users: Vec::new(),
            index: HashMap::new(),
            ids,
            boot,
            legs,
            store_works: true,
            under_way: 0,
            nonce_serial: 0,
            sent_by,
            next_client,
            next_ticket: 1,
        }
    }

    /// The user with this address of record.
    #[must_use]
    pub fn find(&self, aor: &str) -> Option<UserIx> {
        self.index.get(aor).copied()
    }

    /// The user with this address of record, made if there is none.
    pub fn find_or_make(&mut self, aor: &str) -> UserIx {
        if let Some(ix) = self.find(aor) {
            return ix;
        }
        let aor: Arc<str> = Arc::from(aor);
        #[expect(clippy::cast_possible_truncation, reason = "users fit in memory long before 2^32")]
        let ix = UserIx(self.users.len() as u32);
        self.users.push(User {
            partition: Partition::of(&aor),
            aor: aor.clone(),
            account: None,
            provisioned: false,
            location: Location::default(),
            mailbox: Mailbox::default(),
            nonces: Nonces::default(),
            bucket: Bucket::default(),
            registrations: Bucket::default(),
            receipts: Bucket::default(),
            log: Log::default(),
        });
        self.index.insert(aor, ix);
        ix
    }

    /// The user.
    #[must_use]
    pub fn user(&self, ix: UserIx) -> &User {
        &self.users[ix.0 as usize]
    }

    /// The user, to change.
    pub fn user_mut(&mut self, ix: UserIx) -> &mut User {
        &mut self.users[ix.0 as usize]
    }

    /// Whether new things may be accepted that need the store.
    #[must_use]
    pub fn store_takes(&self) -> bool {
        self.store_works && self.under_way < limits::APPENDS_BUSY
    }

    /// What Via says of a listener.
    #[must_use]
    pub fn sent_by(&self, listener: u16) -> &str {
        self.sent_by.get(usize::from(listener)).map_or("localhost", String::as_str)
    }

    /// A number for a client transaction or a connection.
    pub fn client_id(&mut self) -> ClientId {
        self.next_client += 1;
        self.next_client
    }

    /// A number for a question to the store.
    pub fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }
}

impl User {
    /// Folds one record: the only way in which durable state changes, live and at replay.
    pub fn apply(&mut self, now: Now, at: Position, record: &Record) {
        match record {
            Record::AccountPut(put) if !self.provisioned => self.account = Some(put.clone()),
            Record::AccountPut(_) => {}
            Record::AccountGone => {
                if !self.provisioned {
                    self.account = None;
                }
                self.location.close();
                self.mailbox.close();
            }
            Record::BindingPut(put) => self.location.put(now, put),
            Record::BindingGone(gone) => self.location.unbind(gone),
            Record::DeviceGone(device) => {
                self.location.forget(*device);
                self.mailbox.forget(*device);
            }
            Record::EntryPut(put) => self.mailbox.put(now, put),
            Record::Body(octets) => self.mailbox.body(at, octets),
            Record::DebtClosed(closed) => self.mailbox.closed(closed),
            Record::DebtMoved(moved) => self.mailbox.moved(moved),
            Record::Forwarded(done) => self.mailbox.forwarded(done),
            Record::Disposed(disposed) => self.mailbox.disposed(disposed),
        }
    }
}

/// A pause before the next attempt: doubling from [`limits::RETRY_FIRST`] to
/// [`limits::RETRY_MAX`].
#[must_use]
pub fn backoff(attempts: u32) -> Duration {
    let factor = 1u32 << attempts.min(16);
    limits::RETRY_FIRST.saturating_mul(factor).min(limits::RETRY_MAX)
}
