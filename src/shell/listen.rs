//! Sockets and flows: UDP sockets that the loop reads itself, TCP connections with a task each.
//! Queues are bounded; a connection that is slow, idle or too many is closed.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::base::limits;
use crate::stack::transport::{Flow, Protocol};

/// What a connection tells the loop.
#[derive(Debug)]
pub enum Event {
    /// It is there.
    Opened(Flow),
    /// Octets came.
    Octets(Flow, Bytes),
    /// It is gone, or could not be made.
    Closed(Flow),
}

/// All TCP connections.
pub struct Connections {
    open: HashMap<u64, Connection>,
    per_source: HashMap<IpAddr, usize>,
    events: mpsc::Sender<Event>,
}

struct Connection {
    flow: Flow,
    /// `None` once it is being closed: what waits is written, nothing more is taken.
    outbox: Option<mpsc::UnboundedSender<Bytes>>,
    /// Octets that wait to be written.
    backlog: Arc<AtomicUsize>,
    /// Somebody authenticated on it.
    proven: Arc<AtomicBool>,
    task: AbortHandle,
}

/// Connections that we accepted are told from those that the node numbers.
const ACCEPTED: u64 = 1 << 63;
const READ_OCTETS: usize = 16 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection that is being closed may take to write what waits.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
const DATAGRAM_OCTETS_MAX: usize = 65_535;
const UDP_BUFFER_OCTETS: usize = 8 * 1024 * 1024;

/// Binds a UDP socket with roomy buffers.
///
/// # Errors
/// The address is taken or not ours.
pub fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // The system may grant less; its own limit is then what it is.
    for set in [Socket::set_recv_buffer_size, Socket::set_send_buffer_size] {
        if let Err(error) = set(&socket, UDP_BUFFER_OCTETS) {
            tracing::debug!(%error, "socket buffers stay as they are");
        }
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// Binds a TCP listener.
///
/// # Errors
/// The address is taken or not ours.
pub fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// Receives one datagram if there is one, into an allocation of its own size.
pub fn receive(socket: &UdpSocket, scratch: &mut BytesMut) -> io::Result<(Bytes, SocketAddr)> {
    scratch.resize(DATAGRAM_OCTETS_MAX, 0);
    let (len, from) = socket.try_recv_from(scratch)?;
    Ok((Bytes::copy_from_slice(&scratch[..len]), from))
}

/// Accepts connections for ever and hands them to the loop.
pub async fn accept(listener: TcpListener, id: u16, to: mpsc::Sender<(TcpStream, Flow)>) {
    let mut number = ACCEPTED | u64::from(id) << 48;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                number += 1;
                let flow = Flow { protocol: Protocol::Tcp, listener: id, peer, connection: number };
                if to.send((stream, flow)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // Out of descriptors, most likely: let some connections end.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

impl Connections {
    /// No connections; what happens on them goes to `events`.
    #[must_use]
    pub fn new(events: mpsc::Sender<Event>) -> Connections {
        Connections { open: HashMap::new(), per_source: HashMap::new(), events }
    }

    /// Takes an accepted connection, unless there are too many.
    pub fn accepted(&mut self, stream: TcpStream, flow: Flow) -> bool {
        let from = self.per_source.get(&flow.peer.ip()).copied().unwrap_or(0);
        if self.open.len() >= limits::CONNECTIONS_MAX || from >= limits::CONNECTIONS_PER_SOURCE_MAX
        {
            tracing::warn!(peer = %flow.peer, "connection refused: too many");
            return false;
        }
        self.add(flow, |events, outbox, backlog, proven| async move {
            run(stream, flow, events, outbox, backlog, proven).await;
        });
        true
    }

    /// Opens a connection under the flow's number.
    pub fn connect(&mut self, flow: Flow) {
        self.add(flow, |events, outbox, backlog, proven| async move {
            let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(flow.peer)).await;
            match stream {
                Ok(Ok(stream)) => run(stream, flow, events, outbox, backlog, proven).await,
                _ => tell(&events, Event::Closed(flow)).await,
            }
        });
        // We asked for it: it may stay.
        self.proven(flow);
    }

    /// Hands octets to a connection; false if it is not there, or too slow and closed for it.
    pub fn send(&mut self, flow: Flow, octets: Bytes) -> bool {
        let Some(connection) = self.open.get(&flow.connection) else { return false };
        let waiting = connection.backlog.fetch_add(octets.len(), Ordering::Relaxed);
        if waiting + octets.len() > limits::CONNECTION_BACKLOG_OCTETS_MAX {
            tracing::warn!(peer = %flow.peer, "connection closed: it reads too slowly");
            self.closed(flow);
            return false;
        }
        connection.outbox.as_ref().is_some_and(|outbox| outbox.send(octets).is_ok())
    }

    /// Somebody has authenticated on it.
    pub fn proven(&mut self, flow: Flow) {
        if let Some(connection) = self.open.get(&flow.connection) {
            connection.proven.store(true, Ordering::Relaxed);
        }
    }

    /// Closes it. Octets handed over before are lost only if the peer does not read them soon. It
    /// counts until it is gone.
    pub fn close(&mut self, flow: Flow) {
        let Some(connection) = self.open.get_mut(&flow.connection) else { return };
        // Dropping the outbox lets the task write what waits and end.
        if connection.outbox.take().is_none() {
            return;
        }
        let (task, events) = (connection.task.clone(), self.events.clone());
        tokio::spawn(async move {
            tokio::time::sleep(CLOSE_GRACE).await;
            task.abort();
            tell(&events, Event::Closed(flow)).await;
        });
    }

    /// It is gone.
    pub fn closed(&mut self, flow: Flow) {
        if let Some(connection) = self.forget(flow) {
            connection.task.abort();
        }
    }

    /// All flows that are open.
    #[must_use]
    pub fn flows(&self) -> Vec<Flow> {
        let mut flows = Vec::with_capacity(self.open.len());
        #[expect(clippy::disallowed_methods, reason = "sorted below")]
        flows.extend(self.open.values().map(|c| c.flow));
        flows.sort_unstable();
        flows
    }

    fn forget(&mut self, flow: Flow) -> Option<Connection> {
        let connection = self.open.remove(&flow.connection)?;
        if let Some(count) = self.per_source.get_mut(&flow.peer.ip()) {
            *count -= 1;
            if *count == 0 {
                self.per_source.remove(&flow.peer.ip());
            }
        }
        Some(connection)
    }

    fn add<F>(
        &mut self,
        flow: Flow,
        run: impl FnOnce(
            mpsc::Sender<Event>,
            mpsc::UnboundedReceiver<Bytes>,
            Arc<AtomicUsize>,
            Arc<AtomicBool>,
        ) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        // Bounded by the count of octets that wait, not by the count of messages.
        let (outbox, inbox) = mpsc::unbounded_channel();
        let backlog = Arc::new(AtomicUsize::new(0));
        let proven = Arc::new(AtomicBool::new(false));
        let task = run(self.events.clone(), inbox, backlog.clone(), proven.clone());
        let task = tokio::spawn(task).abort_handle();
        *self.per_source.entry(flow.peer.ip()).or_insert(0) += 1;
        let outbox = Some(outbox);
        self.open.insert(flow.connection, Connection { flow, outbox, backlog, proven, task });
    }
}

async fn run(
    stream: TcpStream,
    flow: Flow,
    events: mpsc::Sender<Event>,
    inbox: mpsc::UnboundedReceiver<Bytes>,
    backlog: Arc<AtomicUsize>,
    proven: Arc<AtomicBool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "Nagle's algorithm stays on");
    }
    tell(&events, Event::Opened(flow)).await;
    let (reader, writer) = stream.into_split();
    tokio::select! {
        () = read(reader, flow, &events, &proven) => {}
        () = write(writer, inbox, &backlog) => {}
    }
    tell(&events, Event::Closed(flow)).await;
}

async fn read(
    mut reader: OwnedReadHalf,
    flow: Flow,
    events: &mpsc::Sender<Event>,
    proven: &AtomicBool,
) {
    let mut buffer = BytesMut::with_capacity(READ_OCTETS);
    // Dripping octets does not buy time: somebody has to authenticate.
    let prove_by = Instant::now() + limits::CONNECTION_UNPROVEN_MAX;
    loop {
        buffer.reserve(READ_OCTETS);
        let is_proven = proven.load(Ordering::Relaxed);
        let until = if is_proven {
            Instant::now() + limits::CONNECTION_PROVEN_IDLE
        } else {
            prove_by.min(Instant::now() + limits::CONNECTION_UNPROVEN_IDLE)
        };
        match tokio::time::timeout_at(until, reader.read_buf(&mut buffer)).await {
            Ok(Ok(1..)) => tell(events, Event::Octets(flow, buffer.split().freeze())).await,
            Ok(_) => return,
            // It may have proven itself with what came last.
            Err(_) if !is_proven && proven.load(Ordering::Relaxed) => {}
            Err(_) => return,
        }
    }
}

/// Writes until the outbox is dropped, then what still waits.
async fn write(
    mut writer: OwnedWriteHalf,
    mut inbox: mpsc::UnboundedReceiver<Bytes>,
    backlog: &AtomicUsize,
) {
    while let Some(octets) = inbox.recv().await {
        if writer.write_all(&octets).await.is_err() {
            return;
        }
        backlog.fetch_sub(octets.len(), Ordering::Relaxed);
    }
}

async fn tell(events: &mpsc::Sender<Event>, event: Event) {
    // The loop has ended: nobody is left to tell.
    drop(events.send(event).await);
}
