//! What can happen to the driver, and the threads that wait for it: one per UDP socket, per TCP
//! connection and per listener.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use bytes::Bytes;
use cpmd::syntax::sip::{Frame, Framer};

/// One thing that happened.
pub enum Event {
    /// The server of this life listens.
    Ready(u32),
    /// The server of this life is dead, and all it said was told.
    Gone(u32),
    /// A line of the server's log.
    Log(String),
    /// A datagram (the number of its socket), or one whole message of a connection (its number).
    Octets { device: usize, connection: u64, octets: Bytes },
    /// The server has connected to a device.
    Accepted { device: usize, stream: TcpStream },
    /// A connection of a device has ended.
    Closed { device: usize, connection: u64 },
}

/// A UDP socket of a device; its thread ends with it.
pub struct Port {
    socket: UdpSocket,
    gone: Arc<AtomicBool>,
}

const LOOK: Duration = Duration::from_millis(500);

impl Port {
    /// Opens a socket on any free port; `connection` is the number that its datagrams carry.
    pub fn open(device: usize, connection: u64, events: Sender<Event>) -> Port {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a UDP socket");
        socket.set_read_timeout(Some(LOOK)).expect("a socket with a timeout");
        let (reader, gone) = (socket.try_clone().expect("a socket"), Arc::<AtomicBool>::default());
        let end = Arc::clone(&gone);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65_535];
            while !end.load(Ordering::Relaxed) {
                let Ok((len, _)) = reader.recv_from(&mut buffer) else { continue };
                let octets = Bytes::copy_from_slice(&buffer[..len]);
                if events.send(Event::Octets { device, connection, octets }).is_err() {
                    return;
                }
            }
        });
        Port { socket, gone }
    }

    /// Where it is bound.
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("a bound socket")
    }

    /// Sends a datagram; what the network loses is lost.
    pub fn send(&self, octets: &[u8], to: SocketAddr) {
        drop(self.socket.send_to(octets, to));
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

/// Accepts connections for a device until the end of the program; where it listens.
pub fn listen(device: usize, events: Sender<Event>) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a TCP socket");
    let address = listener.local_addr().expect("a bound socket");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if events.send(Event::Accepted { device, stream }).is_err() {
                return;
            }
        }
    });
    address
}

/// Reads a connection until it ends: whole messages, then [`Event::Closed`].
pub fn read(device: usize, connection: u64, mut stream: TcpStream, events: Sender<Event>) {
    std::thread::spawn(move || {
        let (mut framer, mut buffer) = (Framer::new(), vec![0; 16 * 1024]);
        'open: while let Ok(len @ 1..) = stream.read(&mut buffer) {
            framer.push(&buffer[..len]);
            while let Some(frame) = framer.next() {
                let Frame::Message(octets) = frame else { break 'open };
                if events.send(Event::Octets { device, connection, octets }).is_err() {
                    return;
                }
            }
        }
        drop(events.send(Event::Closed { device, connection }));
    });
}
