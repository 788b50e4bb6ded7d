//! What a plan needs from this node's own files: certificates, keys, authorities. Loaded once and used again by every
//! plan with the same settings; a plan never goes without what it is told to have.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::balance::acl::names_countries;
use crate::balance::geo::Countries;
use crate::config::model::{ClusterConfig, Server, Service, TlsConnect, TlsListen};
use crate::config::{CLUSTER_FILE, NODE_FILE, Problem};
use crate::proxy::tls::{ClientContext, ContextError, ServerContext, Tickets};

/// A context, or why there is none.
pub type Ready<T> = Result<T, Arc<str>>;

/// Something that a service needs and that could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The service.
    pub service: Arc<str>,
    /// The server, if it is about TLS towards one.
    pub server: Option<Arc<str>>,
    /// What is wrong, with the file, and what helps.
    pub text: String,
    /// What was loaded before goes on serving. Otherwise the service does not listen, or the server is not connected to.
    pub kept: bool,
}

/// What was loaded last, by service and by server.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) tickets: Option<Arc<Tickets>>,
    services: HashMap<String, (TlsListen, ServerContext)>,
    servers: HashMap<(String, String), (TlsConnect, ClientContext)>,
}

impl Files {
    /// TLS from the clients of a service, if it has any.
    pub(super) fn of_service(
        &mut self,
        service: &Service,
        faults: &mut Vec<Fault>,
    ) -> Option<Ready<ServerContext>> {
        let settings = service.tls.as_ref()?;
        let before = self.services.get(&service.name);
        if let Some((_, context)) = before.filter(|(same, _)| same == settings) {
            return Some(Ok(context.clone()));
        }
        let fault = |error: &ContextError, kept| fault(&service.name, None, error, kept);
        match self.load(settings) {
            Ok((context, problems)) => {
                faults.extend(problems.iter().map(|problem| fault(problem, true)));
                self.services.insert(service.name.clone(), (settings.clone(), context.clone()));
                Some(Ok(context))
            }
            Err(error) => {
                let before = self.services.get(&service.name).map(|(_, context)| context.clone());
                faults.push(fault(&error, before.is_some()));
                Some(before.ok_or_else(|| Arc::from(error.to_string())))
            }
        }
    }

    fn load(&mut self, settings: &TlsListen) -> Result<(ServerContext, Vec<ContextError>), ContextError> {
        let tickets = match &self.tickets {
            Some(tickets) => Arc::clone(tickets),
            None => Arc::clone(self.tickets.insert(Arc::new(Tickets::random()?))),
        };
        ServerContext::new(settings, tickets.keys())
    }

    /// TLS towards a server, if it speaks it.
    pub(super) fn of_server(
        &mut self,
        service: &Service,
        server: &Server,
        faults: &mut Vec<Fault>,
    ) -> Option<Ready<ClientContext>> {
        let settings = server.tls.as_ref()?;
        let key = (service.name.clone(), server.name.clone());
        let before = self.servers.get(&key);
        if let Some((_, context)) = before.filter(|(same, _)| same == settings) {
            return Some(Ok(context.clone()));
        }
        match ClientContext::new(settings) {
            Ok(context) => {
                self.servers.insert(key, (settings.clone(), context.clone()));
                Some(Ok(context))
            }
            Err(error) => {
                let before = before.map(|(_, context)| context.clone());
                faults.push(fault(&service.name, Some(&server.name), &error, before.is_some()));
                Some(before.ok_or_else(|| Arc::from(error.to_string())))
            }
        }
    }

    /// Forgets what this configuration does not have.
    pub(super) fn forget_all_but(&mut self, config: &ClusterConfig) {
        let service = |name: &str| config.services.iter().find(|service| service.name == name);
        self.services.retain(|name, _| service(name).is_some_and(|service| service.tls.is_some()));
        self.servers.retain(|(of, name), _| {
            let has = |server: &Server| server.name == *name && server.tls.is_some();
            service(of).is_some_and(|service| servers(service).any(has))
        });
    }

    /// What is to be looked at again now and then, to be done without the lock.
    pub(super) fn contexts(&self) -> Vec<(String, ServerContext)> {
        self.services.iter().map(|(name, (_, context))| (name.clone(), context.clone())).collect()
    }

    /// Replaces this node's own key of session tickets.
    pub(super) fn rotate_tickets(&self) -> Result<(), ContextError> {
        self.tickets.as_ref().map_or(Ok(()), |tickets| tickets.rotate_own())
    }
}

/// What a look at the files came to.
#[derive(Debug, Default)]
pub struct Refreshed {
    /// How many certificates and OCSP responses were read anew, and are in use from now on.
    pub changed: usize,
    /// What is wrong, each thing once.
    pub faults: Vec<Fault>,
}

/// Looks whether files have changed, and reads those that have. Blocks on them.
pub(super) fn refresh(contexts: Vec<(String, ServerContext)>) -> Refreshed {
    let mut all = Refreshed::default();
    for (name, context) in contexts {
        let found = context.refresh();
        all.changed += found.changed;
        all.faults.extend(found.problems.iter().map(|problem| fault(&name, None, problem, true)));
    }
    all
}

fn fault(service: &str, server: Option<&str>, error: &ContextError, kept: bool) -> Fault {
    Fault { service: service.into(), server: server.map(Arc::from), text: error.to_string(), kept }
}

fn servers(service: &Service) -> impl Iterator<Item = &Server> {
    service.servers.iter().chain(&service.emergency).chain(&service.abuse)
}

/// Whether this node has the files that a configuration needs: what is asked before it is applied. `countries`: the
/// node's database. Reads them, and forgets them again.
#[must_use]
pub fn check_files(config: &ClusterConfig, countries: Option<&Path>) -> Vec<Problem> {
    let mut problems = Vec::new();
    if config.acls.iter().any(names_countries)
        && let Some(error) = countries.and_then(|file| Countries::open(file, None).err())
    {
        let file = NODE_FILE.to_owned();
        let missing = problem("countries".to_owned(), error.what());
        problems.push(Problem { file, remedy: error.remedy().to_owned(), ..missing });
    }
    let mut files = Files::default();
    for service in &config.services {
        if let Some(error) = service.tls.as_ref().and_then(|settings| files.load(settings).err()) {
            problems.push(problem(format!("service[{}].tls", service.name), error.to_string()));
        }
        for server in servers(service) {
            let error = server.tls.as_ref().and_then(|settings| ClientContext::new(settings).err());
            if let Some(error) = error {
                let key = format!("service[{}].server[{}].tls", service.name, server.name);
                problems.push(problem(key, error.to_string()));
            }
        }
    }
    problems
}

fn problem(key: String, what: String) -> Problem {
    // What helps is within the text, after a colon.
    Problem { file: CLUSTER_FILE.to_owned(), line: 0, column: 0, key, what, remedy: String::new() }
}

#[cfg(test)]
mod tests;
