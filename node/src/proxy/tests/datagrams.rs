//! Datagrams through all workers.

use std::net::UdpSocket;

use super::*;
use crate::config::model::Transport;

const CLIENTS: usize = 64;

/// A socket that waits for what comes, but not for ever.
fn peer() -> UdpSocket {
    let socket = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket
}

/// A server that answers each datagram with the address from which it came to it, and what it said.
fn echo() -> SocketAddr {
    let socket = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let mut answer = format!("{from} ").into_bytes();
            answer.extend(&buffer[..length]);
            let _ = socket.send_to(&answer, from);
        }
    });
    address
}

fn stand(servers: &[SocketAddr], connections_max: Option<usize>) -> Stand {
    let mut stand = Stand::limited(servers, connections_max);
    stand.service().transport = Transport::Udp;
    stand.apply();
    stand
}

/// From where the server was asked, for this client.
fn ask(client: &UdpSocket, listen: SocketAddr, word: &str) -> String {
    client.send_to(word.as_bytes(), listen).unwrap();
    let mut buffer = [0; 1000];
    let (length, from) = client.recv_from(&mut buffer).unwrap();
    assert_eq!(from, listen);
    let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
    let (flow, echoed) = answer.split_once(' ').unwrap();
    assert_eq!(echoed, word);
    flow.to_owned()
}

#[tokio::test]
async fn each_client_gets_its_own_answers_whichever_worker_it_comes_to() {
    let stand = stand(&[echo(), echo()], None);
    let clients: Vec<_> = (0..CLIENTS).map(|_| peer()).collect();
    let flows: Vec<_> = clients
        .iter()
        .enumerate()
        .map(|(n, client)| ask(client, stand.listen, &format!("first {n}")))
        .collect();
    for (n, client) in clients.iter().enumerate() {
        assert_eq!(ask(client, stand.listen, &format!("second {n}")), flows[n]);
    }
    let connections = || stand.workers.stats().workers.iter().map(|w| w.connections).collect::<Vec<_>>();
    until("all flows are counted", || connections().iter().sum::<usize>() == CLIENTS).await;
    assert!(connections().iter().all(|flows| *flows > 0), "both workers have some: {:?}", connections());
    assert_eq!(stand.stats().accepted, CLIENTS as u64);
    assert_eq!(stand.server_stats(0).connections + stand.server_stats(1).connections, CLIENTS as u32);
    let start = Instant::now();
    assert_eq!(stand.workers.stop(Duration::from_secs(20)).cut, 0);
    assert!(start.elapsed() < Duration::from_secs(10), "flows do not hold up a stop");
}

#[tokio::test]
async fn a_new_plan_keeps_flows_and_a_plan_without_the_address_closes_it() {
    let mut stand = stand(&[echo()], None);
    let client = peer();
    let flow = ask(&client, stand.listen, "1");
    stand.config.services[0].servers.push(Server::new("another", echo()));
    stand.apply();
    assert_eq!(ask(&client, stand.listen, "2"), flow);
    let listen = stand.listen;
    stand.config.services.clear();
    stand.apply();
    until("the address is free", || UdpSocket::bind(listen).is_ok()).await;
    assert!(stand.workers.listening().is_empty());
}

#[tokio::test]
async fn connections_and_datagrams_are_served_at_the_same_address() {
    let mut stand = stand(&[echo()], None);
    let mut tcp = one_service(stand.listen, &[named("tcp").await]).services.remove(0);
    tcp.name = "tcp".into();
    stand.config.services.push(tcp);
    stand.apply();
    ask(&peer(), stand.listen, "by datagram");
    assert_eq!(stand.ask().await.unwrap(), "tcp");
}

#[tokio::test]
async fn a_crowd_beyond_the_limit_on_flows_is_served_too() {
    let stand = stand(&[echo()], Some(4));
    for n in 0..CLIENTS {
        ask(&peer(), stand.listen, &n.to_string());
    }
    let connections = || stand.workers.stats().workers.iter().map(|w| w.connections).sum::<usize>();
    until("the flows are counted", || (1..=4).contains(&connections())).await;
    assert_eq!(stand.stats().accepted, CLIENTS as u64);
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_error_and_a_unix_socket_too() {
    let mut stand = Stand::new(&[echo()]);
    let taken = UdpSocket::bind(stand.listen).unwrap();
    stand.service().transport = Transport::Udp;
    let errors = stand.workers.apply(&stand.plan()).unwrap_err();
    assert_eq!(errors[0].error.kind(), io::ErrorKind::AddrInUse);
    drop(taken);
    stand.apply();
    ask(&peer(), stand.listen, "now it works");
    stand.service().listen = vec![Endpoint::Unix("/nowhere".into())];
    let errors = stand.workers.apply(&stand.plan()).unwrap_err();
    assert_eq!(errors[0].error.kind(), io::ErrorKind::Unsupported);
}
