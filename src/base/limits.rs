//! Every bound in the program, one constant each.

use std::time::Duration;

// --- what may come in -------------------------------------------------------------------------

/// A whole header section, start line included, in octets.
pub const HEADER_SECTION_OCTETS_MAX: usize = 16 * 1024;
/// One header field, in octets.
pub const HEADER_OCTETS_MAX: usize = 4 * 1024;
/// Header fields in one message.
pub const HEADERS_MAX: usize = 128;
/// A URI, in octets.
pub const URI_OCTETS_MAX: usize = 1024;
/// Parameters of one URI or header value.
pub const PARAMS_MAX: usize = 64;
/// A SIP body, in octets; a larger one gets 413.
pub const BODY_OCTETS_MAX: usize = 256 * 1024;
/// Via values in one request.
pub const VIAS_MAX: usize = 30;
/// Depth of nested multipart bodies that we look into.
pub const MULTIPART_DEPTH_MAX: usize = 4;
/// Parts of one multipart body that we look at.
pub const MULTIPART_PARTS_MAX: usize = 32;
/// Octets of an IMDN document after inflation.
pub const IMDN_OCTETS_MAX: usize = 16 * 1024;
/// Depth of nested elements in an IMDN document.
pub const IMDN_DEPTH_MAX: usize = 16;

// --- connections ------------------------------------------------------------------------------

/// Open TCP connections of the process.
pub const CONNECTIONS_MAX: usize = 16 * 1024;
/// Open TCP connections from one address.
pub const CONNECTIONS_PER_SOURCE_MAX: usize = 128;
/// How long a connection that has not authenticated anything may stay idle.
pub const CONNECTION_UNPROVEN_IDLE: Duration = Duration::from_secs(10);
/// How long a connection may be open until somebody has authenticated on it.
pub const CONNECTION_UNPROVEN_MAX: Duration = Duration::from_secs(30);
/// How long a connection on which somebody authenticated may stay idle.
pub const CONNECTION_PROVEN_IDLE: Duration = Duration::from_secs(3600);
/// Pieces of streams that may wait for the loop; connections wait while there are so many.
pub const CONNECTION_EVENTS_MAX: usize = 1024;
/// Octets that may wait to be written on one connection before it is closed.
pub const CONNECTION_BACKLOG_OCTETS_MAX: usize = 1024 * 1024;

/// SIP listeners of the process.
pub const LISTENERS_MAX: usize = 64;

// --- transactions (RFC 3261 §17, table 4) -----------------------------------------------------

/// Round-trip estimate.
pub const T1: Duration = Duration::from_millis(500);
/// Longest interval between retransmissions of non-INVITE requests and INVITE responses.
pub const T2: Duration = Duration::from_secs(4);
/// Longest time a message stays in the network.
pub const T4: Duration = Duration::from_secs(5);
/// Timer D over UDP: at least 32 s.
pub const TIMER_D: Duration = Duration::from_secs(32);
/// Server transactions that wait only to absorb retransmissions; the oldest give way.
pub const COMPLETED_MAX: usize = 65_536;
/// Octets of their answers; here too the oldest give way.
pub const COMPLETED_OCTETS_MAX: usize = 32 * 1024 * 1024;
/// These answers stand in blocks of so many octets.
pub const ANSWERS_BLOCK_OCTETS: usize = 64 * 1024;
/// Server transactions without a final answer.
pub const SERVER_TRANSACTIONS_MAX: usize = 65_536;
/// Room for so many transactions of a kind is kept where there are fewer.
pub const TRANSACTIONS_ROOM: usize = 1024;
/// Client transactions under way.
pub const CLIENT_TRANSACTIONS_MAX: usize = 262_144;

// --- accounts ---------------------------------------------------------------------------------

/// The user part of a new account's address, in octets.
pub const ACCOUNT_NAME_OCTETS_MAX: usize = 64;
/// A password, in octets.
pub const PASSWORD_OCTETS_MAX: usize = 1024;

// --- registrar --------------------------------------------------------------------------------

/// Shortest registration granted; a shorter one gets 423 (RFC 3261 §10.3 step 7).
pub const EXPIRES_MIN: Duration = Duration::from_secs(60);
/// Longest registration granted; a longer wish is cut to it.
pub const EXPIRES_MAX: Duration = Duration::from_secs(7200);
/// Granted where the phone says nothing.
pub const EXPIRES_DEFAULT: Duration = Duration::from_secs(3600);
/// The journal holds a lease of this many times the expiry: a refresh within it writes nothing.
pub const LEASE_FACTOR: u32 = 3;
/// Bindings of one account.
pub const BINDINGS_MAX: usize = 10;
/// Devices of one account, bound or not.
pub const DEVICES_MAX: usize = 20;
/// Media types that one device is remembered to refuse.
pub const REFUSED_TYPES_MAX: usize = 32;
/// A device unseen for this long is forgotten.
pub const DEVICE_FORGOTTEN: Duration = Duration::from_secs(30 * 24 * 3600);
/// Octets of all Path values of one REGISTER: they are kept with each of its bindings.
pub const PATH_OCTETS_MAX: usize = 4 * 1024;
/// Nonces remembered per account.
pub const NONCES_PER_ACCOUNT_MAX: usize = 16;
/// How long a nonce may be used.
pub const NONCE_LIFETIME: Duration = Duration::from_secs(3600);

// --- messages ---------------------------------------------------------------------------------

/// Messages one account may send per second, in the long run.
pub const MESSAGES_PER_SECOND: u32 = 10;
/// Messages one account may send at once.
pub const MESSAGES_BURST: u32 = 50;
/// Registrations of one account that change what is on disk, per second, in the long run.
pub const REGISTRATIONS_PER_SECOND: u32 = 10;
/// Registrations of one account that change what is on disk, at once.
pub const REGISTRATIONS_BURST: u32 = 200;
/// Header lines of a message that travel from end to end, in octets; more get 513.
pub const END_TO_END_OCTETS_MAX: usize = 4 * 1024;
/// Receipts one account may send per second, in the long run.
pub const RECEIPTS_PER_SECOND: u32 = 100;
/// Receipts one account may send at once: a device that comes back has many.
pub const RECEIPTS_BURST: u32 = 1000;
/// How long the sender's side waits for the recipient's side before it answers 202.
pub const FORWARD_WAIT: Duration = Duration::from_secs(2);
/// How long a message waits for devices where it names no expiry.
pub const MESSAGE_EXPIRES_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3600);
/// The shortest expiry of a message: one attempt to deliver it has the time it needs (64*T1).
pub const MESSAGE_EXPIRES_MIN: Duration = Duration::from_secs(32);
/// The longest expiry a message may ask for.
pub const MESSAGE_EXPIRES_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Keys of incoming messages live this much longer than the message.
pub const SEEN_AFTER_EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);
/// Messages of one account that still wait for a device.
pub const OPEN_MESSAGES_MAX: usize = 10_000;
/// A request larger than this does not go out over UDP (RFC 3428 §8), unless configured.
pub const UDP_REQUEST_OCTETS_MAX: usize = 1300;
/// First pause after a device did not take a message.
pub const RETRY_FIRST: Duration = Duration::from_secs(2);
/// Longest pause between attempts.
pub const RETRY_MAX: Duration = Duration::from_secs(300);
/// One message in back-off holds the ones behind it no longer than this.
pub const RETRY_HOLDS_QUEUE: Duration = Duration::from_secs(30);
/// Bodies that take more than this together with their headers are files, not records.
pub const INLINE_BODY_OCTETS_MAX: usize = 60 * 1024;

// --- store ------------------------------------------------------------------------------------

/// Batches that one sync may cover.
pub const GROUP_MAX: usize = 512;
/// While batches come several at a time, a group waits so long for more of them.
pub const GROUP_GATHER: Duration = Duration::from_millis(1);
/// Batches under way from which on new requests get 503. What was accepted goes on.
pub const APPENDS_BUSY: usize = 16_384;
/// Batches that may wait for the committer.
pub const APPENDS_WAITING_MAX: usize = 65_536;
/// Octets of values and blobs in one group; a single batch may be larger.
pub const GROUP_OCTETS_MAX: usize = 4 * 1024 * 1024;
/// The value of one batch, and of one key of the store (which takes a little more for a single
/// batch of that size). With larger ones sled would write files that it never syncs.
pub const VALUE_OCTETS_MAX: usize = 64 * 1024;
/// Batches in one answer about the end of a log.
pub const TAIL_MAX: usize = 1024;
/// Pages that the store keeps in memory, in octets; the process grows by about twice this.
pub const STORE_CACHE_OCTETS: u64 = 128 * 1024 * 1024;
/// What `store check` lists; more are only counted.
pub const FINDINGS_MAX: usize = 1000;
/// Records nobody waits for are written with the next batch of their user, or after this.
pub const LAZY_RECORDS: Duration = Duration::from_millis(50);
/// The same for records whose loss nobody would notice.
pub const LAZY_HARMLESS_RECORDS: Duration = Duration::from_secs(5);
/// How often an uncertain batch is read again before the store is called broken.
pub const STORE_RETRIES: u32 = 5;

// --- the user agent (ua/) ---------------------------------------------------------------------

/// Messages that an agent's inbox shows; older ones are dropped.
pub const UA_INBOX_MAX: usize = 256;
/// Messages of which an agent remembers that it has shown them.
pub const UA_SEEN_MAX: usize = 1024;
/// Requests of one agent that wait for their answer or their turn.
pub const UA_REQUESTS_MAX: usize = 4096;
/// Pause of an agent after a refresh of its registration failed.
pub const UA_REGISTER_RETRY: Duration = Duration::from_secs(30);

// --- tools ------------------------------------------------------------------------------------

/// Messages that the trace ring remembers.
pub const TRACE_RING_MAX: usize = 4096;
/// Octets that the trace ring keeps alive.
pub const TRACE_OCTETS_MAX: usize = 16 * 1024 * 1024;
/// Entries of the trace ring that one look goes through, so that a look never holds the node up.
pub const TRACE_LOOK_MAX: usize = 64;
/// Requests of operators that may wait for the node.
pub const OPERATOR_REQUESTS_MAX: usize = 64;
/// Body of one request to the operator interface, in octets.
pub const OPERATOR_BODY_OCTETS_MAX: usize = 16 * 1024;
/// Body of one answer of the operator interface that our own client reads, in octets.
pub const OPERATOR_ANSWER_OCTETS_MAX: usize = 64 * 1024 * 1024;
/// How long the operator interface waits for the node.
pub const OPERATOR_WAIT: Duration = Duration::from_secs(10);
/// How long our own client waits for the operator interface.
pub const OPERATOR_ANSWER_WAIT: Duration = Duration::from_secs(15);
/// How long a look at the trace waits for something to show.
pub const TRACE_WAIT: Duration = Duration::from_secs(1);
