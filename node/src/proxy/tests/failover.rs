use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicUsize;

use socket2::{Domain, Socket, Type};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_is_passed_over_and_left_alone_for_its_time() {
    let dead = nobody();
    let mut stand = Stand::new(&[dead, named("good").await]);
    stand.service().blacklist = Duration::from_millis(1_500);
    stand.apply();
    for _ in 0..10 {
        assert_eq!(stand.ask().await.unwrap(), "good");
    }
    let server = stand.server_stats(0);
    assert_eq!(
        (server.failed, server.connected, server.connections),
        (1, 0, 0),
        "tried once, then left alone"
    );
    assert!(server.blacklisted_ms.is_some());
    assert_eq!(stand.stats().failovers, 1);
    assert_eq!(stand.events_with("server s0"), 1);
    backend_at(dead, |stream| tell(stream, "back")).await;
    until("its time is over", || stand.server_stats(0).blacklisted_ms == Some(0)).await;
    let answers = [stand.ask().await.unwrap(), stand.ask().await.unwrap()];
    assert!(answers.contains(&"back".to_owned()), "{answers:?}");
    assert_eq!(stand.server_stats(0).blacklisted_ms, None);
    assert_eq!(stand.events_with("answers again"), 1);
}

/// A server whose queue is full: it neither accepts nor refuses.
fn deaf() -> (SocketAddr, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let address = own_address();
    listener.bind(&address.into()).unwrap();
    listener.listen(0).unwrap();
    let mut sockets = vec![listener];
    for _ in 0..4 {
        let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        let _ = filler.connect(&address.into());
        sockets.push(filler);
    }
    (address, sockets)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_is_passed_over_after_the_connect_timeout() {
    let (silent, _sockets) = deaf();
    let mut stand = Stand::new(&[silent, named("good").await]);
    stand.service().connect_timeout = Duration::from_millis(200);
    stand.apply();
    let start = Instant::now();
    assert_eq!(stand.ask().await.unwrap(), "good");
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert_eq!(stand.ask().await.unwrap(), "good");
    assert_eq!(stand.server_stats(0).failed, 1, "the others do not wait for it again");
    assert_eq!(stand.events_with("no answer within 200ms"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_fail_the_client_is_reset_and_a_server_that_returns_serves_at_once() {
    let (first, second) = (nobody(), nobody());
    let stand = Stand::running(&[first, second]);
    for n in 1..=3 {
        assert_eq!(stand.ask().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(stand.stats().refused, n);
        assert_eq!(stand.server_stats(0).failed, n, "blacklisted ones are tried at last");
    }
    assert_eq!(stand.events_with("no server is left; 2 failed"), 1, "one line, not three");
    backend_at(second, |stream| tell(stream, "back")).await;
    assert_eq!(stand.ask().await.unwrap(), "back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_source_address_clients_are_refused_with_the_reason() {
    let reached = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&reached);
    let server = backend(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        std::future::ready(())
    })
    .await;
    let stand = Stand::new(&[server]);
    let plan = stand.registry.plan(&stand.config, &stand.clients, &|_, _| Admin::Ready, &|_, _| {
        Err("every address on the route is virtual".into())
    });
    stand.workers.apply(&Arc::new(plan)).unwrap();
    assert_eq!(stand.ask().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(stand.events_with("1 without a source address (every address on the route is virtual)"), 1);
    assert_eq!(reached.load(Ordering::Relaxed), 0);
    assert_eq!(
        stand.server_stats(0).source_missing.as_deref(),
        Some("every address on the route is virtual")
    );
}

/// A server that says its name at once and keeps the connection.
async fn holding(name: &'static str) -> SocketAddr {
    backend(move |mut stream| async move {
        stream.write_all(name.as_bytes()).await.unwrap();
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await
}

/// The server's name, or `None` when refused.
async fn greeting(stream: &mut TcpStream) -> Option<String> {
    let mut name = [0; 2];
    stream.read_exact(&mut name).await.ok()?;
    String::from_utf8(name.to_vec()).ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_of_a_server_holds_over_all_workers() {
    let mut stand = Stand::new(&[holding("s0").await, holding("s1").await]);
    stand.server(0).max = 3;
    stand.server(1).max = 4;
    stand.apply();
    let mut streams = Vec::new();
    for _ in 0..40 {
        let listen = stand.listen;
        streams.push(tokio::spawn(async move {
            // A refusal may be quicker than the client.
            let mut stream = TcpStream::connect(listen).await.ok()?;
            Some((greeting(&mut stream).await?, stream))
        }));
    }
    let (mut served, mut refused) = (Vec::new(), 0);
    for stream in streams {
        match stream.await.unwrap() {
            Some(client) => served.push(client),
            None => refused += 1,
        }
    }
    let of = |name: &str| served.iter().filter(|(served, _)| served == name).count();
    assert_eq!((of("s0"), of("s1"), refused), (3, 4, 33));
    let clients = || stand.workers.stats().workers.iter().map(|worker| worker.connections).sum::<usize>();
    until("the refused are gone", || clients() == 7).await;
    served.retain(|(name, _)| name != "s0");
    until("the places are free again", || stand.server_stats(0).connections == 0).await;
    let mut next = stand.connect().await;
    assert_eq!(greeting(&mut next).await.as_deref(), Some("s0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sticky_client_comes_to_the_same_server_on_every_worker() {
    let mut stand = Stand::new(&[named("s0").await, named("s1").await, named("s2").await]);
    stand.service().sticky = Some(Duration::from_secs(60));
    stand.apply();
    let mut servers: HashMap<IpAddr, HashSet<String>> = HashMap::new();
    for round in 0..12u8 {
        for n in 0..6u8 {
            let client = IpAddr::from([127, 9, 9, n + 1]);
            let answer = ask(stand.connect_from(client).await).await.unwrap();
            servers.entry(client).or_default().insert(answer);
            assert_eq!(servers[&client].len(), 1, "round {round}: {client} saw {:?}", servers[&client]);
        }
    }
    let all: HashSet<_> = servers.values().flatten().collect();
    assert_eq!(all.len(), 3, "new clients are spread");
    assert!(stand.workers.stats().workers.iter().all(|worker| worker.accepted > 0), "both workers took part");
    assert_eq!(stand.clients.len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_client_that_opens_many_connections_at_once_is_bound_to_one_server() {
    let mut stand = Stand::new(&[named("s0").await, named("s1").await, named("s2").await]);
    stand.service().sticky = Some(Duration::from_secs(60));
    stand.apply();
    for n in 1..=10u8 {
        let mut tasks = Vec::new();
        for _ in 0..8 {
            tasks.push(tokio::spawn(ask(stand.connect_from([127, 9, 8, n].into()).await)));
        }
        let mut answers = HashSet::new();
        for task in tasks {
            answers.insert(task.await.unwrap().unwrap());
        }
        assert_eq!(answers.len(), 1, "client {n}: {answers:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_server_keeps_its_remembered_clients_and_gets_no_others() {
    let mut stand = Stand::new(&[named("s0").await, named("s1").await]);
    stand.service().sticky = Some(Duration::from_secs(60));
    stand.apply();
    let (old, new) = (IpAddr::from([127, 9, 7, 1]), IpAddr::from([127, 9, 7, 2]));
    assert_eq!(ask(stand.connect_from(old).await).await.unwrap(), "s0");
    stand.drained = vec!["s0"];
    stand.apply();
    for _ in 0..4 {
        assert_eq!(ask(stand.connect_from(old).await).await.unwrap(), "s0");
        assert_eq!(ask(stand.connect_from(new).await).await.unwrap(), "s1");
    }
    assert!(stand.server_stats(0).drained);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_server_died_is_remembered_with_the_next_one() {
    let dead = nobody();
    let mut stand = Stand::new(&[dead, named("s1").await, named("s2").await]);
    stand.service().sticky = Some(Duration::from_secs(60));
    stand.apply();
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    stand.clients.insert_remote([("web", LOOPBACK, "s0", u32::try_from(unix).unwrap())]);
    let first = stand.ask().await.unwrap();
    for _ in 0..5 {
        assert_eq!(stand.ask().await.unwrap(), first);
    }
    assert_eq!(stand.server_stats(0).failed, 1);
    let told = stand.clients.changes(100);
    assert_eq!(told.len(), 1);
    assert_eq!(*told[0].server, *first);
}
