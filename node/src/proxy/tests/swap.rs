use std::sync::atomic::{AtomicBool, AtomicU64};

use super::*;
use crate::config::model::Algorithm;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_plans_under_load_fail_no_request() {
    let servers = [named("s0").await, named("s1").await, named("s2").await];
    let echo = backend(|mut stream: TcpStream| async move {
        let (mut from, mut to) = stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
    })
    .await;
    let mut stand = Stand::new(&servers);
    let mut other = one_service(own_address(), &[echo]).services.remove(0);
    other.name = "echo".into();
    let echo_at = other.listen[0].inet().unwrap();
    stand.config.services.push(other);
    stand.apply();
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut load = Vec::new();
    for n in 0..6 {
        let (stop, asked, listen) = (Arc::clone(&stop), Arc::clone(&asked), stand.listen);
        load.push(tokio::spawn(async move {
            let mut kept = TcpStream::connect(echo_at).await.unwrap();
            while !stop.load(Ordering::Relaxed) {
                let answer = ask(TcpStream::connect(listen).await.unwrap()).await.unwrap();
                assert!(answer.starts_with('s'));
                kept.write_all(&[n]).await.unwrap();
                assert_eq!(kept.read_u8().await.unwrap(), n, "a running connection is not disturbed");
                asked.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let extra = own_address();
    for swap in 0..100usize {
        let service = stand.service();
        service.algorithm = if swap % 2 == 0 { Algorithm::LeastConnections } else { Algorithm::RoundRobin };
        service.sticky = (swap % 3 == 0).then_some(Duration::from_secs(9));
        service.servers[swap % 3].weight = 1 + (swap % 5) as u16;
        service.listen.truncate(1);
        if swap % 4 == 0 {
            service.listen.push(extra.into());
        }
        stand.drained = if swap % 5 == 0 { vec!["s1"] } else { Vec::new() };
        stand.apply();
        let before = asked.load(Ordering::Relaxed);
        until("requests go on", || asked.load(Ordering::Relaxed) > before + 3).await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in load {
        task.await.unwrap();
    }
    let stats = stand.stats();
    assert_eq!((stats.refused, stats.aborted, stats.failovers), (0, 0, 0));
    assert_eq!(stats.accepted, asked.load(Ordering::Relaxed));
    assert_eq!(stand.workers.stats().generation, 101);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_come_and_go_with_the_plan() {
    let mut stand = Stand::running(&[named("s0").await]);
    let second = own_address();
    assert_eq!(TcpStream::connect(second).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    stand.service().listen.push(second.into());
    stand.apply();
    assert_eq!(ask(TcpStream::connect(second).await.unwrap()).await.unwrap(), "s0");
    assert_eq!(stand.workers.listening(), [stand.listen, second].map(ListenAt::tcp));
    stand.service().listen.pop();
    stand.apply();
    let refused = || async { TcpStream::connect(second).await.is_err() };
    let deadline = Instant::now() + Duration::from_secs(5);
    while !refused().await {
        assert!(Instant::now() < deadline);
    }
    assert_eq!(stand.ask().await.unwrap(), "s0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_may_pass_to_another_service_without_closing() {
    let mut stand = Stand::running(&[named("old").await]);
    assert_eq!(stand.ask().await.unwrap(), "old");
    let mut other = one_service(stand.listen, &[named("new").await]);
    other.services[0].name = "other".into();
    stand.config = other;
    stand.apply();
    assert_eq!(stand.ask().await.unwrap(), "new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_wait_in_the_queue_of_a_closing_listener_are_served() {
    let server = backend(|mut stream: TcpStream| async move {
        while let Ok(byte) = stream.read_u8().await {
            let _ = stream.write_all(&[byte]).await;
        }
    })
    .await;
    // One place: the others wait in the kernel's queue.
    let mut stand = Stand::limited(&[server], Some(1));
    stand.apply();
    let mut streams = Vec::new();
    for n in 0..12u8 {
        let mut stream = stand.connect().await;
        stream.write_all(&[n]).await.unwrap();
        streams.push(stream);
    }
    until("one is served", || stand.server_stats(0).connections == 1).await;
    stand.service().listen.clear();
    stand.apply();
    let mut tasks = Vec::new();
    for (n, mut stream) in (0u8..).zip(streams) {
        tasks.push(tokio::spawn(async move { (stream.read_u8().await.unwrap(), n) }));
    }
    for task in tasks {
        let (answer, n) = task.await.unwrap();
        assert_eq!(answer, n);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_cannot_be_listened_on_is_reported_and_tried_again() {
    let mut stand = Stand::new(&[named("s0").await]);
    let taken = std::net::TcpListener::bind(own_address()).unwrap();
    let address = taken.local_addr().unwrap();
    stand.service().listen.push(address.into());
    let errors = stand.workers.apply(&stand.plan()).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(
        (&errors[0].address, errors[0].error.kind()),
        (&ListenAt::tcp(address), io::ErrorKind::AddrInUse)
    );
    assert!(errors[0].to_string().starts_with("service web cannot listen on "));
    assert_eq!(stand.ask().await.unwrap(), "s0", "the other address is served");
    drop(taken);
    stand.apply();
    assert_eq!(ask(TcpStream::connect(address).await.unwrap()).await.unwrap(), "s0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_may_wait_on_an_address_that_is_not_there() {
    let at = |address: &str| Endpoint::Inet(address.parse().unwrap());
    let mut stand = Stand::new(&[named("s0").await]);
    stand.service().listen.push(at("192.0.2.199:8080"));
    stand.service().listen.push(at("[2001:db8::1]:8080"));
    stand.apply();
    assert_eq!(stand.workers.listening().len(), 3);
}
