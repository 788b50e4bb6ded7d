use std::sync::atomic::AtomicU64;

use super::*;

/// The same bytes each time, and different at each place.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| byte()).collect()
}

async fn echo(mut stream: TcpStream) {
    let (mut from, mut to) = stream.split();
    let _ = tokio::io::copy(&mut from, &mut to).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_of_many_connections_pass_unchanged_and_are_counted() {
    let stand = Stand::running(&[backend(echo).await]);
    let sizes = [0, 1, 17, 4_096, 65_535, 65_536, 65_537, 300_000, 5_000_000];
    let mut tasks = Vec::new();
    for (n, size) in sizes.into_iter().cycle().take(45).enumerate() {
        let stream = stand.connect().await;
        tasks.push(tokio::spawn(async move {
            let (mut from, mut to) = stream.into_split();
            let sent = noise(n as u64, size);
            let expected = sent.clone();
            let sender = tokio::spawn(async move {
                for part in sent.chunks(1 + n * 7_919) {
                    to.write_all(part).await.unwrap();
                }
                to.shutdown().await.unwrap();
            });
            let mut back = Vec::new();
            from.read_to_end(&mut back).await.unwrap();
            sender.await.unwrap();
            assert!(back == expected, "connection {n}: {} of {size} bytes, or others", back.len());
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    until("all are over", || stand.server_stats(0).connections == 0).await;
    let total = 5 * sizes.iter().sum::<usize>() as u64;
    let (service, server) = (stand.stats(), stand.server_stats(0));
    assert_eq!((service.accepted, service.aborted, service.refused), (45, 0, 0));
    assert_eq!((server.connected, server.to_server, server.to_client), (45, total, total));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_has_sent_its_end_still_gets_the_answer() {
    let late = |mut stream: TcpStream| async move {
        let mut request = Vec::new();
        stream.read_to_end(&mut request).await.unwrap();
        stream.write_all(&request.repeat(2)).await.unwrap();
    };
    let stand = Stand::running(&[backend(late).await]);
    let mut stream = stand.connect().await;
    let request = noise(1, 200_000);
    stream.write_all(&request).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer == request.repeat(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_has_sent_its_end_still_gets_the_rest() {
    let (sender, mut received) = tokio::sync::mpsc::channel(1);
    let early = move |mut stream: TcpStream| {
        let sender = sender.clone();
        async move {
            stream.write_all(b"that is all").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            sender.send(rest).await.unwrap();
        }
    };
    let stand = Stand::running(&[backend(early).await]);
    let mut stream = stand.connect().await;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"that is all");
    let rest = noise(2, 300_000);
    stream.write_all(&rest).await.unwrap();
    drop(stream);
    assert!(received.recv().await.unwrap() == rest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_by_the_client_resets_the_server() {
    let (sender, mut seen) = tokio::sync::mpsc::channel(1);
    let waiting = move |mut stream: TcpStream| {
        let sender = sender.clone();
        async move {
            stream.read_u8().await.unwrap();
            sender.send(Ok(0)).await.unwrap();
            sender.send(stream.read(&mut [0; 8]).await.map_err(|error| error.kind())).await.unwrap();
        }
    };
    let stand = Stand::running(&[backend(waiting).await]);
    let mut stream = stand.connect().await;
    stream.write_all(b"x").await.unwrap();
    assert_eq!(seen.recv().await.unwrap(), Ok(0));
    stream.set_zero_linger().unwrap();
    drop(stream);
    assert_eq!(seen.recv().await.unwrap(), Err(io::ErrorKind::ConnectionReset));
    until("it is counted", || stand.stats().aborted == 1).await;
    assert_eq!(stand.server_stats(0).connections, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_by_the_server_resets_the_client() {
    let resetting = |mut stream: TcpStream| async move {
        stream.read_u8().await.unwrap();
        stream.set_zero_linger().unwrap();
    };
    let stand = Stand::running(&[backend(resetting).await]);
    let error = stand.ask().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_slows_its_sender_down_and_loses_nothing() {
    const TOTAL: usize = 128 << 20;
    // Two connections, each with the buffers that Linux lets them grow to (tcp_rmem 32 MiB, tcp_wmem 4 MiB), and ours.
    const BUFFERS_MAX: u64 = 80 << 20;
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let flood = move |mut stream: TcpStream| {
        let counter = Arc::clone(&counter);
        async move {
            let body = noise(3, TOTAL);
            for part in body.chunks(16 << 10) {
                stream.write_all(part).await.unwrap();
                counter.fetch_add(part.len() as u64, Ordering::Relaxed);
            }
        }
    };
    let stand = Stand::running(&[backend(flood).await]);
    let mut stream = stand.connect().await;
    // Nobody reads: the sender must come to a stand.
    let mut last = (0, Instant::now());
    until("the sender stands still", || {
        let now = sent.load(Ordering::Relaxed);
        if now != last.0 {
            last = (now, Instant::now());
        }
        now > 0 && last.1.elapsed() > Duration::from_millis(300)
    })
    .await;
    let (read, passed) = (sent.load(Ordering::Relaxed), stand.server_stats(0).to_client);
    assert!(read < BUFFERS_MAX, "{read} bytes were taken from the sender");
    // What the proxy has read and the client's kernel has not taken is one buffer at most; the rest is the kernel's.
    assert!(passed < BUFFERS_MAX / 2, "{passed} bytes were passed on");
    let mut body = Vec::new();
    stream.read_to_end(&mut body).await.unwrap();
    assert!(body == noise(3, TOTAL), "{} of {TOTAL} bytes", body.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_connection_is_closed_and_a_busy_one_is_not() {
    let mut stand = Stand::new(&[backend(echo).await]);
    stand.service().idle_timeout = Some(Duration::from_millis(600));
    stand.apply();
    let (mut silent, mut busy) = (stand.connect().await, stand.connect().await);
    let start = Instant::now();
    let ticking = tokio::spawn(async move {
        while start.elapsed() < Duration::from_millis(2_500) {
            busy.write_all(b"x").await.unwrap();
            busy.read_u8().await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap(), 0, "an end in good order: nothing is lost");
    let after = start.elapsed();
    assert!(after >= Duration::from_millis(600), "{after:?}");
    assert!(!ticking.is_finished(), "{after:?}");
    ticking.await.unwrap();
    assert_eq!((stand.stats().idle, stand.stats().aborted), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_start_from_the_source_of_the_plan() {
    let (sender, mut seen) = tokio::sync::mpsc::channel(1);
    let server = backend(move |stream: TcpStream| {
        let sender = sender.clone();
        async move { sender.send(stream.peer_addr().unwrap().ip()).await.unwrap() }
    })
    .await;
    let stand = Stand::new(&[server]);
    let own: IpAddr = [127, 3, 2, 1].into();
    let plan =
        stand.registry.plan(&stand.config, &stand.clients, &|_, _| Admin::Ready, &|_, _| Ok(Start::At(own)));
    stand.workers.apply(&Arc::new(plan)).unwrap();
    let _stream = stand.connect().await;
    assert_eq!(seen.recv().await.unwrap(), own);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn families_may_differ_between_client_and_server() {
    let six = backend_at("[::1]:0".parse().unwrap(), |stream| tell(stream, "six")).await;
    let mut stand = Stand::new(&[named("four").await, six]);
    let listen: SocketAddr =
        SocketAddr::new("::1".parse().unwrap(), 1_024 + (std::process::id() % 60_000) as u16);
    stand.service().listen.push(listen.into());
    let own = |_: &Service, server: &Server| {
        let four = server.address.inet().is_some_and(|address| address.is_ipv4());
        Ok(Start::At(if four { LOOPBACK } else { "::1".parse().unwrap() }))
    };
    let plan = stand.registry.plan(&stand.config, &stand.clients, &|_, _| Admin::Ready, &own);
    stand.workers.apply(&Arc::new(plan)).unwrap();
    let mut answers = Vec::new();
    for listen in [listen, listen, stand.listen, stand.listen] {
        answers.push(ask(TcpStream::connect(listen).await.unwrap()).await.unwrap());
    }
    assert_eq!(answers, ["four", "six", "four", "six"]);
}
