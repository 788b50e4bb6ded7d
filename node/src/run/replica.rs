//! The node's copy of what the cluster has agreed on, as the log hands it over.

use std::sync::Arc;

use cygnet_ha::consensus::{Applied, TicketSet};
use cygnet_ha::state::{Admin, ClientFact, Configuration, Servers, State};
use tokio::sync::watch;

use crate::balance::ClientTable;
use crate::plan;
use crate::proxy::tls::Tickets;

/// What is agreed on, at one moment. Cheap to share, replaced as a whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replicated {
    /// Configuration and history.
    pub(crate) configuration: Configuration,
    /// The operator's wishes per server.
    pub(crate) servers: Servers,
}

impl Replicated {
    /// The version that is committed last; 0 before the first.
    pub(crate) fn version(&self) -> u64 {
        self.configuration.version()
    }

    /// The text of that version; empty before the first.
    pub(crate) fn text(&self) -> Arc<str> {
        self.configuration.current().map_or_else(|| Arc::from(""), |current| Arc::clone(&current.text))
    }

    /// The operator's wish for one server, in the words of the data path.
    pub(crate) fn admin(&self, service: &str, server: &str) -> plan::Admin {
        match self.servers.get(service, server) {
            Admin::Ready => plan::Admin::Ready,
            Admin::Drain => plan::Admin::Drain,
        }
    }
}

/// Takes what is applied, on the log's own thread: it only swaps a pointer or fills slots, and never waits.
pub(crate) struct Replica {
    published: watch::Sender<Arc<Replicated>>,
    clients: Option<Arc<ClientTable>>,
    tickets: Option<Arc<Tickets>>,
}

impl Replica {
    /// The table of the data path, and its keys of session tickets; none on a witness.
    pub(crate) fn new(
        clients: Option<Arc<ClientTable>>,
        tickets: Option<Arc<Tickets>>,
    ) -> (Self, watch::Receiver<Arc<Replicated>>) {
        let (published, replicated) = watch::channel(Arc::default());
        (Self { published, clients, tickets }, replicated)
    }

    fn publish(&self, state: &State) {
        let replicated =
            Replicated { configuration: state.configuration().clone(), servers: state.servers().clone() };
        self.published.send_replace(Arc::new(replicated));
    }

    fn take_clients<'f>(&self, facts: impl Iterator<Item = &'f ClientFact>) {
        if let Some(table) = &self.clients {
            table.insert_remote(facts.map(|fact| (&*fact.service, fact.client, &*fact.server, fact.seen)));
        }
    }
}

impl Applied for Replica {
    fn config(&mut self, state: &State) {
        self.publish(state);
    }

    fn servers(&mut self, state: &State) {
        self.publish(state);
    }

    fn clients(&mut self, facts: &[ClientFact]) {
        self.take_clients(facts.iter());
    }

    fn tickets(&mut self, keys: &TicketSet) {
        if let Some(tickets) = &self.tickets {
            tickets.share(keys);
        }
    }

    fn restored(&mut self, state: &State) {
        self.publish(state);
        for fact in state.clients().iter() {
            self.take_clients(std::iter::once(&fact));
        }
    }
}
