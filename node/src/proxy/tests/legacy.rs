//! The listening sockets go from one set of workers to another, as from one process to the next.

use super::*;

/// Workers that take over from those of `stand`, which are two.
fn successor(stand: &Stand, count: usize) -> Workers {
    let settings = Settings {
        workers: count,
        events: stand.events.clone(),
        succeeds: stand.workers.sockets().unwrap(),
        ..Settings::default()
    };
    Workers::start(settings, &stand.clients).unwrap()
}

async fn no_client_is_lost_when_so_many_workers_follow(count: usize) {
    let server = named("s0").await;
    let stand = Stand::running(&[server]);
    let listen = stand.listen;
    let clients: Vec<_> = (0..8)
        .map(|_| {
            tokio::spawn(async move {
                for _ in 0..200 {
                    let stream = TcpStream::connect(listen).await.expect("the address is always listened on");
                    assert_eq!(ask(stream).await.expect("an answer"), "s0");
                }
            })
        })
        .collect();
    until("clients", || stand.stats().accepted > 50).await;
    let registry = Registry::new(count);
    let plan =
        registry.plan(&stand.config, &stand.clients, &|_, _| Admin::Ready, &|_, _| Ok(Start::At(LOOPBACK)));
    let next = successor(&stand, count);
    next.apply(&Arc::new(plan)).unwrap();
    let old = tokio::task::spawn_blocking(move || stand.workers.stop(Duration::from_secs(20)));
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(old.await.unwrap().cut, 0);
    assert!(next.stats().services[0].accepted > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_workers_lose_no_client() {
    no_client_is_lost_when_so_many_workers_follow(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_worker_serves_the_sockets_of_two() {
    no_client_is_lost_when_so_many_workers_follow(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_workers_open_a_socket_beside_those_of_two() {
    no_client_is_lost_when_so_many_workers_follow(3).await;
}
