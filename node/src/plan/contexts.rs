//! The TLS contexts of plans: read from their files once, and kept as long as a plan has them, so that a new plan neither
//! reads certificates again nor makes sessions impossible to resume.

use std::sync::Arc;

use crate::config::model::{TlsConnect, TlsListen};
use crate::proxy::tls::{ClientContext, ContextError, ServerContext, TicketKeys};

/// A context, or why there is none.
pub type Ready<T> = Result<T, Arc<str>>;

/// What is kept. Few, so they are found by looking.
#[derive(Debug, Default)]
pub(super) struct Contexts {
    tickets: Option<Arc<TicketKeys>>,
    servers: Vec<Kept<TlsListen, ServerContext>>,
    clients: Vec<Kept<TlsConnect, ClientContext>>,
    /// Names of certificate directories that could not be used, since somebody last asked.
    problems: Vec<ContextError>,
}

#[derive(Debug)]
struct Kept<From, To> {
    from: From,
    to: To,
    /// The plan that is being made has it.
    used: bool,
}

/// Not more of them are remembered: the rest will be named again by the next look at the files.
const PROBLEMS_MAX: usize = 100;

impl Contexts {
    /// Begins a new plan.
    pub(super) fn begin(&mut self) {
        self.servers.iter_mut().for_each(|kept| kept.used = false);
        self.clients.iter_mut().for_each(|kept| kept.used = false);
    }

    /// Forgets what the new plan does not have. Connections that use it go on.
    pub(super) fn forget_the_unused(&mut self) {
        self.servers.retain(|kept| kept.used);
        self.clients.retain(|kept| kept.used);
    }

    /// For clients that speak TLS. One that could not be made is tried again with the next plan.
    pub(super) fn server(&mut self, listen: &TlsListen) -> Ready<ServerContext> {
        if let Some(kept) = self.servers.iter_mut().find(|kept| kept.from == *listen) {
            kept.used = true;
            return Ok(kept.to.clone());
        }
        let tickets = self.tickets().map_err(|error| Arc::from(error.to_string()))?;
        let (context, problems) =
            ServerContext::new(listen, &tickets).map_err(|error| Arc::from(error.to_string()))?;
        let room = PROBLEMS_MAX.saturating_sub(self.problems.len());
        self.problems.extend(problems.into_iter().take(room));
        self.servers.push(Kept { from: listen.clone(), to: context.clone(), used: true });
        Ok(context)
    }

    /// For a server that speaks TLS.
    pub(super) fn client(&mut self, connect: &TlsConnect) -> Ready<ClientContext> {
        if let Some(kept) = self.clients.iter_mut().find(|kept| kept.from == *connect) {
            kept.used = true;
            return Ok(kept.to.clone());
        }
        let context = ClientContext::new(connect).map_err(|error| Arc::from(error.to_string()))?;
        self.clients.push(Kept { from: connect.clone(), to: context.clone(), used: true });
        Ok(context)
    }

    /// The keys of session tickets, one set for all services.
    pub(super) fn tickets(&mut self) -> Result<Arc<TicketKeys>, ContextError> {
        if let Some(tickets) = &self.tickets {
            return Ok(Arc::clone(tickets));
        }
        Ok(Arc::clone(self.tickets.insert(Arc::new(TicketKeys::random()?))))
    }

    /// The contexts whose files are to be looked at again and again.
    pub(super) fn servers(&self) -> Vec<ServerContext> {
        self.servers.iter().map(|kept| kept.to.clone()).collect()
    }

    /// Takes the problems.
    pub(super) fn problems(&mut self) -> Vec<ContextError> {
        std::mem::take(&mut self.problems)
    }
}
