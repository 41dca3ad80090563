//! The server loop: wait for one of the things that can happen, give it to the node, do what the
//! node wants.

mod journal;
mod world;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use self::world::{Happening, World};
use super::config::{Config, Protocol};
use super::listen::Event;
use super::{heap, listen, operator};
use crate::base::limits;
use crate::stack::transport;

/// What a server that is ready listens on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listening {
    /// The SIP listeners with the ports they got.
    pub sip: Vec<(Protocol, SocketAddr)>,
    /// The socket of the operator interface.
    pub operator_socket: PathBuf,
}

/// How long a stop waits for what is under way.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or SIGINT; `ready` is called once every listener is open and the journal
/// replayed. The error is one sentence that says what to do.
pub fn serve(config: Config, ready: impl FnOnce(&Listening)) -> Result<(), String> {
    serve_until(config, ready, stop_signal())
}

/// The same with another end than a signal.
pub fn serve_until(
    config: Config,
    ready: impl FnOnce(&Listening),
    stop: impl Future<Output = ()>,
) -> Result<(), String> {
    heap::give_back_large_buffers();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start: {e}"))?;
    runtime.block_on(run(config, ready, stop))
}

async fn stop_signal() {
    let term = signal(SignalKind::terminate());
    let (Ok(mut term), Ok(mut int)) = (term, signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

async fn run(
    config: Config,
    ready: impl FnOnce(&Listening),
    stop: impl Future<Output = ()>,
) -> Result<(), String> {
    let (sockets, accepted) = Sockets::open(&config)?;
    // What comes from the store is bounded by what was handed to it (limits::APPENDS_WAITING_MAX).
    let (happen, happenings) = mpsc::unbounded_channel();
    let (tell, events) = mpsc::channel(limits::CONNECTION_EVENTS_MAX);
    let data = config.data.clone();
    let world = World::open(config, &sockets.listeners, happen, tell)?;
    let operator = operator::Socket::bind(&data)?;
    let listening =
        Listening { sip: sockets.listening.clone(), operator_socket: operator.path().to_owned() };
    let (door, visits) = operator::door();
    let (stop_operator, operator_stops) = tokio::sync::oneshot::channel::<()>();
    let operator = tokio::spawn(operator.serve(door, async {
        // Either way it is the end.
        drop(operator_stops.await);
    }));
    ready(&listening);
    tracing::info!(listeners = listening.sip.len(), "ready");
    let mut server = Server { sockets, accepted, world, happenings, events, visits };
    tokio::select! {
        () = server.serve() => {}
        () = stop => {}
    }
    tracing::info!("stopping");
    server.drain(DRAIN).await;
    drop(stop_operator);
    operator.abort();
    Ok(())
}

/// What is bound.
struct Sockets {
    udp: Vec<(u16, UdpSocket)>,
    listeners: Vec<transport::Listener>,
    listening: Vec<(Protocol, SocketAddr)>,
}

type Accepted = mpsc::Receiver<(tokio::net::TcpStream, transport::Flow)>;

impl Sockets {
    fn open(config: &Config) -> Result<(Sockets, Accepted), String> {
        let (accept, accepted) = mpsc::channel(limits::CONNECTIONS_PER_SOURCE_MAX);
        let mut open = Sockets { udp: vec![], listeners: vec![], listening: vec![] };
        for (protocol, address) in &config.sip {
            let trouble = |e| {
                format!(
                    "cannot listen on {}:{address}: {e}: free the port or change listen.sip",
                    protocol.as_str()
                )
            };
            #[expect(clippy::cast_possible_truncation, reason = "listeners come from a file")]
            let id = open.listeners.len() as u16;
            let local = match protocol {
                Protocol::Udp => {
                    let socket = listen::udp(*address).map_err(trouble)?;
                    let local = socket.local_addr().map_err(trouble)?;
                    open.udp.push((id, socket));
                    local
                }
                Protocol::Tcp => {
                    let listener = listen::tcp(*address).map_err(trouble)?;
                    let local = listener.local_addr().map_err(trouble)?;
                    tokio::spawn(listen::accept(listener, id, accept.clone()));
                    local
                }
            };
            let host = if local.ip().is_unspecified() {
                config.domains.first().map_or_else(|| "localhost".to_owned(), |d| d.name.clone())
            } else {
                match local.ip() {
                    std::net::IpAddr::V4(ip) => ip.to_string(),
                    std::net::IpAddr::V6(ip) => format!("[{ip}]"),
                }
            };
            let protocol_of = match protocol {
                Protocol::Udp => transport::Protocol::Udp,
                Protocol::Tcp => transport::Protocol::Tcp,
            };
            open.listeners.push(transport::Listener { id, protocol: protocol_of, local, host });
            open.listening.push((*protocol, local));
        }
        Ok((open, accepted))
    }

    /// Waits until one of the UDP sockets has something.
    async fn readable(&self) {
        std::future::poll_fn(|cx| {
            for (_, socket) in &self.udp {
                if socket.poll_recv_ready(cx).is_ready() {
                    return std::task::Poll::Ready(());
                }
            }
            std::task::Poll::Pending
        })
        .await;
    }
}

struct Server {
    sockets: Sockets,
    accepted: Accepted,
    world: World,
    happenings: mpsc::UnboundedReceiver<Happening>,
    events: mpsc::Receiver<Event>,
    visits: operator::Visits,
}

/// How many datagrams of one socket are handled before the others have their turn.
const DATAGRAMS_AT_ONCE: usize = 64;

impl Server {
    async fn serve(&mut self) {
        loop {
            self.turn().await;
        }
    }

    /// Waits for something to happen and handles it, and what else is there already.
    async fn turn(&mut self) {
        let deadline = self.world.until_deadline();
        tokio::select! {
            () = self.sockets.readable() => {}
            Some(happening) = self.happenings.recv() => self.happened(happening),
            Some(event) = self.events.recv() => {
                self.world.connection(event);
                self.world.flush(&self.sockets.udp);
            }
            Some((stream, flow)) = self.accepted.recv() => {
                self.world.accepted(stream, flow);
            }
            Some((request, reply)) = self.visits.recv() => self.world.visit(request, reply),
            () = tokio::time::sleep(deadline.unwrap_or(Duration::from_secs(3600))) => {}
        }
        self.datagrams();
        for _ in 0..DATAGRAMS_AT_ONCE {
            let Ok(happening) = self.happenings.try_recv() else { break };
            self.happened(happening);
        }
        for _ in 0..DATAGRAMS_AT_ONCE {
            let Ok(event) = self.events.try_recv() else { break };
            self.world.connection(event);
            self.world.flush(&self.sockets.udp);
        }
        self.world.tick();
        self.world.flush(&self.sockets.udp);
    }

    fn happened(&mut self, happening: Happening) {
        self.world.happened(happening);
        self.world.flush(&self.sockets.udp);
    }

    fn datagrams(&mut self) {
        for at in 0..self.sockets.udp.len() {
            for _ in 0..DATAGRAMS_AT_ONCE {
                let (id, socket) = &self.sockets.udp[at];
                if !self.world.datagram(*id, socket) {
                    break;
                }
                self.world.flush(&self.sockets.udp);
            }
        }
    }

    /// Takes nothing new, writes what nobody waits for, and lets what is under way end.
    async fn drain(&mut self, at_most: Duration) {
        self.world.close();
        self.world.flush(&self.sockets.udp);
        let done = async {
            while !self.world.is_quiet() {
                let Some(happening) = self.happenings.recv().await else { break };
                self.happened(happening);
            }
        };
        if tokio::time::timeout(at_most, done).await.is_err() {
            tracing::warn!("stopped with batches under way");
        }
        self.world.stop();
    }
}
