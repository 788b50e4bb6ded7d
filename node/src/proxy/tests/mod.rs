//! Workers with real sockets on the loopback interface.

mod datagrams;
mod extras;
mod failover;
mod layers;
mod legacy;
mod limits;
mod relay;
mod storm;
mod swap;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use cygnet_ha::events::EventLog;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{ServerStats, ServiceStats, Settings, Stage, Workers};
use crate::balance::ClientTable;
use crate::config::model::{ClusterConfig, Endpoint, Server, Service};
use crate::plan::tests::one_service;
use crate::plan::{Admin, ListenAt, Plan, Registry, Start};

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// An address that no other test uses: tests of one process count, processes have their number.
fn own_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    SocketAddr::from(([127, 64 | (high & 0x3f), low, NEXT.fetch_add(1, Ordering::Relaxed)], 8080))
}

/// Waits for a condition, not for luck.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// Two workers, their registry, and the configuration that is being changed.
struct Stand {
    workers: Workers,
    registry: Registry,
    clients: Arc<ClientTable>,
    events: EventLog,
    config: ClusterConfig,
    drained: Vec<&'static str>,
    listen: SocketAddr,
}

impl Stand {
    /// One service with these servers, not applied yet.
    fn new(servers: &[SocketAddr]) -> Self {
        Self::limited(servers, None)
    }

    fn limited(servers: &[SocketAddr], connections_max: Option<usize>) -> Self {
        let (listen, events) = (own_address(), EventLog::default());
        let clients = Arc::new(ClientTable::new(4096));
        let settings =
            Settings { workers: 2, connections_max, events: events.clone(), ..Settings::default() };
        Self {
            workers: Workers::start(settings, &clients).unwrap(),
            registry: Registry::new(2),
            config: one_service(listen, servers),
            drained: Vec::new(),
            clients,
            events,
            listen,
        }
    }

    fn running(servers: &[SocketAddr]) -> Self {
        let stand = Self::new(servers);
        stand.apply();
        stand
    }

    fn service(&mut self) -> &mut Service {
        &mut self.config.services[0]
    }

    fn server(&mut self, n: usize) -> &mut Server {
        &mut self.service().servers[n]
    }

    fn plan(&self) -> Arc<Plan> {
        let admin =
            |_: &str, server: &str| if self.drained.contains(&server) { Admin::Drain } else { Admin::Ready };
        Arc::new(self.registry.plan(&self.config, &self.clients, &admin, &|_, _| Ok(Start::At(LOOPBACK))))
    }

    fn apply(&self) {
        self.workers.apply(&self.plan()).unwrap();
    }

    fn stats(&self) -> ServiceStats {
        self.workers.stats().services.remove(0)
    }

    fn server_stats(&self, n: usize) -> ServerStats {
        self.stats().servers.remove(n)
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.listen).await.unwrap()
    }

    async fn connect_from(&self, source: IpAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(source, 0)).unwrap();
        socket.connect(self.listen).await.unwrap()
    }

    /// Who answers on a new connection.
    async fn ask(&self) -> io::Result<String> {
        ask(TcpStream::connect(self.listen).await?).await
    }

    fn events_with(&self, words: &str) -> usize {
        let events = self.events.after(0);
        events.iter().filter(|event| format!("{}; {}", event.what, event.why).contains(words)).count()
    }
}

/// Asks for the server's name and reads it to the end of the connection.
async fn ask(mut stream: TcpStream) -> io::Result<String> {
    stream.write_all(b"?").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// A server that hands each connection to `serve`, at its own address.
async fn backend<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    backend_at(SocketAddr::new(LOOPBACK, 0), serve).await
}

async fn backend_at<F>(address: SocketAddr, serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(serve(stream))),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    });
    address
}

/// A server that answers each byte with its name and closes.
async fn named(name: &'static str) -> SocketAddr {
    backend(move |stream| tell(stream, name)).await
}

async fn tell(mut stream: TcpStream, name: &'static str) {
    if stream.read_u8().await.is_ok() {
        let _ = stream.write_all(name.as_bytes()).await;
    }
}

/// An address at which nobody listens.
fn nobody() -> SocketAddr {
    own_address()
}
