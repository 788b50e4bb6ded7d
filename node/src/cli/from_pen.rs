//! `cygnet config from-pen`: what Pen's files and options say, as a cluster file. Nothing is started, and nothing written.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Session;
use super::exit::{Exit, Outcome};
use super::output::printable;
use crate::config::model::{Acl, AclEntry, AclMatch, Server, Service, Transport};
use crate::config::{CONNECTIONS_MAX, IDLERS_MAX, WEIGHT_MAX, parse_cluster, to_toml};
use crate::control::types::{ApiError, ErrorCode};
use crate::pen::options::{Parsed, Stop, parse};
use crate::pen::service::Translation;
use crate::pen::{
    COUNTRIES, ClientFigures, ConnectionFigures, Effect, FILE_BYTES_MAX, Facts, Files, Names, Pen,
    ServerFigures, ServerId, Surroundings,
};

/// Prints the cluster file that does what Pen does with these files, or with these arguments.
pub(super) fn run(files: &[PathBuf], arguments: &[String], session: &mut Session<'_>) -> Outcome {
    let around = Surroundings { facts: &Still, names: &Here, files: &Here };
    let (pen, messages) =
        if files.is_empty() { of_arguments(arguments, around)? } else { of_files(files, around) };
    for line in text(&pen, &messages).lines() {
        session.screen.line(line)?;
    }
    Ok(Exit::Ok)
}

fn of_files(files: &[PathBuf], around: Surroundings<'_>) -> (Pen, Vec<String>) {
    let (mut pen, mut messages) = (Pen::default(), Vec::new());
    for file in files {
        pen.config_file = Some(file.clone());
        messages.extend(told(pen.read_configuration(around).effects));
    }
    (pen, messages)
}

fn of_arguments(arguments: &[String], around: Surroundings<'_>) -> Result<(Pen, Vec<String>), ApiError> {
    let arguments = match arguments {
        // The whole command, as it stands in a unit file.
        [program, rest @ ..] if Path::new(program).file_name().is_some_and(|name| name == "pen") => rest,
        all => all,
    };
    let started = match parse("pen", arguments, around) {
        Parsed::Start(start) => start.finish(around),
        Parsed::Stop(stop) => Err(stop),
    };
    let start = started.map_err(|Stop { out, err, .. }| {
        let why = if err.trim().is_empty() { out } else { err };
        let first = why.lines().next().unwrap_or("pen would print its usage").to_owned();
        ApiError::new(ErrorCode::Usage, first, "give the arguments of a pen that starts, after `--`")
    })?;
    Ok((start.pen, told(start.effects)))
}

/// What Pen would tell its administrator.
fn told(effects: Vec<Effect>) -> Vec<String> {
    let message = |effect| if let Effect::Message(text) = effect { Some(text) } else { None };
    effects.into_iter().filter_map(message).collect()
}

/// The file, with what cannot be said in it as comments.
fn text(pen: &Pen, messages: &[String]) -> String {
    let Translation { mut config, mut unsaid } = pen.to_config();
    for list in &mut config.acls {
        without_strays(list);
    }
    for service in &mut config.services {
        // Pen's other settings are about connections.
        if service.dsr.is_some() {
            continue;
        }
        service.dummy = pen.dummy;
        service.idlers = u32::try_from(pen.idlers).unwrap_or(0).min(IDLERS_MAX);
        fit(service, &mut unsaid);
    }
    unsaid.extend(messages.iter().map(|message| format!("pen says: {message}")));
    let places = config.acls.iter().flat_map(|list| &list.entries);
    if places.clone().any(|entry| matches!(entry.who, AclMatch::Country(_))) {
        unsaid.push("in the node file: countries = \"/usr/share/GeoIP/GeoLite2-Country.mmdb\"".to_owned());
    }
    let toml = to_toml(&config);
    // What is left to do by hand; a file without `listen`, for one, had it on the command line.
    for problem in parse_cluster(&toml, "").err().unwrap_or_default() {
        unsaid.push(format!("to correct: {}: {}; {}", problem.key, problem.what, problem.remedy));
    }
    let mut text = String::from("# Made of Pen's settings by `cygnet config from-pen`.\n");
    for line in unsaid.iter().flat_map(|said| said.lines()) {
        text.push_str(&format!("# {}\n", printable(line)));
    }
    text + "\n" + &toml
}

/// Bits outside its mask make an entry fit nobody. As the last one it still decides for those whom no entry fits.
fn without_strays(list: &mut Acl) {
    let is_stray = |entry: &AclEntry| match entry.who {
        AclMatch::V4 { address, mask } => address & mask != address,
        _ => false,
    };
    let otherwise = list.entries.last().filter(|last| is_stray(last)).map(|last| !last.permit);
    list.entries.retain(|entry| !is_stray(entry));
    if let Some(permit) = otherwise {
        let all = ["0.0.0.0/0", "::/0"].into_iter().filter_map(everybody);
        list.entries.extend(all.map(|who| AclEntry { permit, who }));
    }
}

fn everybody(network: &str) -> Option<AclMatch> {
    Some(match network.split_once('/')?.0.parse().ok()? {
        IpAddr::V4(address) => AclMatch::V4 { address, mask: address },
        IpAddr::V6(address) => AclMatch::V6 { address, prefix: 0 },
    })
}

/// Brings a service within what a file can say.
fn fit(service: &mut Service, unsaid: &mut Vec<String>) {
    /// The longest times that a file can name.
    const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);
    let mut cut = |what: &str, time: &mut Duration, most: Duration| {
        if *time > most && *time != Duration::MAX {
            unsaid.push(format!("{what} is cut to {}", humantime::format_duration(most)));
            *time = most;
        }
    };
    cut("timeout", &mut service.connect_timeout, MONTH / 720);
    cut("blacklist", &mut service.blacklist, MONTH / 30);
    service.sticky.iter_mut().for_each(|time| cut("tracking", time, MONTH));
    service.idle_timeout.iter_mut().for_each(|time| cut("idle_timeout", time, MONTH));
    if service.abuse.is_some() && service.clients.is_none() {
        unsaid.push("the abuse server (-B) is left out: no client_acl denies anybody".to_owned());
        service.abuse = None;
    }
    if service.transport == Transport::Udp {
        let plain = Service::new("");
        (service.http, service.tls) = (plain.http, plain.tls);
        (service.fast_close, service.keepalive) = (plain.fast_close, plain.keepalive);
        (service.dummy, service.idlers) = (plain.dummy, plain.idlers);
    }
    let mut seen = Vec::new();
    service.servers.retain(|server| {
        let twin = seen.contains(&server.address);
        if twin {
            unsaid.push(format!("{} is left out: another has the address {}", server.name, server.address));
        }
        seen.push(server.address.clone());
        !twin
    });
    for server in service.servers.iter_mut().chain(&mut service.emergency).chain(&mut service.abuse) {
        fit_server(server, unsaid);
    }
    for spare in [&mut service.emergency, &mut service.abuse].into_iter().flatten() {
        *spare = Server { max: spare.max, ..Server::new(spare.name.clone(), spare.address.clone()) };
    }
    if let Some(tls) = &mut service.tls {
        let more = [&mut tls.key, &mut tls.chain, &mut tls.names, &mut tls.ocsp];
        let others = [&mut tls.client_authorities, &mut tls.client_authorities_directory];
        let given = more.into_iter().chain(others).flatten();
        for path in std::iter::once(&mut tls.certificate).chain(given) {
            // Pen starts from the directory in which it is called.
            *path = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
        }
    }
}

fn fit_server(server: &mut Server, unsaid: &mut Vec<String>) {
    if server.weight > WEIGHT_MAX {
        unsaid.push(format!("the weight of {} is cut from {} to {WEIGHT_MAX}", server.name, server.weight));
        server.weight = WEIGHT_MAX;
    }
    server.max = server.max.min(CONNECTIONS_MAX);
    server.hard = server.hard.min(CONNECTIONS_MAX);
    // It means nothing then, in Pen neither.
    if server.max == 0 || server.hard <= server.max {
        server.hard = 0;
    }
}

/// A balancer that does not run.
struct Still;

impl Facts for Still {
    fn unix_time(&self) -> i64 {
        0
    }
    fn local_time(&self) -> String {
        String::new()
    }
    fn pid(&self) -> u32 {
        0
    }
    fn server(&self, _: ServerId) -> ServerFigures {
        ServerFigures::default()
    }
    fn current_server(&self) -> ServerId {
        ServerId::Regular(0)
    }
    fn clients(&self) -> Vec<ClientFigures> {
        Vec::new()
    }
    fn connections(&self) -> Vec<ConnectionFigures> {
        Vec::new()
    }
    fn newest_connection(&self) -> usize {
        0
    }
    fn idlers(&self) -> u32 {
        0
    }
}

/// Names and files of this machine; nothing is written.
struct Here;

impl Names for Here {
    fn address(&self, name: &str) -> Option<IpAddr> {
        name.parse().ok().or_else(|| Some((name, 0).to_socket_addrs().ok()?.next()?.ip()))
    }

    fn port(&self, name: &str) -> Option<u16> {
        let known = || {
            let services = fs::read_to_string("/etc/services").ok()?;
            let mut lines = services.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            let line = lines.find(|words| words.first() == Some(&name))?;
            line.get(1)?.split('/').next()?.parse().ok()
        };
        name.parse().ok().or_else(known)
    }
}

impl Files for Here {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > FILE_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }

    fn write(&self, _: &Path, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// A file of this house names its own database.
    fn countries(&self, named: Option<&Path>) -> Option<PathBuf> {
        Some(named.unwrap_or_else(|| Path::new(COUNTRIES[0])).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file that these arguments come to, and what it is as a model.
    fn of(arguments: &str) -> (String, Service) {
        let words: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        let around = Surroundings { facts: &Still, names: &Here, files: &Here };
        let (pen, messages) = of_arguments(&words, around).unwrap();
        let text = text(&pen, &messages);
        let config = parse_cluster(&text, "c").map_err(|problems| format!("{problems:?}\n{text}")).unwrap();
        (text, config.services.into_iter().next().unwrap())
    }

    #[test]
    fn a_command_line_becomes_a_good_cluster_file() {
        let (text, service) =
            of("pen -r -t 2 -H -b 5 127.0.0.1:8000 10.0.0.1:80:10:20 10.0.0.2:81:5:3 -e 10.0.0.3:82");
        assert_eq!(service.listen[0].to_string(), "127.0.0.1:8000");
        assert_eq!(service.sticky, None, "round robin does not track");
        assert_eq!((service.connect_timeout.as_secs(), service.blacklist.as_secs()), (2, 5));
        assert!(service.http.is_some_and(|http| http.lenient));
        let servers: Vec<_> = service.servers.iter().map(|server| (server.max, server.hard)).collect();
        assert_eq!(servers, [(10, 20), (5, 0)]);
        assert_eq!(service.emergency.unwrap().address.to_string(), "10.0.0.3:82");
        assert!(text.starts_with("# Made of Pen's settings"), "{text}");
    }

    #[test]
    fn what_cannot_be_said_is_a_comment_with_its_reason() {
        let (text, service) = of("-l /var/log/pen -B 10.0.0.9:1 -E pen.pem 8000 10.0.0.1:80 10.0.0.1:80");
        assert!(text.contains("\n# the request log"), "{text}");
        assert!(text.contains("\n# the abuse server (-B) is left out"), "{text}");
        assert!(text.contains("\n# server1 is left out: another has the address 10.0.0.1:80"), "{text}");
        assert_eq!((service.servers.len(), service.sticky), (1, Some(Duration::MAX)));
        assert!(service.tls.unwrap().certificate.is_absolute());
    }

    #[test]
    fn files_are_run_in_order_and_nothing_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (directory.path().join("1"), directory.path().join("2"));
        let written = directory.path().join("written");
        let acl = "acl 1 permit 10.0.0.1 255.0.0.0\nclient_acl 1\n";
        fs::write(&first, format!("listen 127.0.0.1:8000\nserver 0 address 10.0.0.1 port 80\n{acl}"))
            .unwrap();
        fs::write(&second, format!("server 0 port 81\nweight\nwrite {}\n", written.display())).unwrap();
        let around = Surroundings { facts: &Still, names: &Here, files: &Here };
        let (pen, messages) = of_files(&[first, second], around);
        let text = text(&pen, &messages);
        let config = parse_cluster(&text, "c").unwrap();
        assert_eq!(config.services[0].servers[0].address.to_string(), "10.0.0.1:81");
        let entries: Vec<String> = config.acls[0].entries.iter().map(ToString::to_string).collect();
        assert_eq!(
            entries,
            ["deny 0.0.0.0/0", "deny ::/0"],
            "the entry fits nobody, and the others are denied"
        );
        assert!(!written.exists());
    }

    #[test]
    fn what_is_no_start_of_a_pen_is_refused_with_its_words() {
        let around = Surroundings { facts: &Still, names: &Here, files: &Here };
        let error = of_arguments(&["99999".to_owned()], around).unwrap_err();
        assert_eq!((error.code, error.error.as_str()), (ErrorCode::Usage, "Port 99999 out of range"));
    }

    #[test]
    fn a_file_without_a_listening_address_says_that_it_is_missing() {
        let text = text(&Pen::default(), &[]);
        assert!(text.contains("# to correct: service[pen].listen: the service listens nowhere"), "{text}");
    }
}
