//! Sockets for user agents: many devices over a few UDP sockets and TCP connections, driven by
//! one loop of the caller. The demo and the load generator stand on it.
//!
//! ```text
//!   with(device, register | send_* ...) ─┐              ┌─▶ sockets
//!   sockets, timers ──▶ turn() ──────────┴─▶ ua::Agent ─┴─▶ take() = (device, what happened)
//! ```
//!
//! There is no task and no timer per device: sockets are read until they are empty, and the next
//! deadlines stand in one heap.
#![expect(clippy::disallowed_methods, reason = "the clock of the devices")]
#![expect(
    deprecated,
    reason = "the successor of AsyncFd::new is unsafe; sockets own what they are"
)]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use tokio::io::unix::AsyncFd;

use crate::base::now::{Mono, Now, Unix};
use crate::shell::listen;
use crate::stack::transport::{Flow, Protocol};
use crate::ua::{Agent, AgentAct, AgentEvent};

/// Number of a device in its pool, from 0 in the order of [`Pool::add`].
pub type Device = usize;

/// Number of a socket in its pool.
pub type Port = usize;

/// Devices and the sockets that they share. Lives inside a tokio runtime.
pub struct Pool {
    began: Instant,
    sockets: Vec<Socket>,
    seats: Vec<Seat>,
    /// May hold moments that are no longer meant: `Seat::wake` decides.
    due: BinaryHeap<Reverse<(Mono, Device)>>,
    happened: VecDeque<(Device, AgentEvent)>,
    acts: Vec<AgentAct>,
    scratch: Vec<u8>,
    lost: u64,
}

struct Seat {
    agent: Agent,
    port: Port,
    wake: Option<Mono>,
}

struct Socket {
    kind: Kind,
    flow: Flow,
    local: SocketAddr,
    /// Whose octets come here: the one device, or by the user part of its address.
    first: Option<Device>,
    by_user: HashMap<Box<[u8]>, Device>,
}

enum Kind {
    Udp(AsyncFd<UdpSocket>),
    Tcp(AsyncFd<TcpStream>, BytesMut),
    Closed,
}

const DATAGRAM_OCTETS_MAX: usize = 65_535;
/// How much of one socket is handled before the others have their turn.
const AT_ONCE: usize = 64;
/// Shorter waits are spun: the timers of the runtime go by milliseconds.
const SPIN: Duration = Duration::from_micros(1500);

impl Pool {
    /// No devices, no sockets.
    #[must_use]
    pub fn new() -> Pool {
        Pool {
            began: Instant::now(),
            sockets: Vec::new(),
            seats: Vec::new(),
            due: BinaryHeap::new(),
            happened: VecDeque::new(),
            acts: Vec::new(),
            scratch: vec![0; DATAGRAM_OCTETS_MAX],
            lost: 0,
        }
    }

    /// Opens a UDP socket towards `server`, on any port of the same address family.
    ///
    /// # Errors
    /// What the system says.
    pub fn udp(&mut self, server: SocketAddr) -> io::Result<Port> {
        let any = SocketAddr::new(server.ip(), 0);
        let socket = listen::udp(any)?.into_std()?;
        socket.connect(server)?;
        let local = socket.local_addr()?;
        Ok(self.socket(Kind::Udp(AsyncFd::new(socket)?), Protocol::Udp, server, local))
    }

    /// Opens a TCP connection to `server`, for one device.
    ///
    /// # Errors
    /// What the system says.
    pub fn tcp(&mut self, server: SocketAddr) -> io::Result<Port> {
        let stream = TcpStream::connect_timeout(&server, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let local = stream.local_addr()?;
        let kind = Kind::Tcp(AsyncFd::new(stream)?, BytesMut::new());
        Ok(self.socket(kind, Protocol::Tcp, server, local))
    }

    /// The way to the server and the own address, for the configuration of an agent.
    ///
    /// # Panics
    /// If `port` is not of this pool.
    #[must_use]
    pub fn way(&self, port: Port) -> (Flow, SocketAddr) {
        (self.sockets[port].flow, self.sockets[port].local)
    }

    /// Puts a device on a socket. On a shared one the user parts of all addresses must differ,
    /// because answers and requests find their device by them.
    ///
    /// # Panics
    /// If `port` is not of this pool.
    pub fn add(&mut self, port: Port, agent: Agent) -> Device {
        let device = self.seats.len();
        let socket = &mut self.sockets[port];
        if socket.first.is_none() {
            socket.first = Some(device);
        }
        if let Some(user) = user_of_uri(agent.config().aor.as_bytes()) {
            socket.by_user.insert(user.into(), device);
        }
        self.seats.push(Seat { agent, port, wake: None });
        device
    }

    /// Switches a device off without a word: it forgets what was under way, and its socket closes.
    ///
    /// # Panics
    /// If it is not of this pool.
    pub fn switch_off(&mut self, device: Device) {
        let seat = &mut self.seats[device];
        seat.agent.restart();
        seat.wake = None;
        self.sockets[seat.port].kind = Kind::Closed;
    }

    /// Switches a device on again, on another socket of its own. It does not register by itself.
    ///
    /// # Panics
    /// If it or `port` is not of this pool.
    pub fn switch_on(&mut self, device: Device, port: Port) {
        let (flow, local) = self.way(port);
        self.sockets[port].first = Some(device);
        let seat = &mut self.seats[device];
        seat.port = port;
        seat.agent.moved(flow, local);
    }

    /// The device.
    ///
    /// # Panics
    /// If it is not of this pool.
    #[must_use]
    pub fn agent(&self, device: Device) -> &Agent {
        &self.seats[device].agent
    }

    /// Has a device do something, and sends what it wants sent.
    ///
    /// # Panics
    /// If it is not of this pool.
    pub fn with<R>(&mut self, device: Device, act: impl FnOnce(&mut Agent, Now) -> R) -> R {
        let now = self.now();
        let result = act(&mut self.seats[device].agent, now);
        self.perform(device);
        result
    }

    /// Takes what came in on all sockets and fires the timers that are due. Whether there may be
    /// more at once: then do not wait.
    pub fn turn(&mut self) -> bool {
        let mut more = false;
        for port in 0..self.sockets.len() {
            more |= self.receive(port);
        }
        let now = self.now();
        while let Some(Reverse((at, device))) = self.due.peek().copied() {
            if at > now.mono {
                break;
            }
            self.due.pop();
            let seat = &mut self.seats[device];
            if seat.wake == Some(at) {
                seat.wake = None;
                seat.agent.fire(now);
                self.perform(device);
            }
        }
        more
    }

    /// The next thing that happened to a device.
    pub fn take(&mut self) -> Option<(Device, AgentEvent)> {
        self.happened.pop_front()
    }

    /// Waits until something comes in, a timer is due, or `until` has come.
    pub async fn wait(&self, until: Instant) {
        let timer = self.due.peek().map(|Reverse((at, _))| self.began + at.since(Mono(0)));
        let until = timer.map_or(until, |at| at.min(until));
        let left = until.saturating_duration_since(Instant::now());
        if left < SPIN {
            std::thread::yield_now();
            return;
        }
        let ready = std::future::poll_fn(|cx| {
            for socket in &self.sockets {
                let poll = match &socket.kind {
                    Kind::Udp(fd) => fd.poll_read_ready(cx).map_ok(|mut g| g.clear_ready()),
                    Kind::Tcp(fd, _) => fd.poll_read_ready(cx).map_ok(|mut g| g.clear_ready()),
                    Kind::Closed => Poll::Pending,
                };
                if poll.is_ready() {
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        });
        tokio::select! {
            () = ready => {}
            () = tokio::time::sleep(left - SPIN) => {}
        }
    }

    /// Datagrams that the system did not take.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The clocks, read now.
    #[must_use]
    pub fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: Mono(0).after(self.began.elapsed()), unix: Unix(0).after(unix) }
    }

    fn socket(
        &mut self,
        kind: Kind,
        protocol: Protocol,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Port {
        let port = self.sockets.len();
        #[expect(clippy::cast_possible_truncation, reason = "a pool has a handful of sockets")]
        let flow = Flow { protocol, listener: port as u16, peer, connection: port as u64 };
        self.sockets.push(Socket { kind, flow, local, first: None, by_user: HashMap::new() });
        port
    }

    /// Reads one socket; true if it may hold more.
    fn receive(&mut self, port: Port) -> bool {
        for _ in 0..AT_ONCE {
            let socket = &mut self.sockets[port];
            let (read, stream) = match &mut socket.kind {
                Kind::Udp(fd) => (fd.get_ref().recv(&mut self.scratch), false),
                Kind::Tcp(fd, backlog) => {
                    flush(fd.get_ref(), backlog);
                    (fd.get_ref().read(&mut self.scratch), true)
                }
                Kind::Closed => return false,
            };
            match read {
                Ok(0) if stream => return self.closed(port),
                Ok(len) => {
                    let octets = Bytes::copy_from_slice(&self.scratch[..len]);
                    if let Some(device) = self.sockets[port].whose(&octets) {
                        let now = self.now();
                        self.seats[device].agent.receive(now, octets);
                        self.perform(device);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(_) if stream => return self.closed(port),
                // What an earlier datagram met with: its transaction will send again.
                Err(_) => {}
            }
        }
        true
    }

    fn closed(&mut self, port: Port) -> bool {
        self.sockets[port].kind = Kind::Closed;
        if let Some(device) = self.sockets[port].first {
            self.with(device, Agent::disconnected);
        }
        false
    }

    /// Does what a device wants, and notes when it wants to be woken.
    fn perform(&mut self, device: Device) {
        let mut acts = std::mem::take(&mut self.acts);
        let seat = &mut self.seats[device];
        seat.agent.drain(&mut acts);
        let port = seat.port;
        for act in acts.drain(..) {
            match act {
                AgentAct::Send(octets) => self.send(port, &octets),
                AgentAct::Event(event) => self.happened.push_back((device, event)),
            }
        }
        self.acts = acts;
        let seat = &mut self.seats[device];
        if let Some(at) = seat.agent.next_deadline()
            && seat.wake.is_none_or(|wake| at < wake)
        {
            seat.wake = Some(at);
            self.due.push(Reverse((at, device)));
        }
    }

    fn send(&mut self, port: Port, octets: &[u8]) {
        match &mut self.sockets[port].kind {
            Kind::Udp(fd) => {
                // As if the network had lost it: the transaction sends again.
                self.lost += u64::from(fd.get_ref().send(octets).is_err());
            }
            Kind::Tcp(fd, backlog) => {
                backlog.extend_from_slice(octets);
                flush(fd.get_ref(), backlog);
            }
            Kind::Closed => self.lost += 1,
        }
    }
}

impl Default for Pool {
    fn default() -> Self {
        Pool::new()
    }
}

impl Socket {
    fn whose(&self, octets: &[u8]) -> Option<Device> {
        if self.by_user.len() < 2 {
            return self.first;
        }
        self.by_user.get(user_of(octets)?).copied()
    }
}

/// Writes what the connection takes now; the rest goes with the next look at it.
fn flush(mut stream: &TcpStream, backlog: &mut BytesMut) {
    while !backlog.is_empty() {
        match stream.write(backlog) {
            Ok(written) => drop(backlog.split_to(written)),
            // A connection that failed is noticed by the next read.
            Err(_) => return,
        }
    }
}

/// The user part by which a message finds its device: that of the Request-URI, which is our
/// Contact, or of From in the answer to a request of ours.
fn user_of(message: &[u8]) -> Option<&[u8]> {
    const FROM: &[u8] = b"\r\nFrom: ";
    if !message.starts_with(b"SIP/2.0 ") {
        let uri = message.splitn(3, |o| *o == b' ').nth(1)?;
        return user_of_uri(uri);
    }
    let at = memchr::memmem::find(message, FROM)?;
    let value = message.get(at + FROM.len()..)?;
    user_of_uri(value.get(memchr::memchr(b'<', value)? + 1..)?)
}

/// `alice` of `sip:alice@a.example`.
fn user_of_uri(uri: &[u8]) -> Option<&[u8]> {
    let user = uri.strip_prefix(b"sip:")?;
    user.get(..memchr::memchr(b'@', user)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_find_their_device_by_user() {
        let request = b"MESSAGE sip:bob@127.0.0.1:7000 SIP/2.0\r\nFrom: <sip:eve@x>\r\n\r\n";
        let answer = b"SIP/2.0 200 OK\r\nVia: x\r\nFrom: \"A\" <sip:alice@a.example>;tag=1\r\n\r\n";
        assert_eq!(user_of(request), Some(b"bob".as_slice()));
        assert_eq!(user_of(answer), Some(b"alice".as_slice()));
        for odd in [b"".as_slice(), b"SIP/2.0 200 OK\r\n\r\n", b"MESSAGE", b"MESSAGE tel:1 SIP"] {
            assert_eq!(user_of(odd), None);
        }
    }
}
