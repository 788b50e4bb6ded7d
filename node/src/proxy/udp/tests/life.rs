//! The life of a flow.

use super::*;

#[test]
fn a_flow_keeps_its_server_and_answers_come_from_the_address_that_was_asked() {
    let servers = [peer(), peer()];
    let mut stand = Stand::new(&servers.each_ref().map(address), 16);
    let (one, other) = (peer(), peer());
    let first = stand.say(&one, b"first", &servers[0]);
    let second = stand.say(&other, b"second", &servers[1]);
    assert_ne!(first, second);
    for word in [&b"again"[..], b"", &[7; 60_000]] {
        assert_eq!(stand.say(&one, word, &servers[0]), first);
        servers[0].send_to(word, first).expect("sent");
        assert_eq!(stand.receive(&one), (word.to_vec(), stand.listen));
    }
    assert!(is_silent(&other));
    assert_eq!(stand.udp.len(), 2);
    assert_eq!(stand.figure(|shard| shard.accepted.get()), 2);
    assert_eq!(stand.of_server(0, |shard| shard.to_server.get()), 60_010);
    assert_eq!(stand.of_server(0, |shard| shard.to_client.get()), 60_005);
    assert_eq!(stand.of_server(0, |shard| shard.connected.get()), 1);
    assert_eq!(stand.service().servers[0].state.connections(), 1);
}

/// One flow at a time and few sockets: what presses most for using a port again.
fn pressed(server: &UdpSocket) -> Stand {
    Stand::limited("127.0.0.1:0", &[address(server)], Limits { flows: 1, resting: 3 })
}

#[test]
fn a_port_serves_another_client_when_it_was_silent_for_its_whole_rest() {
    let server = peer();
    let mut stand = pressed(&server);
    let clients: Vec<_> = (0..5).map(|_| peer()).collect();
    let first = stand.ask(&clients[0], b"0", &server);
    let second = stand.ask(&clients[1], b"1", &server);
    assert_ne!(first, second, "no rest yet");
    for (client, expected) in clients[2..].iter().zip([first, second, first]) {
        stand.pass(rest::REST_SETTLED);
        assert_eq!(stand.ask(client, b"n", &server), expected);
    }
    assert_eq!(stand.udp.sockets.open(), 2);
    assert!(clients.iter().all(is_silent));
}

#[test]
fn a_late_answer_goes_to_nobody_and_keeps_its_port_from_others() {
    let server = peer();
    let mut stand = pressed(&server);
    let clients: Vec<_> = (0..6).map(|_| peer()).collect();
    let first = stand.ask(&clients[0], b"0", &server);
    let second = stand.ask(&clients[1], b"1", &server);
    stand.ask(&clients[2], b"2", &server);
    // Two rest, which is scarce. To one comes something that the worker takes in ...
    stand.pass(rest::REST_SETTLED - Duration::from_millis(1));
    server.send_to(b"late", first).expect("sent");
    stand.settle();
    stand.pass(rest::REST_SETTLED);
    // ... to the other something that is still in its queue when it would serve again.
    server.send_to(b"late", second).expect("sent");
    let other = stand.ask(&clients[3], b"3", &server);
    assert!(![first, second].contains(&other), "{other} is still spoken to");
    for client in &clients[4..] {
        stand.pass(rest::REST_SETTLED);
        let flow = stand.say(client, b"4", &server);
        assert!(![first, second].contains(&flow), "{flow} must rest anew");
    }
    server.send_to(b"later", first).expect("sent");
    stand.settle();
    assert!(clients.iter().all(is_silent));
}

#[test]
fn a_queue_of_which_the_kernel_has_not_told_is_looked_into_before_its_socket_serves_again() {
    let server = peer();
    let mut stand = pressed(&server);
    let first = stand.ask(&peer(), b"0", &server);
    let second = stand.ask(&peer(), b"1", &server);
    stand.pass(rest::REST_SETTLED);
    server.send_to(b"late", first).expect("sent");
    let third = peer();
    third.send_to(b"2", stand.listen).expect("sent");
    // More had something than fit into the kernel's answer: the listener was in it, the socket at rest was not.
    stand.poll.told_all.set(false);
    stand.udp.ready(Token(LISTENER), &stand.poll, stand.now);
    stand.udp.end_turn(&stand.poll, stand.now);
    let (word, flow) = stand.receive(&server);
    assert_eq!(word, b"2");
    assert!(![first, second].contains(&flow), "{flow} is still spoken to");
    stand.settle();
    assert!(is_silent(&third));
}

#[test]
fn a_port_to_which_an_answer_is_owed_rests_long_even_if_sockets_are_scarce() {
    let server = peer();
    let mut stand = pressed(&server);
    let clients: Vec<_> = (0..4).map(|_| peer()).collect();
    let owing: Vec<_> = (0..3).map(|n| stand.say(&clients[n], b"?", &server)).collect();
    stand.pass(rest::REST - Duration::from_millis(1));
    let last = stand.say(&clients[3], b"?", &server);
    assert!(!owing.contains(&last));
    for port in &owing {
        server.send_to(b"late", *port).expect("sent");
    }
    stand.settle();
    // The third flow had ended with the last one's beginning; the last one is still there.
    assert!(clients.iter().all(is_silent));
    stand.pass(rest::KEEP);
    assert_eq!(stand.udp.sockets.open(), 1, "a server is not listened to for ever");
}

#[test]
fn a_doubled_answer_does_not_stand_for_one_that_is_owed() {
    let server = peer();
    let mut stand = pressed(&server);
    let client = peer();
    let first = stand.ask(&client, b"0", &server);
    server.send_to(b"0", first).expect("sent twice");
    assert_eq!(stand.receive(&client).0, b"0");
    stand.say(&client, b"1", &server);
    // Two questions and two answers; the second one is still to come.
    let others: Vec<_> = (0..2).map(|_| peer()).collect();
    stand.ask(&others[0], b"2", &server);
    stand.pass(rest::REST_SETTLED);
    assert_ne!(stand.ask(&others[1], b"3", &server), first);
    server.send_to(b"1", first).expect("sent late");
    stand.settle();
    assert!(others.iter().all(is_silent) && is_silent(&client));
}

#[test]
fn a_socket_does_not_serve_for_ever() {
    for (age, rests) in [(sockets::SERVE - Duration::from_millis(1), 1), (sockets::SERVE, 0)] {
        let server = peer();
        let mut stand = pressed(&server);
        stand.config.services[0].idle_timeout = None;
        stand.apply();
        stand.ask(&peer(), b"?", &server);
        stand.pass(age);
        stand.udp.close(stand.listen, stand.now);
        assert_eq!(stand.udp.sockets.open(), rests, "after {age:?}");
    }
}

#[test]
fn a_silent_flow_ends_after_its_time_and_not_before() {
    let server = peer();
    let mut stand = Stand::new(&[address(&server)], 16);
    stand.config.services[0].idle_timeout = Some(Duration::from_secs(3));
    stand.apply();
    let client = peer();
    let flow = stand.say(&client, b"1", &server);
    stand.pass(Duration::from_secs(2));
    server.send_to(b"an answer counts", flow).expect("sent");
    stand.receive(&client);
    stand.pass(Duration::from_secs(3));
    assert_eq!(stand.udp.len(), 1, "never early");
    stand.pass(table::GRAIN);
    assert_eq!((stand.udp.len(), stand.figure(|shard| shard.idle.get())), (0, 1));
    assert_eq!(stand.service().servers[0].state.connections(), 0);
    stand.say(&client, b"a new flow", &server);
    stand.pass(rest::KEEP);
    assert_eq!(stand.udp.sockets.open(), 1, "the other one was not wanted any more");
}

#[test]
fn a_server_that_is_gone_ends_the_flow_without_being_blacklisted() {
    let (server, client) = (peer(), peer());
    let gone = address(&server);
    let mut stand = Stand::new(&[gone], 16);
    drop(server);
    client.send_to(b"1", stand.listen).expect("sent");
    let start = Instant::now();
    while stand.of_server(0, |shard| shard.failed.get()) == 0 {
        assert!(start.elapsed() < DEADLINE, "nobody noticed");
        stand.turn();
    }
    assert_eq!((stand.udp.len(), stand.service().servers[0].state.connections()), (0, 0));
    assert!(is_silent(&client));
    let server = UdpSocket::bind(gone).expect("the server is back");
    server.set_nonblocking(true).expect("a mode");
    stand.say(&client, b"2", &server);
}

#[test]
fn a_client_without_a_server_is_not_a_flow() {
    let server = peer();
    let mut stand = Stand::new(&[address(&server)], 16);
    stand.config.services[0].servers[0].max = 1;
    stand.apply();
    stand.say(&peer(), b"takes the only place", &server);
    peer().send_to(b"1", stand.listen).expect("sent");
    stand.settle();
    assert_eq!((stand.udp.len(), stand.udp.sockets.open()), (1, 1));
    assert_eq!(stand.figure(|shard| shard.refused.get()), 1);
    assert!(is_silent(&server));
}

#[test]
fn a_client_comes_back_to_its_server_with_a_new_flow() {
    let servers = [peer(), peer(), peer()];
    let mut stand = Stand::new(&servers.each_ref().map(address), 16);
    stand.config.services[0].sticky = Some(Duration::from_secs(60));
    stand.apply();
    for n in 0..6 {
        stand.say(&peer(), &[n], &servers[0]);
    }
    stand.say(&peer_at("127.0.0.2:0"), b"another address", &servers[1]);
}

#[test]
fn a_server_that_cannot_be_reached_is_passed_over_at_once() {
    let server = peer();
    // A broadcast address, to which nobody may connect without saying so.
    let unreachable = SocketAddr::from(([255, 255, 255, 255], 9));
    let mut stand = Stand::new(&[unreachable, address(&server)], 16);
    stand.say(&peer(), b"1", &server);
    assert_eq!((stand.of_server(0, |shard| shard.failed.get()), stand.poll.failures.borrow().len()), (1, 1));
    assert_eq!(stand.figure(|shard| shard.failovers.get()), 1);
}

#[test]
fn a_new_configuration_keeps_flows_whose_server_is_still_there() {
    let servers = [peer(), peer(), peer()];
    let mut stand = Stand::new(&[address(&servers[0]), address(&servers[1])], 16);
    let (one, other) = (peer(), peer());
    let flow = stand.say(&one, b"1", &servers[0]);
    stand.say(&other, b"1", &servers[1]);
    let mut replaced = stand.config.services[0].servers[0].clone();
    replaced.name = "another".into();
    replaced.address = Endpoint::Inet(address(&servers[2]));
    stand.config.services[0].servers[1] = replaced;
    stand.apply();
    assert_eq!(stand.udp.len(), 1);
    assert_eq!(stand.say(&one, b"2", &servers[0]), flow);
    // It is a new flow, and it is the new server's turn.
    other.send_to(b"2", stand.listen).expect("sent");
    stand.settle();
    assert!(is_silent(&servers[1]));
}

#[test]
fn a_closed_listener_takes_its_flows_along() {
    let server = peer();
    let mut stand = Stand::new(&[address(&server)], 16);
    stand.say(&peer(), b"1", &server);
    stand.udp.close(stand.listen, stand.now);
    assert_eq!((stand.udp.len(), stand.udp.listening().count()), (0, 0));
    assert_eq!(stand.service().servers[0].state.connections(), 0);
    let again = UdpSocket::bind(stand.listen);
    assert!(again.is_ok(), "the address is free");
}

#[test]
fn ipv6_clients_reach_ipv4_servers_and_the_other_way_round() {
    let (v4, v6) = (peer(), peer_at("[::1]:0"));
    for (at, server, client) in [("[::1]:0", &v4, peer_at("[::1]:0")), ("127.0.0.1:0", &v6, peer())] {
        let mut stand = Stand::listening(at, &[address(server)], 16);
        let flow = stand.say(&client, b"?", server);
        server.send_to(b"!", flow).expect("sent");
        assert_eq!(stand.receive(&client), (b"!".to_vec(), stand.listen));
    }
}

#[test]
fn a_client_that_asks_two_addresses_of_a_wildcard_listener_gets_each_answer_from_there() {
    let server = peer();
    let mut stand = Stand::listening("0.0.0.0:0", &[address(&server)], 16);
    let (client, port) = (peer(), stand.listen.port());
    for ask in [[127, 0, 0, 7], [127, 0, 0, 8], [127, 0, 0, 7]] {
        stand.listen = SocketAddr::from((ask, port));
        let flow = stand.say(&client, b"?", &server);
        server.send_to(b"!", flow).expect("sent");
        assert_eq!(stand.receive(&client), (b"!".to_vec(), stand.listen));
    }
    assert_eq!(stand.udp.len(), 2);
}
