//! A server in the cluster's file.

use toml::de::DeValue;

use super::cluster::{CONNECTIONS_MAX, SERVERS_MAX, WEIGHT_MAX};
use super::model::Server;
use super::problem::{Fault, Report};
use super::section::{Section, Taken};
use super::{secure, values};

/// The servers of `[[service.server]]`. `dummy`: the service can do without.
pub(super) fn servers(
    section: &Section<'_>,
    report: &mut Report<'_>,
    taken: &mut Taken,
    dummy: bool,
) -> Vec<Server> {
    let sections = section.tables(report, "server", "name", SERVERS_MAX);
    if sections.is_empty() && !dummy {
        let fault =
            Fault::new("the service has no servers", "add each as [[service.server]] with name and address");
        section.fault(report, "server", fault);
    }
    sections.iter().filter_map(|section| server(section, report, taken)).collect()
}

fn server(section: &Section<'_>, report: &mut Report<'_>, taken: &mut Taken) -> Option<Server> {
    let known = ["name", "address", "weight", "priority", "max", "hard", "acl", "check_port", "tls"];
    section.refuse_unknown(report, &known);
    let name = section.required(report, "name", "\"s1\"", values::name);
    let weight = section.given(report, "weight", weight).or(1);
    let priority =
        section.given(report, "priority", |v| values::integer(v, i32::MIN..=i32::MAX, "priority")).or(0);
    let hard = section.given(report, "hard", |v| values::integer(v, 0..=CONNECTIONS_MAX, "limit")).or(0);
    let acl = section.given(report, "acl", values::name).optional();
    let common = common(section, report, name.clone());
    taken.claim(section, report, "name", name);
    let address = common.as_ref().map(|server| server.address.to_string());
    taken.claim(section, report, "address", address);
    let (weight, priority, hard, acl) = (weight?, priority?, hard?, acl?);
    let server = Server { weight, priority, hard, acl, ..common? };
    if server.hard > 0 && (server.max == 0 || server.hard <= server.max) {
        let what = format!("{} is no more than the limit for all ({})", server.hard, server.max);
        let remedy = "it is the limit for remembered clients: write more than `max`, or remove it";
        section.fault(report, "hard", Fault::new(what, remedy));
        return None;
    }
    Some(server)
}

/// `[service.emergency]` or `[service.abuse]`: named after what it is for, unless it says otherwise. It may be one of the
/// regular servers.
pub(super) fn spare(
    section: &Section<'_>,
    report: &mut Report<'_>,
    key: &str,
    taken: &mut Taken,
) -> Option<Option<Server>> {
    if !section.has(key) {
        return Some(None);
    }
    let section = section.table(report, key)?;
    section.refuse_unknown(report, &["name", "address", "max", "check_port", "tls"]);
    let name = section.given(report, "name", values::name).or(key.to_owned());
    let server = common(&section, report, name.clone());
    taken.claim(&section, report, "name", name);
    server.map(Some)
}

/// What all servers have.
fn common(section: &Section<'_>, report: &mut Report<'_>, name: Option<String>) -> Option<Server> {
    let address = section.required(report, "address", "\"10.1.0.11:8080\"", values::server);
    let max = section.given(report, "max", |v| values::integer(v, 0..=CONNECTIONS_MAX, "limit")).or(0);
    let check_port =
        section.given(report, "check_port", |v| values::integer(v, 1..=u16::MAX, "port")).optional();
    let tls = secure::towards_server(section, report);
    Some(Server { max: max?, check_port: check_port?, tls: tls?, ..Server::new(name?, address?) })
}

fn weight(value: &DeValue<'_>) -> Result<u16, Fault> {
    values::integer(value, 1..=WEIGHT_MAX, "weight").map_err(|fault| {
        let drain = "to take a server out of service: `cygnet server drain SERVICE SERVER`";
        Fault::new(fault.what, format!("{}; {drain}", fault.remedy))
    })
}
