use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::Mutex;

use tokio::net::{UnixListener, UnixStream};

use super::*;
use crate::config::model::FastClose;
use crate::proxy::observer::Observer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unix_sockets_serve_on_both_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (front, back) = (folder.path().join("front"), folder.path().join("back"));
    // Left over from an earlier life.
    drop(StdUnixListener::bind(&front).unwrap());
    let listener = UnixListener::bind(&back).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = Vec::new();
                stream.read_to_end(&mut request).await.unwrap();
                stream.write_all(&request.repeat(2)).await.unwrap();
            });
        }
    });
    let mut stand = Stand::new(&[nobody()]);
    stand.server(0).address = Endpoint::Unix(back);
    stand.service().listen = vec![Endpoint::Unix(front.clone())];
    stand.apply();
    let request = vec![7; 300_000];
    for _ in 0..6 {
        let mut stream = UnixStream::connect(&front).await.unwrap();
        stream.write_all(&request).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer == request.repeat(2));
    }
    assert_eq!(stand.server_stats(0).connected, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_one_side_is_the_end_of_both_where_that_is_wanted() {
    let patient = |mut stream: TcpStream| async move {
        stream.write_all(b"all").await.unwrap();
        stream.shutdown().await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    for (fast_close, closes) in [(FastClose::Off, false), (FastClose::Down, false), (FastClose::Up, true)] {
        let mut stand = Stand::new(&[backend(patient).await]);
        stand.service().fast_close = fast_close;
        stand.apply();
        let mut stream = stand.connect().await;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"all");
        if closes {
            until("it is closed", || stand.server_stats(0).connections == 0).await;
        } else {
            assert_eq!(stand.server_stats(0).connections, 1, "{fast_close:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_can_be_listed_and_closed() {
    let hold = |mut stream: TcpStream| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let stand = Stand::running(&[backend(hold).await]);
    let mut streams = Vec::new();
    for _ in 0..9 {
        let mut stream = stand.connect().await;
        stream.write_all(b"12345").await.unwrap();
        streams.push(stream);
    }
    let all_said = || stand.workers.connections(100).iter().filter(|info| info.from_client == 5).count() == 9;
    until("all are relayed", all_said).await;
    let infos = stand.workers.connections(100);
    assert!(infos.iter().all(|info| info.stage == Stage::Relaying && info.server == Some(0)));
    assert!(infos.iter().all(|info| &*info.service == "web" && info.server_fd.is_some()));
    assert_eq!(stand.workers.connections(4).len(), 4);
    let address = streams[3].local_addr().unwrap();
    let info = infos.iter().find(|info| info.peer == address).unwrap();
    assert!(stand.workers.close(info.id));
    let error = streams[3].read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(!stand.workers.close(info.id), "it is gone");
    assert!(!stand.workers.close(77 << 32), "there is no such worker");
    assert_eq!(stand.workers.connections(100).len(), 8);
}

#[derive(Debug, Default)]
struct Seen(Mutex<Vec<String>>);

impl Observer for Seen {
    fn opened(&self, _: usize, peer: SocketAddr) {
        self.0.lock().unwrap().push(format!("opened {}", peer.ip()));
    }

    fn wants_chunks(&self) -> bool {
        true
    }

    fn chunk(&self, _: SocketAddr, server: usize, bytes: &[u8]) {
        self.0.lock().unwrap().push(format!("{server}: {}", String::from_utf8_lossy(bytes)));
    }

    fn closed(&self, _: usize, _: SocketAddr, server: Option<usize>, to_client: u64, from_client: u64) {
        self.0.lock().unwrap().push(format!("closed {server:?} {to_client} {from_client}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_sees_what_clients_say_and_what_it_came_to() {
    let seen = Arc::new(Seen::default());
    let mut stand = Stand::new(&[named("s0").await]);
    stand.registry = Registry::new(2).observed_by(Arc::clone(&seen) as Arc<dyn Observer>);
    stand.apply();
    assert_eq!(stand.ask().await.unwrap(), "s0");
    until("it has ended", || seen.0.lock().unwrap().len() == 3).await;
    assert_eq!(*seen.0.lock().unwrap(), ["opened 127.0.0.1", "0: ?", "closed Some(0) 2 1"]);
    seen.0.lock().unwrap().clear();
    stand.service().servers.clear();
    stand.apply();
    assert_eq!(stand.ask().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(*seen.0.lock().unwrap(), ["opened 127.0.0.1", "closed None 0 0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_without_servers_can_have_a_page() {
    let mut stand = Stand::new(&[]);
    stand.service().dummy = true;
    stand.apply();
    for _ in 0..3 {
        let mut stream = stand.connect().await;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\nand more").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("Ulric was here."), "{answer}");
    }
    let clients = || stand.workers.stats().workers.iter().map(|worker| worker.connections).sum::<usize>();
    until("they have left", || clients() == 0).await;
}

/// A server that holds its connections.
async fn holder() -> SocketAddr {
    let hold = |mut stream: TcpStream| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    backend(hold).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idlers_are_counted_when_they_are_connected_and_follow_the_plan() {
    let mut stand = Stand::new(&[holder().await, holder().await]);
    stand.service().idlers = 3;
    stand.apply();
    let connections = |stand: &Stand| [0, 1].map(|n| stand.server_stats(n).connections);
    until("three", || stand.workers.idlers() == 3 && connections(&stand).iter().sum::<u32>() == 3).await;
    stand.drained = vec!["s1"];
    stand.apply();
    until("none at the drained one", || stand.workers.idlers() == 3 && connections(&stand) == [3, 0]).await;
    stand.service().servers.remove(0);
    stand.drained.clear();
    stand.apply();
    until("none at the one that is gone", || {
        stand.workers.idlers() == 3 && stand.server_stats(0).connections == 3
    })
    .await;
    stand.service().idlers = 1;
    stand.apply();
    until("one", || stand.workers.idlers() == 1 && stand.server_stats(0).connections == 1).await;
    stand.service().idlers = 0;
    stand.apply();
    until("none", || stand.workers.idlers() == 0 && stand.server_stats(0).connections == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_an_idler_is_left_alone_and_the_others_get_it() {
    let mut stand = Stand::new(&[nobody(), holder().await]);
    stand.service().idlers = 4;
    stand.apply();
    until("four", || stand.workers.idlers() == 4).await;
    assert!(stand.server_stats(0).blacklisted_ms.is_some());
    assert_eq!([0, 1].map(|n| stand.server_stats(n).connections), [0, 4]);
    assert!(stand.events_with("s0") >= 1, "nobody was told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_health_checks_fail_gets_no_idler() {
    let mut stand = Stand::new(&[holder().await, holder().await]);
    stand.apply();
    stand.workers.plan().services[0].servers[0].state.set_down(true);
    stand.service().idlers = 4;
    stand.apply();
    until("four", || stand.workers.idlers() == 4).await;
    assert_eq!([0, 1].map(|n| stand.server_stats(n).connections), [0, 4]);
}
