//! The running balancer: Pen's state and the workers, kept in step.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cygnet_ha::events::EventLog;
use tokio::time::Instant;

use super::accounts::Accounts;
use super::control::{Control, News, Request};
use super::direct::Direct;
use super::figures::{self, Figures};
use super::logs::{Logs, Sink, Writer};
use super::messages::Messages;
use super::observe::Watch;
use super::signals::{Signals, Wish};
use super::system::System;
use super::{
    COUNTRIES, Effect, Files, LogTarget, Names, Outcome, Pen, ServerId, Surroundings, pages, penctl_words,
};
use crate::balance::acl::AccessList;
use crate::balance::geo::Countries;
use crate::balance::{ClientTable, Permits};
use crate::config::model::{Acl, AclMatch, Endpoint, Server, Service};
use crate::plan::{Admin, Plan, Registry, ServicePlan, Start};
use crate::proxy::tls::TICKET_ROTATION;
use crate::proxy::{ListenError, Settings, Workers};

/// How often the data path is asked for news.
const NEWS_EVERY: Duration = Duration::from_secs(1);
/// How often certificates and OCSP responses are looked at.
const FILES_EVERY: Duration = Duration::from_secs(10);
/// How long the last answers may take at the end.
const ANSWER_PATIENCE: Duration = Duration::from_millis(500);

/// The running balancer.
pub(super) struct Balancer {
    pen: Pen,
    workers: Workers,
    registry: Registry,
    clients: Arc<ClientTable>,
    watch: Arc<Watch>,
    writer: Writer,
    messages: Messages,
    events: EventLog,
    /// The last event that was told.
    told: u64,
    /// How often the configuration file was read.
    readings: u64,
    /// With `dsr_if` given before the start.
    direct: Option<Direct>,
    ending: bool,
}

impl Balancer {
    /// Takes the listening address, for which it may take root; nobody is served before [`Self::open`]. An error is fatal.
    pub(super) fn start(pen: Pen, messages: Messages) -> Result<Self, String> {
        let events = EventLog::default();
        let clients = Arc::new(ClientTable::new(usize::try_from(pen.clients_max).unwrap_or(1)));
        let (logs, writer) = Logs::start(messages.clone()).map_err(|error| format!("log: {error}"))?;
        let slots = usize::try_from(pen.clients_max).unwrap_or(1);
        let watch = Arc::new(Watch::new(Accounts::new(pen.workers, slots), logs));
        let settings = Settings {
            workers: pen.workers,
            connections_max: usize::try_from(pen.conn_max).ok(),
            pending_max: usize::try_from(pen.pending_max).ok(),
            accepts_max: usize::try_from(pen.multi_accept).ok(),
            backlog: Some(pen.listen_queue),
            closed: true,
            events: events.clone(),
            ..Settings::default()
        };
        let workers = Workers::start(settings, &clients).map_err(|error| format!("workers: {error}"))?;
        let registry = Registry::new(pen.workers).observed_by(Arc::clone(&watch) as _);
        let mut balancer = Self {
            pen,
            workers,
            registry,
            clients,
            watch,
            writer,
            messages,
            events,
            told: 0,
            readings: 1,
            direct: None,
            ending: false,
        };
        balancer.find_countries()?;
        balancer.go_direct()?;
        balancer.apply()?;
        Ok(balancer)
    }

    /// Lets clients in: what could end the process is done. An error is fatal.
    pub(super) fn open(&self) -> Result<(), String> {
        self.workers.open().map_err(|errors| unbound(&errors))
    }

    pub(super) fn pen(&self) -> &Pen {
        &self.pen
    }

    /// The log of the command line.
    pub(super) fn open_log(&mut self) -> Result<(), String> {
        self.turn_log(self.pen.log.clone().as_ref())
    }

    /// Serves until the end is asked for.
    pub(super) async fn serve(&mut self, control: &mut Control, signals: &mut Signals) {
        let mut news = tokio::time::interval(NEWS_EVERY);
        news.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut files = tokio::time::interval(FILES_EVERY);
        let mut tickets = tokio::time::interval_at(Instant::now() + TICKET_ROTATION, TICKET_ROTATION);
        while !self.ending {
            tokio::select! {
                wish = signals.next() => self.grant(wish),
                said = control.next() => match said {
                    News::Client(stream, peer) => {
                        if peer.is_none_or(|peer| self.may_control(peer)) {
                            control.serve(stream);
                        }
                    }
                    News::Request(Request { line, reply }) => {
                        // Who has gone away has no use for the answer.
                        let _ = reply.send(self.command(&line));
                    }
                },
                _ = news.tick() => self.tell_news(),
                _ = files.tick() => self.refresh_files(),
                _ = tickets.tick() => {
                    if let Err(error) = self.registry.rotate_tickets() {
                        self.messages.tell(error);
                    }
                }
            }
        }
        control.close();
        control.finish(ANSWER_PATIENCE).await;
    }

    /// The clean end: connections are cut, what is logged is written.
    pub(super) fn end(self) {
        if self.pen.debug > 0 {
            self.messages.tell("Quitting");
            self.messages.tell(format_args!("Read configuration {} times", self.readings));
            self.messages.tell("Exiting, cleaning up...");
        }
        self.workers.stop(Duration::ZERO);
        self.watch.logs.end(self.writer);
    }

    /// Whether the list that control connections must pass lets this one.
    fn may_control(&self, peer: IpAddr) -> bool {
        let Some(entries) = self.pen.acls.get(self.pen.control_acl) else { return false };
        let list = Acl { name: String::new(), entries: entries.clone() };
        AccessList::new(&list, self.registry.countries().as_ref()).permits(peer)
    }

    fn grant(&mut self, wish: Wish) {
        match wish {
            Wish::Reload => self.reload(),
            Wish::Statistics => self.statistics(),
            Wish::Abort => std::process::abort(),
            Wish::End => self.ending = true,
        }
    }

    /// The log file anew, for whoever has moved it away; then the configuration file again.
    fn reload(&mut self) {
        let log = self.pen.log.clone();
        if let Some(LogTarget::File(_)) = &log
            && let Err(why) = self.turn_log(log.as_ref())
        {
            self.messages.tell(why);
        }
        if self.pen.config_file.is_none() {
            return;
        }
        self.readings += 1;
        let answer = self.run(Pen::read_configuration);
        print(&answer);
    }

    fn statistics(&mut self) {
        let figures = self.figures();
        let Some(file) = &self.pen.web_stats else {
            pages::text(&self.pen, &figures).iter().for_each(|line| self.messages.tell(line));
            return;
        };
        let page = pages::html(&self.pen, &figures);
        if let Err(error) = std::fs::write(file, page) {
            self.messages.tell(format_args!("{}: {error}", file.display()));
        }
    }

    fn command(&mut self, line: &str) -> String {
        self.run(|pen, around| pen.command(line, around))
    }

    /// Runs commands, and does what they lead to. When that fails, all is as it was before.
    fn run(&mut self, commands: impl FnOnce(&mut Pen, Surroundings<'_>) -> Outcome) -> String {
        let before = self.pen.clone();
        let mut pen = self.pen.clone();
        let figures = self.figures();
        let outcome = commands(&mut pen, Surroundings { facts: &figures, names: &System, files: &System });
        self.pen = pen;
        match outcome.effects.into_iter().try_for_each(|effect| self.perform(effect)) {
            Ok(()) => outcome.answer,
            Err(why) => {
                self.messages.tell(&why);
                self.pen = before;
                if let Err(why) = self.apply() {
                    self.messages.tell(why);
                }
                penctl_words::refusal(why)
            }
        }
    }

    fn perform(&mut self, effect: Effect) -> Result<(), String> {
        match effect {
            Effect::Apply | Effect::Listen => self.apply(),
            Effect::Log(target) => self.turn_log(target.as_ref()),
            Effect::ReadOcsp => {
                self.apply()?;
                self.refresh_files();
                Ok(())
            }
            Effect::Close(number) => {
                // Whoever is gone already needs no closing.
                let _ = self.workers.close(figures::id_of(number, self.pen.workers));
                Ok(())
            }
            Effect::Blacklist { server, seconds } => {
                self.blacklist(server, seconds);
                Ok(())
            }
            Effect::Exit => {
                self.ending = true;
                Ok(())
            }
            Effect::Print(text) => {
                print(&text);
                Ok(())
            }
            Effect::Message(text) => {
                self.messages.tell(text);
                Ok(())
            }
        }
    }

    /// Reads the country database, if one is named or needed; one that is in use stays until it has changed, and as long as
    /// it cannot be read anew (in the jail it is not there).
    fn find_countries(&self) -> Result<(), String> {
        let named = self.pen.countries.as_deref();
        let needed = self.pen.acls.iter().flatten().any(|entry| matches!(entry.who, AclMatch::Country(_)));
        if named.is_none() && !needed {
            return Ok(());
        }
        let before = self.registry.countries();
        let opened = match System.countries(named).or_else(|| named.map(Path::to_owned)) {
            Some(file) => Countries::open(&file, before.as_ref()).map_err(|error| error.to_string()),
            None => Err(format!("there is no country database in {}", COUNTRIES.join(" or "))),
        };
        match opened {
            Ok(countries) => self.registry.use_countries(Some(countries)),
            Err(why) if before.is_none() => return Err(why),
            Err(_) => {}
        }
        Ok(())
    }

    /// Starts direct server return, if that is asked for. Later is too late for it, as in Pen: it takes rights that are
    /// given up.
    fn go_direct(&mut self) -> Result<(), String> {
        let Some(interface) = self.pen.dsr_if.clone() else { return Ok(()) };
        let plan = self.plan();
        let service = plan.services.first().ok_or("there is nothing to serve")?;
        self.direct = Some(Direct::start(&self.pen, &interface, service, self.workers.clock())?);
        Ok(())
    }

    fn plan(&self) -> Plan {
        let mut config = self.pen.config();
        if self.direct.is_some() {
            // Frames are taken off the interface: there is nothing to listen on.
            config.services.iter_mut().for_each(|service| service.listen.clear());
        }
        self.registry.plan(&config, &self.clients, &|_, _| Admin::Ready, &start_of)
    }

    /// Brings the data path in step with the state.
    fn apply(&mut self) -> Result<(), String> {
        self.try_listener()?;
        let Pen { clients_max, tracking, debug, ascii, foreground, .. } = self.pen;
        self.watch.accounts.grow(usize::try_from(clients_max).unwrap_or(0));
        self.watch.accounts.set_tracking(i64::from(tracking));
        self.watch.set_dumping(debug >= 3 && foreground, ascii);
        self.find_countries()?;
        let limit = |max: i32| usize::try_from(max).ok();
        self.workers.limit(limit(self.pen.conn_max), limit(self.pen.pending_max));
        let plan = self.plan();
        if let Some(fault) = plan.faults.iter().find(|fault| !fault.kept) {
            return Err(format!("Unable to create default context: {}", fault.text));
        }
        plan.faults.iter().for_each(|fault| self.messages.tell(&fault.text));
        if let Some(service) = plan.services.first() {
            self.watch.set_servers(shown_addresses(service));
            if let Some(direct) = &self.direct {
                direct.update(&self.pen, service, self.registry.countries().as_ref());
            }
        }
        self.workers.apply(&Arc::new(plan)).map_err(|errors| unbound(&errors))
    }

    /// Certificates and OCSP responses that have changed since they were read.
    fn refresh_files(&self) {
        self.registry.refresh_files().faults.iter().for_each(|fault| self.messages.tell(&fault.text));
    }

    /// A new listener is tried before the old one is given up: who has left root behind would not get that one back. And
    /// the workers listen on addresses that are not there yet; Pen does not.
    fn try_listener(&self) -> Result<(), String> {
        let Some(listen) = &self.pen.listen else { return Ok(()) };
        if self.workers.listening().iter().any(|at| at.endpoint == *listen) {
            return Ok(());
        }
        can_bind(&self.pen, listen).map_err(|error| format!("can't bind local address ({listen}: {error})"))
    }

    fn turn_log(&mut self, target: Option<&LogTarget>) -> Result<(), String> {
        let sink = target.map(open_sink).transpose()?;
        self.watch.logs.turn(sink);
        Ok(())
    }

    fn blacklist(&self, id: ServerId, seconds: u32) {
        let Some(service) = figures::service(&self.workers) else { return };
        if let Some(server) = figures::find(&service, id) {
            let time = Duration::from_secs(u64::from(seconds));
            server.state.blacklist_for(self.workers.now(), time, service.blacklist);
        }
    }

    fn figures(&self) -> Figures<'_> {
        let conn_max = usize::try_from(self.pen.conn_max).unwrap_or(0);
        let has_countries = self.registry.countries().is_some();
        Figures {
            workers: &self.workers,
            watch: &self.watch,
            conn_max,
            threads: self.pen.workers,
            has_countries,
        }
    }

    /// Tells the administrator what has happened on the data path.
    fn tell_news(&mut self) {
        for event in self.events.after(self.told) {
            self.told = event.sequence;
            let because = if event.why.is_empty() { String::new() } else { format!(": {}", event.why) };
            self.messages.tell(format_args!("{}{because}", event.what));
        }
    }
}

fn unbound(errors: &[ListenError]) -> String {
    let errors: Vec<String> =
        errors.iter().map(|error| format!("{}: {}", error.address, error.error)).collect();
    format!("can't bind local address ({})", errors.join(", "))
}

fn print(text: &str) {
    use std::io::Write;
    // In the background nobody reads it.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Where connections to a server start from: wherever the kernel likes, unless `source` says it.
fn start_of(service: &Service, server: &Server) -> Result<Start, String> {
    let fits =
        |source: &IpAddr| server.address.inet().is_some_and(|address| address.is_ipv4() == source.is_ipv4());
    Ok(service.source.filter(fits).map_or(Start::Kernel, Start::At))
}

/// The servers as the log names them: without ports.
fn shown_addresses(service: &ServicePlan) -> Vec<Arc<str>> {
    let shown = |address: &Endpoint| match address {
        Endpoint::Inet(address) => Arc::from(address.ip().to_string()),
        Endpoint::Unix(path) => Arc::from(path.display().to_string()),
    };
    service.servers.iter().map(|server| shown(&server.address)).collect()
}

fn open_sink(target: &LogTarget) -> Result<Sink, String> {
    match target {
        LogTarget::File(path) => {
            Sink::file(path).map_err(|error| format!("Can't open logfile {}: {error}", path.display()))
        }
        LogTarget::Network { host, port } => {
            let bogus = || format!("Bogus host {host}");
            let address = System.address(host).ok_or_else(bogus)?;
            let port = System.port(port).ok_or_else(|| format!("Bogus port {port}"))?;
            Sink::network(SocketAddr::new(address, port)).map_err(|error| format!("{}: {error}", bogus()))
        }
    }
}

/// Whether the listener could be opened: tried with a socket that nobody can connect to.
fn can_bind(pen: &Pen, listen: &Endpoint) -> std::io::Result<()> {
    use crate::config::model::Transport;
    use socket2::{Domain, Socket, Type};
    let Endpoint::Inet(address) = listen else { return Ok(()) };
    if pen.dsr_if.is_some() {
        return Ok(());
    }
    let kind = match pen.transport {
        Transport::Tcp => Type::STREAM,
        Transport::Udp => Type::DGRAM,
    };
    let socket = Socket::new(Domain::for_address(*address), kind, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&(*address).into())
}
