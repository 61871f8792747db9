//! One directed link's way: what a node dials instead of its peer, so that the way can be cut.
//!
//! A proxy is a thread of the supervisor's that passes bytes on, each read written before the next read. It waits for
//! file descriptors only: its listener, its connections, and the orders of the supervisor. An order is answered once it
//! holds: when [`Proxy::cut`] returns, not one more byte gets through.
//!
//! **Cut** means silence, as of a network that loses packets. The thread reads, writes, accepts and closes nothing, so
//! neither side is told: what is open stays open, what is dialled is taken by the kernel and never answered, and a
//! process that ends is not missed by the other side. What the kernel takes meanwhile has its own bounds, the buffers
//! of a socket and the backlog of a listener; behind these the dialer waits for its time-out.
//!
//! **Healed**, all connections that a cut has met are closed, with what was in them, and the servers dial again. To
//! carry on with them would lose nothing but deliver it late, in one burst, and perhaps from a process that is gone:
//! no partition of a real network that lasts longer than the time-outs of TCP does that. A stream never goes on behind a
//! gap.
//!
//! Bounds: [`MAX_CONNECTIONS`], and for each [`CHUNK_BYTES`] in either direction.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags};

use super::signals::wait_ready;

/// How much is read at once, and kept while the other side does not take it.
const CHUNK_BYTES: usize = 64 * 1024;
/// A server has two links to a peer. The rest is room for those that are just ending.
const MAX_CONNECTIONS: usize = 16;
/// On one machine the kernel answers at once, unless the peer is paused and its backlog full. Orders wait so long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the proxy stands still when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The supervisor's end of a proxy. Dropped, it ends the proxy and its connections.
pub(crate) struct Proxy {
    address: SocketAddr,
    /// A byte there cuts the way, or mends it if it is cut; a byte back says that it is done.
    orders: UnixStream,
    is_cut: bool,
}

impl Proxy {
    /// Opens the way to `target`, on a port of its own.
    ///
    /// # Errors
    /// If the system has no port, thread or file descriptor left.
    pub(crate) fn open(name: String, target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
        listener.set_nonblocking(true).context("a listener cannot be set up")?;
        let address = listener.local_addr().context("a listener has no address")?;
        let (orders, taken) = UnixStream::pair().context("out of file descriptors")?;
        let way = Way { listener, target, orders: taken, connections: Vec::new(), chunk: vec![0; CHUNK_BYTES].into() };
        let run = move || match way.run() {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => eprintln!("a link's proxy ended: {error}"),
            // Nobody is there any more who could give an order.
            Err(_) | Ok(()) => {}
        };
        std::thread::Builder::new().name(name).spawn(run).context("no thread can be started")?;
        Ok(Self { address, orders, is_cut: false })
    }

    /// What is to be dialled.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Cuts the way, if it is not cut. Once this returns nothing gets through.
    ///
    /// # Errors
    /// If the proxy's thread has ended.
    pub(crate) fn cut(&mut self) -> Result<()> {
        if self.is_cut { Ok(()) } else { self.order() }
    }

    /// Mends the way, if it is cut.
    ///
    /// # Errors
    /// If the proxy's thread has ended.
    pub(crate) fn heal(&mut self) -> Result<()> {
        if self.is_cut { self.order() } else { Ok(()) }
    }

    /// The answer takes [`CONNECT_TIMEOUT`] at most: nothing else holds the thread up.
    fn order(&mut self) -> Result<()> {
        let order = self.orders.write_all(&[0]).and_then(|()| self.orders.read_exact(&mut [0]));
        order.context("a link's proxy has ended; `supervisor.log` says why, `down` and `up` start it again")?;
        self.is_cut = !self.is_cut;
        Ok(())
    }
}

/// The thread's end.
struct Way {
    listener: TcpListener,
    target: SocketAddr,
    orders: UnixStream,
    connections: Vec<Connection>,
    /// What was just read. One for all: nothing stays in it.
    chunk: Box<[u8]>,
}

impl Way {
    /// Runs until the supervisor's end is gone, which is an [`io::ErrorKind::UnexpectedEof`].
    fn run(mut self) -> io::Result<()> {
        loop {
            self.forward_until_ordered()?;
            self.take_order()?;
            self.confirm()?;
            // It is cut as long as this thread does nothing but wait for the order to mend it.
            self.take_order()?;
            self.forget_all();
            self.confirm()?;
        }
    }

    fn forward_until_ordered(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.wait()?.into_iter();
            let mut next = || ready.next().unwrap_or(false);
            if next() {
                return Ok(());
            }
            self.connections.retain_mut(|connection| {
                let (back, forth) = (next(), next());
                connection.forward(back, forth, &mut self.chunk).is_ok()
            });
            if next() {
                self.accept();
            }
        }
    }

    /// Says whether there is an order, then for each connection which of its directions can move, then whether somebody
    /// dials.
    fn wait(&self) -> io::Result<Vec<bool>> {
        let mut polled = vec![PollFd::new(&self.orders, PollFlags::IN)];
        polled.extend(self.connections.iter().flat_map(Connection::sources));
        if self.connections.len() < MAX_CONNECTIONS {
            polled.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        wait_ready(&mut polled, None)
    }

    /// Takes one who dials and dials on. If the target is not there, the newcomer is closed, and comes again.
    fn accept(&mut self) {
        match self.listener.accept() {
            Ok((near, _)) => self.connections.extend(Connection::open(near, self.target)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                eprintln!("a link's proxy takes no connection for {} ms: {error}", ACCEPT_PAUSE.as_millis());
                std::thread::sleep(ACCEPT_PAUSE);
            }
        }
    }

    /// Closes what the cut has met: the connections, and those that the kernel took in their dialers' names.
    fn forget_all(&mut self) {
        self.connections.clear();
        while self.listener.accept().is_ok() {}
    }

    fn take_order(&mut self) -> io::Result<()> {
        self.orders.read_exact(&mut [0])
    }

    fn confirm(&mut self) -> io::Result<()> {
        self.orders.write_all(&[0])
    }
}

/// A link's connection. A link speaks one way and is either whole or gone (ADR 0006): the end of one side ends both.
struct Connection {
    /// To who dialled.
    near: TcpStream,
    /// To the target.
    far: TcpStream,
    /// Read from `near` and not taken by `far` yet.
    forth: Vec<u8>,
    /// Read from `far` and not taken by `near` yet.
    back: Vec<u8>,
}

impl Connection {
    fn open(near: TcpStream, target: SocketAddr) -> io::Result<Self> {
        let far = TcpStream::connect_timeout(&target, CONNECT_TIMEOUT)?;
        for stream in [&near, &far] {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
        }
        Ok(Self { near, far, forth: Vec::new(), back: Vec::new() })
    }

    /// What the two directions wait for, back first.
    fn sources(&self) -> [PollFd<'_>; 2] {
        [source(&self.far, &self.near, &self.back), source(&self.near, &self.far, &self.forth)]
    }

    /// Moves the directions that can move. Back first: a refusal gets through before the end of who refused is noticed.
    fn forward(&mut self, back: bool, forth: bool, chunk: &mut [u8]) -> io::Result<()> {
        if back {
            pass_on(&self.far, &self.near, &mut self.back, chunk)?;
        }
        if forth {
            pass_on(&self.near, &self.far, &mut self.forth, chunk)?;
        }
        Ok(())
    }
}

/// With something in hand the taker is waited for, else the giver.
fn source<'a>(from: &'a TcpStream, to: &'a TcpStream, in_hand: &[u8]) -> PollFd<'a> {
    if in_hand.is_empty() { PollFd::new(from, PollFlags::IN) } else { PollFd::new(to, PollFlags::OUT) }
}

/// Reads once if nothing is in hand, and writes once. The end of `from` is an error; all it gave is passed on by then.
fn pass_on(mut from: &TcpStream, mut to: &TcpStream, in_hand: &mut Vec<u8>, chunk: &mut [u8]) -> io::Result<()> {
    if in_hand.is_empty() {
        let Some(count) = unless_blocked(from.read(chunk))? else { return Ok(()) };
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        in_hand.extend(chunk.iter().take(count));
    }
    let taken = unless_blocked(to.write(in_hand))?.unwrap_or(0);
    in_hand.drain(..taken);
    Ok(())
}

fn unless_blocked(count: io::Result<usize>) -> io::Result<Option<usize>> {
    match count {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A proxy and what it leads to. What they say to each other is waited for, never timed.
    struct Setup {
        target: TcpListener,
        proxy: Proxy,
    }

    impl Setup {
        fn new() -> Self {
            let target = TcpListener::bind("127.0.0.1:0").unwrap();
            let proxy = Proxy::open("test".to_owned(), target.local_addr().unwrap()).unwrap();
            Self { target, proxy }
        }

        fn dial(&self) -> TcpStream {
            patient(TcpStream::connect(self.proxy.address()).unwrap())
        }

        /// A connection through the proxy: the dialer's end and the target's.
        fn connect(&self) -> (TcpStream, TcpStream) {
            let near = self.dial();
            (near, patient(self.target.accept().unwrap().0))
        }
    }

    /// What does not come in this time never comes: the test fails instead of hanging.
    fn patient(stream: TcpStream) -> TcpStream {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    fn say(mut stream: &TcpStream, text: &str) {
        stream.write_all(text.as_bytes()).unwrap();
    }

    #[track_caller]
    fn hear(mut stream: &TcpStream, text: &str) {
        let mut heard = vec![0; text.len()];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(String::from_utf8_lossy(&heard), text);
    }

    /// All that comes until the end, which may be a rough one.
    #[track_caller]
    fn rest(mut stream: &TcpStream) -> String {
        let mut heard = Vec::new();
        if let Err(error) = stream.read_to_end(&mut heard) {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
        String::from_utf8(heard).unwrap()
    }

    #[test]
    fn bytes_pass_both_ways_and_an_end_is_an_end_for_both() {
        let setup = Setup::new();
        let (near, far) = setup.connect();
        say(&near, "hello");
        hear(&far, "hello");
        say(&far, "welcome");
        hear(&near, "welcome");
        say(&near, "last words");
        drop(near);
        assert_eq!(rest(&far), "last words");

        let (near, far) = setup.connect();
        say(&far, "refused");
        drop(far);
        assert_eq!(rest(&near), "refused");
    }

    /// More than all buffers between them hold, in writes and reads of different sizes.
    #[test]
    fn a_slow_taker_gets_all_of_it_in_order() {
        const WORDS: u32 = 8 << 20;
        let setup = Setup::new();
        let (mut near, mut far) = setup.connect();
        let giver = std::thread::spawn(move || {
            let all: Vec<u8> = (0..WORDS).flat_map(u32::to_be_bytes).collect();
            near.write_all(&all).unwrap();
        });
        let mut chunk = vec![0; 12_000];
        let mut expected = 0..WORDS;
        while !expected.is_empty() {
            let count = chunk.len().min(4 * expected.len());
            far.read_exact(&mut chunk[..count]).unwrap();
            for word in chunk[..count].chunks_exact(4) {
                assert_eq!(Some(u32::from_be_bytes(word.try_into().unwrap())), expected.next());
            }
        }
        giver.join().unwrap();
        assert_eq!(rest(&far), "");
    }

    #[test]
    fn a_target_that_is_not_there_ends_the_newcomer_only() {
        let Setup { target, proxy } = Setup::new();
        let address = target.local_addr().unwrap();
        drop(target);
        assert_eq!(rest(&TcpStream::connect(proxy.address()).unwrap()), "");
        let setup = Setup { target: TcpListener::bind(address).unwrap(), proxy };
        let (near, far) = setup.connect();
        say(&near, "back again");
        hear(&far, "back again");
    }

    /// Whatever would get through a cut is on its way before the heal closes the connection behind it.
    #[test]
    fn what_is_said_during_a_cut_is_lost_and_its_connections_with_it() {
        let mut setup = Setup::new();
        let (near, far) = setup.connect();
        say(&near, "before");
        hear(&far, "before");
        setup.proxy.cut().unwrap();
        setup.proxy.cut().unwrap();
        assert!(setup.proxy.is_cut());
        say(&near, "lost");
        say(&far, "lost as well");
        let dialled_in_vain = setup.dial();
        say(&dialled_in_vain, "never read");
        for untold in [&near, &far, &dialled_in_vain] {
            untold.set_nonblocking(true).unwrap();
            let said = { untold }.read(&mut [0; 16]).map_err(|error| error.kind());
            assert_eq!(said, Err(io::ErrorKind::WouldBlock), "neither bytes nor an end");
            untold.set_nonblocking(false).unwrap();
        }

        setup.proxy.heal().unwrap();
        setup.proxy.heal().unwrap();
        assert!(!setup.proxy.is_cut());
        assert_eq!([rest(&near), rest(&far), rest(&dialled_in_vain)], ["", "", ""]);
        // The next that the target sees is a connection that no cut has met.
        let (near, far) = setup.connect();
        say(&near, "after");
        hear(&far, "after");
    }

    /// As it is for a server: the process at one side ends, and the other is not told.
    #[test]
    fn an_end_during_a_cut_is_not_told_until_it_is_healed() {
        let mut setup = Setup::new();
        let (near, far) = setup.connect();
        setup.proxy.cut().unwrap();
        drop(near);
        far.set_nonblocking(true).unwrap();
        let said = (&far).read(&mut [0; 16]).map_err(|error| error.kind());
        assert_eq!(said, Err(io::ErrorKind::WouldBlock));
        far.set_nonblocking(false).unwrap();
        setup.proxy.heal().unwrap();
        assert_eq!(rest(&far), "");
    }
}
