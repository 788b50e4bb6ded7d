//! Flows through real sockets, with a clock that the test moves.

mod crowd;
mod life;

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::*;
use crate::balance::ClientTable;
use crate::config::model::{ClusterConfig, Endpoint, Transport};
use crate::plan::tests::one_service;
use crate::plan::{Admin, ListenAt, Plan, Registry, Start};

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
/// Any day.
const UNIX: u32 = 1_800_000_000;
/// Events of a round at most.
const EVENTS: usize = 64;
/// Sockets that may rest, unless a test says otherwise.
const RESTING: usize = 16;
/// How long a test waits for what must come.
const DEADLINE: Duration = Duration::from_secs(10);

/// The worker of these tests.
struct Poll {
    epoll: std::os::fd::OwnedFd,
    failures: RefCell<Vec<String>>,
    told_all: Cell<bool>,
}

impl Host for Poll {
    fn watch(&self, socket: BorrowedFd<'_>, token: Token) -> io::Result<()> {
        let data = EventData::new_u64(token.to_bits().into());
        Ok(epoll::add(&self.epoll, socket, data, EventFlags::IN)?)
    }

    fn told_all(&self) -> bool {
        self.told_all.get()
    }

    fn refused(&self, service: &ServicePlan, _why: &NoServer, _now: Time) {
        service.state.shard(0).refused.add(1);
    }

    fn failed(&self, _service: &ServicePlan, _server: usize, error: &io::Error, _now: Time) {
        self.failures.borrow_mut().push(error.to_string());
    }
}

/// A worker with one service.
struct Stand {
    udp: Udp,
    clients: Arc<ClientTable>,
    poll: Poll,
    registry: Registry,
    config: ClusterConfig,
    listen: SocketAddr,
    now: Time,
}

impl Stand {
    fn new(servers: &[SocketAddr], flows_max: usize) -> Self {
        Self::listening("127.0.0.1:0", servers, flows_max)
    }

    fn listening(at: &str, servers: &[SocketAddr], flows_max: usize) -> Self {
        Self::limited(at, servers, Limits { flows: flows_max, resting: RESTING })
    }

    fn limited(at: &str, servers: &[SocketAddr], limits: Limits) -> Self {
        let listener = cygnet_netlink::udp::listen(at.parse().unwrap(), true).expect("listening");
        let listen = listener.local_addr().expect("bound");
        let mut config = one_service(listen, servers);
        config.services[0].transport = Transport::Udp;
        let poll = Poll {
            epoll: epoll::create(CreateFlags::CLOEXEC).expect("an epoll instance"),
            failures: RefCell::default(),
            told_all: Cell::new(false),
        };
        let registry = Registry::new(1);
        let now = Time::ZERO + Duration::from_secs(1);
        let clients = Arc::new(ClientTable::new(256));
        let udp = Udp::new(0, Arc::clone(&clients), UNIX, limits);
        let mut stand = Self { udp, clients, poll, registry, config, listen, now };
        let service = stand.service();
        stand.udp.open(listen, listener, &service, &stand.poll).expect("registered");
        stand
    }

    fn plan(&self) -> Plan {
        let source = |_: &_, server: &crate::config::model::Server| {
            let v6 = server.address.inet().is_some_and(|address| address.is_ipv6());
            Ok(if v6 { Start::Kernel } else { Start::At(LOOPBACK) })
        };
        self.registry.plan(&self.config, &self.clients, &|_, _| Admin::Ready, &source)
    }

    fn service(&self) -> Arc<ServicePlan> {
        let at = ListenAt { transport: Transport::Udp, endpoint: Endpoint::Inet(self.listen) };
        Arc::clone(self.plan().service_at(&at).expect("the service"))
    }

    /// Makes the configuration the one in force.
    fn apply(&mut self) {
        let service = self.service();
        self.udp.serve(self.listen, &service, self.now);
    }

    /// One round of the worker's loop; false if nothing was ready.
    fn turn(&mut self) -> bool {
        let mut events = Vec::with_capacity(EVENTS);
        let wait = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        epoll::wait(&self.poll.epoll, spare_capacity(&mut events), Some(&wait)).expect("a round");
        self.poll.told_all.set(events.len() < EVENTS);
        for event in &events {
            let token = Token::from_bits(u32::try_from({ event.data }.u64()).expect("of ours"));
            self.udp.ready(token, &self.poll, self.now);
        }
        self.udp.end_turn(&self.poll, self.now);
        !events.is_empty()
    }

    /// Until nothing is ready any more.
    fn settle(&mut self) {
        let start = Instant::now();
        while self.turn() {
            assert!(start.elapsed() < DEADLINE, "it does not come to rest");
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.udp.tick(self.now, UNIX);
    }

    /// What `socket` receives while the worker turns.
    fn receive(&mut self, socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let start = Instant::now();
        let mut buffer = vec![0; 1 << 16];
        loop {
            self.turn();
            match socket.recv_from(&mut buffer) {
                Ok((length, from)) => return (buffer[..length].to_vec(), from),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
            }
            assert!(start.elapsed() < DEADLINE, "nothing came");
        }
    }

    /// A word from a client to the server, and the address of the flow's socket.
    fn say(&mut self, client: &UdpSocket, word: &[u8], server: &UdpSocket) -> SocketAddr {
        client.send_to(word, self.listen).expect("sent");
        let (bytes, flow) = self.receive(server);
        assert_eq!(bytes, word);
        flow
    }

    /// A word from a client, and its answer: each datagram of the flow is answered.
    fn ask(&mut self, client: &UdpSocket, word: &[u8], server: &UdpSocket) -> SocketAddr {
        let flow = self.say(client, word, server);
        server.send_to(word, flow).expect("sent");
        assert_eq!(self.receive(client).0, word);
        flow
    }

    /// A figure of the service.
    fn figure(&self, figure: impl Fn(&crate::plan::ServiceShard) -> u64) -> u64 {
        figure(self.service().state.shard(0))
    }

    /// A figure of a server.
    fn of_server(&self, server: usize, figure: impl Fn(&crate::plan::ServerShard) -> u64) -> u64 {
        figure(self.service().servers[server].state.shard(0))
    }
}

/// A client, or a server.
fn peer() -> UdpSocket {
    peer_at("127.0.0.1:0")
}

fn peer_at(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).expect("a socket");
    socket.set_nonblocking(true).expect("a mode");
    socket
}

fn address(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().expect("bound")
}

fn is_silent(socket: &UdpSocket) -> bool {
    socket.recv(&mut [0; 9]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}
