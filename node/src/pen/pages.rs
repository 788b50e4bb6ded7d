//! What Pen shows of itself: `servers`, `recent`, `connection`, `mode`, and the statistics as HTML and as text.

use std::fmt::{Display, Write};

use super::answers::{ClientFigures, ConnectionFigures, Facts};
use super::model::{Pen, ServerId, Slot};

const HEADER_COLOUR: &str = "#80f080";
const TABLE_COLOUR: &str = "#c0c0c0";
const PAGE_COLOUR: &str = "#ffffff";

const SERVER_HEADERS: &[&str] = &[
    "server",
    "address",
    "status",
    "port",
    "connections",
    "max soft",
    "max hard",
    "sent",
    "received",
    "weight",
    "prio",
];
const CLIENT_HEADERS: &[&str] =
    &["client", "address", "age(secs)", "last server", "connects", "sent", "received"];
const CONNECTION_HEADERS: &[&str] =
    &["connection", "downfd", "upfd", "pending data down", "pending data up", "client", "server"];

/// The answer to `mode`.
pub(super) fn mode(pen: &Pen) -> String {
    let word = |on: bool, name: &str| if on { name.to_owned() } else { format!("no {name}") };
    let words = [
        word(pen.rules.hash, "hash"),
        word(pen.rules.round_robin, "roundrobin"),
        word(pen.stubborn, "stubborn"),
        word(pen.rules.weight, "weight"),
        word(pen.rules.prio, "prio"),
    ];
    words.join(" ") + "\n"
}

/// The answer to `recent`.
pub(super) fn recent(facts: &dyn Facts, seconds: i32) -> String {
    let since = facts.unix_time().saturating_sub(i64::from(seconds));
    let clients = facts.clients();
    let recent = clients.iter().filter(|client| client.last_used >= since);
    recent
        .map(|client| {
            let ClientFigures { connects, sent, received, .. } = client;
            let address = client_word(client);
            format!("{address} connects {connects} sx {sent} rx {received}\n")
        })
        .collect()
}

/// The answer to `servers`.
pub(super) fn servers(pen: &Pen, facts: &dyn Facts) -> String {
    let mut out = String::new();
    for (number, slot) in pen.servers.iter().enumerate() {
        let Slot { host, max, hard, weight, prio, .. } = slot;
        let figures = facts.server(ServerId::Regular(number));
        add(
            &mut out,
            format_args!(
                "{number} addr {host} port {} conn {} max {max} hard {hard} weight {weight} prio {prio} sx {} rx {}\n",
                slot.shown_port(),
                figures.connections,
                figures.sent,
                figures.received,
            ),
        );
    }
    out
}

/// The answer to `connection`: an unused place has no sockets.
pub(super) fn connection(place: usize, found: Option<&ConnectionFigures>) -> String {
    let state = found.map_or(0, |found| found.state);
    let down = found.map_or(-1, |found| found.client_fd);
    let up = found.map_or(-1, |found| found.server_fd);
    let client = found.map_or(0, |found| found.client);
    let server = found.map_or_else(|| "0".to_owned(), server_word);
    let pending = found.map_or(0, |found| found.pending);
    format!(
        "Connection {place}:\nstate = {state}\ndownfd = {down}, upfd = {up}\n\
         client = {client}, server = {server}\npend = {pending}\n"
    )
}

/// Clients through a Unix socket are one client, without an address.
fn client_word(client: &ClientFigures) -> String {
    if client.address.is_unspecified() { String::new() } else { client.address.to_string() }
}

/// A connection that has no server yet shows what Pen shows: the emergency server's number.
fn server_word(connection: &ConnectionFigures) -> String {
    connection.server.map_or_else(|| "-1".to_owned(), |server| server.to_string())
}

/// The statistics as HTML: `status`, and the file of `-w`.
#[must_use]
pub fn html(pen: &Pen, facts: &dyn Facts) -> String {
    let mut out = format!(
        "<html>\n<head>\n<title>Pen status page</title>\n</head>\n\
         <body bgcolor=\"{PAGE_COLOUR}\"><h1>Pen status page</h1>\n\
         Time {}, {} servers, {} current<p>\n",
        facts.local_time(),
        pen.servers.len(),
        facts.current_server()
    );
    html_servers(&mut out, pen, facts);
    html_clients(&mut out, pen, facts);
    html_connections(&mut out, pen, facts);
    out.push_str("</body>\n</html>\n");
    out
}

fn html_servers(out: &mut String, pen: &Pen, facts: &dyn Facts) {
    table(out, SERVER_HEADERS);
    for (number, slot) in pen.servers.iter().enumerate() {
        let figures = facts.server(ServerId::Regular(number));
        let cells: [&dyn Display; 11] = [
            &number,
            &Escaped(&slot.host.to_string()),
            &figures.blacklisted_at,
            &slot.shown_port(),
            &figures.connections,
            &slot.max,
            &slot.hard,
            &figures.sent,
            &figures.received,
            &slot.weight,
            &slot.prio,
        ];
        row(out, &cells);
    }
    out.push_str("</table>\n");
}

fn html_clients(out: &mut String, pen: &Pen, facts: &dyn Facts) {
    let now = facts.unix_time();
    add(out, format_args!("<h2>Active clients</h2>Max number of clients: {}<p>", pen.clients_max));
    table(out, CLIENT_HEADERS);
    for client in facts.clients() {
        let age = now.saturating_sub(client.last_used);
        let ClientFigures { slot, server, connects, sent, received, .. } = &client;
        row(out, &[slot, &client_word(&client), &age, server, connects, sent, received]);
    }
    out.push_str("</table>\n");
}

fn html_connections(out: &mut String, pen: &Pen, facts: &dyn Facts) {
    let connections = facts.connections();
    add(
        out,
        format_args!(
            "<h2>Active connections</h2>Number of connections: {} max, {} used, {} last<p>",
            pen.conn_max,
            connections.len(),
            facts.newest_connection()
        ),
    );
    table(out, CONNECTION_HEADERS);
    for connection in &connections {
        let ConnectionFigures { number, client_fd, server_fd, pending_down, pending_up, client, .. } =
            connection;
        row(out, &[number, client_fd, server_fd, pending_down, pending_up, client, &server_word(connection)]);
    }
    out.push_str("</table>\n");
}

/// A table's beginning, with its headers.
fn table(out: &mut String, headers: &[&str]) {
    add(out, format_args!("<table bgcolor=\"{TABLE_COLOUR}\">\n<tr>\n"));
    for header in headers {
        add(out, format_args!("<td bgcolor=\"{HEADER_COLOUR}\">{header}</td>\n"));
    }
    out.push_str("</tr>\n");
}

fn row(out: &mut String, cells: &[&dyn Display]) {
    out.push_str("<tr>\n");
    for cell in cells {
        add(out, format_args!("<td>{cell}</td>\n"));
    }
    out.push_str("</tr>\n");
}

/// A path may hold anything.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '<' => out.write_str("&lt;")?,
                '>' => out.write_str("&gt;")?,
                '&' => out.write_str("&amp;")?,
                other => out.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// The statistics as text (USR1 without a file), as the messages that they are given out in.
#[must_use]
pub fn text(pen: &Pen, facts: &dyn Facts) -> Vec<String> {
    let (time, servers) = (facts.local_time(), pen.servers.len());
    let mut out = vec![format!("Time {time}, {servers} servers, {} current", facts.current_server())];
    for (number, slot) in pen.servers.iter().enumerate() {
        let figures = facts.server(ServerId::Regular(number));
        out.push(format!(
            "Server {number} status:\naddress {}\n{}\nport {}\n{} connections ({} soft, {} hard)\n\
             {} sent, {} received\n",
            slot.host,
            figures.blacklisted_at,
            slot.shown_port(),
            figures.connections,
            slot.max,
            slot.hard,
            figures.sent,
            figures.received
        ));
    }
    out.push(format!("Max number of clients: {}", pen.clients_max));
    out.push("Active clients:".to_owned());
    for client in facts.clients() {
        let address = client_word(&client);
        let ClientFigures { slot, last_used, server, connects, sent, received, .. } = client;
        out.push(format!(
            "Client {slot} status:\naddress {address}\nlast used {last_used}\nlast server {server}\n\
             connects {connects}\n{sent} sent, {received} received\n"
        ));
    }
    out.push(format!("Max number of connections: {}", pen.conn_max));
    out.push("Active connections:".to_owned());
    for connection in facts.connections() {
        let server = server_word(&connection);
        let ConnectionFigures { number, client_fd, server_fd, pending_down, pending_up, client, .. } =
            connection;
        out.push(format!(
            "Connection {number} status:\ndownfd = {client_fd}, upfd = {server_fd}\n\
             pending data {pending_down} down, {pending_up} up\nclient {client}, server {server}\n"
        ));
    }
    out
}

fn add(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(text);
}
