//! Statistics, with connections and clients: what Pen 0.34.1 showed in the same situation.

use std::net::IpAddr;

use super::*;
use crate::pen::fixture::NOW;
use crate::pen::{ClientFigures, ConnectionFigures, ServerFigures, pages};

/// Two servers, three clients, two connections that live and two that have gone.
fn busy() -> (Pen, World) {
    let server = |blacklisted_at| ServerFigures { connections: 1, sent: 42, received: 56, blacklisted_at };
    let client = |slot: usize, address: &str, server, connects: u64| ClientFigures {
        slot,
        address: address.parse::<IpAddr>().expect("an address"),
        last_used: NOW - 1,
        server: ServerId::Regular(server),
        connects,
        sent: 28 * connects,
        received: 21 * connects,
    };
    let connection = |number, client_fd, server_fd, client, server| ConnectionFigures {
        number,
        state: 2,
        client_fd,
        server_fd,
        pending_down: 0,
        pending_up: 0,
        pending: 0,
        client,
        server: Some(ServerId::Regular(server)),
    };
    let world = World {
        servers: [(ServerId::Regular(0), server(0)), (ServerId::Regular(1), server(0))].into(),
        current: 1,
        clients: vec![
            client(0, "127.0.0.1", 1, 1),
            client(1, "127.0.0.5", 0, 2),
            client(2, "127.0.0.6", 1, 1),
        ],
        connections: vec![connection(0, 9, 11, 0, 1), connection(1, 12, 13, 1, 0)],
        newest: 3,
        ..World::default()
    };
    let pen = started("-w /stats 127.0.0.1:8000 127.0.0.1:81 127.0.0.1:81", &world);
    (pen, world)
}

#[test]
fn the_html_page_is_pens_to_the_byte() {
    let (mut pen, world) = busy();
    let page = include_str!("status.html");
    assert_eq!(answer(&mut pen, "status", &world), page);
    assert_eq!(world.file("/stats"), page, "the file is the page");
}

#[test]
fn clients_servers_and_connections_are_shown_as_pen_shows_them() {
    let (mut pen, world) = busy();
    let cases = [
        (
            "servers",
            "0 addr 127.0.0.1 port 81 conn 1 max 0 hard 0 weight 0 prio 0 sx 42 rx 56\n\
             1 addr 127.0.0.1 port 81 conn 1 max 0 hard 0 weight 0 prio 0 sx 42 rx 56\n",
        ),
        (
            "recent",
            "127.0.0.1 connects 1 sx 28 rx 21\n127.0.0.5 connects 2 sx 56 rx 42\n127.0.0.6 connects 1 sx 28 rx 21\n",
        ),
        ("recent 0", ""),
        (
            "recent 1",
            "127.0.0.1 connects 1 sx 28 rx 21\n127.0.0.5 connects 2 sx 56 rx 42\n127.0.0.6 connects 1 sx 28 rx 21\n",
        ),
        (
            "connection 1",
            "Connection 1:\nstate = 2\ndownfd = 12, upfd = 13\nclient = 1, server = 0\npend = 0\n",
        ),
        ("socket 9", "Socket 9 belongs to connection 0\n"),
        ("socket 13", "Socket 13 belongs to connection 1\n"),
        ("socket 14", "Socket 14 belongs to connection -1\n"),
        ("socket -1", "Socket -1 belongs to connection -1\n"),
    ];
    for (command, expected) in cases {
        assert_eq!(answer(&mut pen, command, &world), expected, "{command}");
    }
}

#[test]
fn the_text_is_pens_but_for_the_clients_where_pen_shows_garbage() {
    let (pen, world) = busy();
    let expected = [
        "Time 2026-11-22 21:53:21, 2 servers, 1 current",
        "Server 0 status:\naddress 127.0.0.1\n0\nport 81\n1 connections (0 soft, 0 hard)\n42 sent, 56 received\n",
        "Server 1 status:\naddress 127.0.0.1\n0\nport 81\n1 connections (0 soft, 0 hard)\n42 sent, 56 received\n",
        "Max number of clients: 2048",
        "Active clients:",
        "Client 0 status:\naddress 127.0.0.1\nlast used 1795384400\nlast server 1\nconnects 1\n28 sent, 21 received\n",
        "Client 1 status:\naddress 127.0.0.5\nlast used 1795384400\nlast server 0\nconnects 2\n56 sent, 42 received\n",
        "Client 2 status:\naddress 127.0.0.6\nlast used 1795384400\nlast server 1\nconnects 1\n28 sent, 21 received\n",
        "Max number of connections: 500",
        "Active connections:",
        "Connection 0 status:\ndownfd = 9, upfd = 11\npending data 0 down, 0 up\nclient 0, server 1\n",
        "Connection 1 status:\ndownfd = 12, upfd = 13\npending data 0 down, 0 up\nclient 1, server 0\n",
    ];
    assert_eq!(pages::text(&pen, &world), expected);
}

#[test]
fn a_page_cannot_be_bent_by_the_path_of_a_server() {
    let (mut pen, world) = busy();
    answer(&mut pen, "server 0 address /<script>&", &world);
    let page = pages::html(&pen, &world);
    assert!(page.contains("<td>/&lt;script&gt;&amp;</td>"), "{page}");
}
