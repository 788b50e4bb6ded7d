//! From the configuration to a plan, and what outlives plans.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::files::{self, Fault, Files, Refreshed};
use super::lists::Lists;
use super::routes::Routes;
use super::{
    Admin, DirectPlan, ListenAt, Plan, ServerPlan, ServerState, ServicePlan, ServiceState, Start, Sticky,
};
use crate::balance::geo::Countries;
use crate::balance::{ClientTable, Schedule, hash_of_name};
use crate::config::model::{ClusterConfig, Endpoint, Server, Service};
use crate::proxy::http::HttpPlan;
use crate::proxy::observer::Observer;
use crate::proxy::tls::ContextError;

/// The answer to: from which address does this node connect to this server?
pub type SourceOf<'a> = dyn Fn(&Service, &Server) -> Result<Start, String> + 'a;
/// The answer to: what does the operator want of this server (service, server)?
pub type AdminOf<'a> = dyn Fn(&str, &str) -> Admin + 'a;

/// Makes plans, and keeps what must outlive them.
#[derive(Debug)]
pub struct Registry {
    shards: usize,
    generation: AtomicU64,
    observer: Option<Arc<dyn Observer>>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    services: HashMap<Arc<str>, Arc<ServiceState>>,
    servers: HashMap<(Arc<str>, Arc<str>, Endpoint), Arc<ServerState>>,
    countries: Option<Arc<Countries>>,
    files: Files,
    /// What the plan that is being made cannot have.
    faults: Vec<Fault>,
}

/// What a plan is made from, beside the configuration.
struct Inputs<'a> {
    clients: &'a ClientTable,
    lists: Lists<'a>,
    admin: &'a AdminOf<'a>,
    source: &'a SourceOf<'a>,
}

impl Registry {
    /// `workers`: how many threads will count; each gets its own cache lines.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let shards = workers.max(1);
        Self { shards, generation: AtomicU64::new(0), observer: None, kept: Mutex::default() }
    }

    /// The same, with somebody who sees what passes through the services of all plans.
    #[must_use]
    pub fn observed_by(self, observer: Arc<dyn Observer>) -> Self {
        Self { observer: Some(observer), ..self }
    }

    /// From the next plan on, the countries in access lists are looked up in this database. Without one they fit nobody.
    pub fn use_countries(&self, countries: Option<Arc<Countries>>) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).countries = countries;
    }

    /// The database that is in use.
    #[must_use]
    pub fn countries(&self) -> Option<Arc<Countries>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).countries.clone()
    }

    /// Looks whether certificates and OCSP responses have changed, and reads those that have: connections from now on have
    /// them. For a slow thread, every few seconds; blocks on files.
    #[must_use]
    pub fn refresh_files(&self) -> Refreshed {
        let contexts = self.kept.lock().unwrap_or_else(PoisonError::into_inner).files.contexts();
        files::refresh(contexts)
    }

    /// Seals new session tickets with a new key; the one before goes on opening its own. To be called every
    /// [`TICKET_ROTATION`](crate::proxy::tls::TICKET_ROTATION).
    ///
    /// # Errors
    /// The library has no random numbers; the keys stay as they are.
    pub fn rotate_tickets(&self) -> Result<(), ContextError> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).files.rotate_tickets()
    }

    /// The plan of `config`. Counters, blacklistings and limits of a server go on when its service, name and address
    /// are the same as before; they are forgotten when a plan does not have it and its last connection has ended.
    ///
    /// Reads the files of TLS whose settings are new. What cannot be had is among the plan's faults: what was loaded for
    /// the service before serves on; a service that never had it does not listen.
    pub fn plan(
        &self,
        config: &ClusterConfig,
        clients: &ClientTable,
        admin: &AdminOf<'_>,
        source: &SourceOf<'_>,
    ) -> Plan {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let lists = Lists::new(&config.acls, kept.countries.as_ref());
        let inputs = Inputs { clients, lists, admin, source };
        let services = self.services(&mut kept, config, &inputs);
        kept.forget_the_unused();
        kept.files.forget_all_but(config);
        let listeners = services
            .iter()
            .filter(|service| service.may_listen)
            .flat_map(|service| service.addresses().map(|at: ListenAt| (at, Arc::clone(service))))
            .collect();
        let faults = std::mem::take(&mut kept.faults);
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        Plan { generation, services, listeners, faults }
    }

    /// Those to which others route first, so that these have where to route to: a route leads to no service that has
    /// routes itself (the configuration sees to that), so two passes do.
    fn services(
        &self,
        kept: &mut Kept,
        config: &ClusterConfig,
        inputs: &Inputs<'_>,
    ) -> Vec<Arc<ServicePlan>> {
        let plain = |service: &&Service| service.routes.is_empty();
        let mut made: HashMap<&str, Arc<ServicePlan>> = HashMap::new();
        for service in config.services.iter().filter(plain) {
            made.insert(&service.name, Arc::new(self.service(kept, service, None, inputs)));
        }
        for service in config.services.iter().filter(|service| !plain(service)) {
            let routes = Routes::new(&service.routes, |name| made.get(name).cloned());
            made.insert(&service.name, Arc::new(self.service(kept, service, Some(routes), inputs)));
        }
        config.services.iter().filter_map(|service| made.get(service.name.as_str()).cloned()).collect()
    }

    fn service(
        &self,
        kept: &mut Kept,
        service: &Service,
        routes: Option<Routes>,
        inputs: &Inputs<'_>,
    ) -> ServicePlan {
        let name: Arc<str> = Arc::from(service.name.as_str());
        let state = kept.services.entry(Arc::clone(&name)).or_insert_with(|| ServiceState::new(self.shards));
        let state = Arc::clone(state);
        let Kept { files, faults, .. } = kept;
        let tls = files.of_service(service, faults);
        let regular = service.servers.len();
        let emergency = service.emergency.as_ref().map(|_| regular);
        let abuse = service.abuse.as_ref().map(|_| regular + usize::from(emergency.is_some()));
        let all = service.servers.iter().chain(&service.emergency).chain(&service.abuse);
        let servers: Vec<_> = all.map(|server| self.server(kept, &name, service, server, inputs)).collect();
        ServicePlan {
            id: inputs.clients.name(&name),
            transport: service.transport,
            listen: service.listen.clone(),
            algorithm: service.algorithm,
            sticky: service.sticky.map(Sticky::from),
            stubborn: service.stubborn,
            clients: inputs.lists.named(service.clients.as_ref()),
            connect_timeout: service.connect_timeout,
            blacklist: service.blacklist,
            idle_timeout: service.idle_timeout,
            fast_close: service.fast_close,
            keepalive: service.keepalive,
            transparent: service.transparent,
            dummy: service.dummy,
            idlers: service.idlers,
            check: service.check.clone().map(Arc::new),
            direct: service.dsr.as_ref().map(|settings| DirectPlan {
                settings: settings.clone(),
                tarpit: inputs.lists.named(settings.tarpit.as_ref()),
            }),
            http: service.http.as_ref().map(|http| Arc::new(HttpPlan::new(http))),
            may_listen: !matches!(tls, Some(Err(_))),
            tls,
            observer: self.observer.clone(),
            routes,
            schedule: Schedule::new(servers[..regular].iter().map(|server| server.weight)),
            name,
            servers,
            regular,
            emergency,
            abuse,
            state,
        }
    }

    fn server(
        &self,
        kept: &mut Kept,
        name: &Arc<str>,
        service: &Service,
        server: &Server,
        inputs: &Inputs<'_>,
    ) -> ServerPlan {
        let key = (Arc::clone(name), Arc::from(server.name.as_str()), server.address.clone());
        let state = kept.servers.entry(key).or_insert_with(|| ServerState::new(self.shards));
        let tls = kept.files.of_server(service, server, &mut kept.faults);
        ServerPlan {
            name: Arc::from(server.name.as_str()),
            id: inputs.clients.name(&server.name),
            address: server.address.clone(),
            weight: server.weight,
            priority: server.priority,
            max: server.max,
            hard: server.hard,
            acl: inputs.lists.named(server.acl.as_ref()),
            hash: hash_of_name(&server.name),
            admin: (inputs.admin)(&service.name, &server.name),
            // A server that cannot be spoken to rightly is one without a source: nobody goes there.
            source: match &tls {
                Some(Err(reason)) => Err(Arc::clone(reason)),
                _ => (inputs.source)(service, server).map_err(Arc::from),
            },
            check_port: server.check_port,
            tls,
            state: Arc::clone(state),
        }
    }
}

impl Kept {
    /// Whatever is held by nobody else has neither a plan nor a connection.
    fn forget_the_unused(&mut self) {
        self.servers.retain(|_, state| Arc::strong_count(state) > 1);
        self.services.retain(|_, state| Arc::strong_count(state) > 1);
    }

    /// Servers and services that are kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.servers.len() + self.services.len()
    }
}

#[cfg(test)]
impl Registry {
    /// Servers and services that are kept.
    pub(super) fn kept(&self) -> usize {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
