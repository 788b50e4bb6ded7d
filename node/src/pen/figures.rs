//! The figures of the running balancer, as the pure half asks for them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use cygnet_ha::time::Time;

use super::accounts::Account;
use super::clock;
use super::observe::Watch;
use super::{ClientFigures, ConnectionFigures, Facts, ServerFigures, ServerId};
use crate::plan::{ServerPlan, ServicePlan};
use crate::proxy::{ConnectionInfo, Stage, Workers};

/// Nothing runs yet: commands of the command line and of the file, at the start.
#[derive(Debug)]
pub(super) struct Before;

impl Facts for Before {
    fn unix_time(&self) -> i64 {
        clock::unix()
    }

    fn local_time(&self) -> String {
        clock::local_time(clock::unix())
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn server(&self, _server: ServerId) -> ServerFigures {
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

/// The balancer at work.
#[derive(Clone, Copy)]
pub(super) struct Figures<'a> {
    pub(super) workers: &'a Workers,
    pub(super) watch: &'a Watch,
    /// Connections at most.
    pub(super) conn_max: usize,
    /// Data path threads.
    pub(super) threads: usize,
    /// A country database is in use.
    pub(super) has_countries: bool,
}

/// The one service of the plan in force.
pub(super) fn service(workers: &Workers) -> Option<Arc<ServicePlan>> {
    workers.plan().services.first().cloned()
}

/// A server by Pen's number.
pub(super) fn find(service: &ServicePlan, id: ServerId) -> Option<&ServerPlan> {
    let position = match id {
        ServerId::Regular(slot) => (slot < service.regular).then_some(slot),
        ServerId::Emergency => service.emergency,
        ServerId::Abuse => service.abuse,
    };
    service.servers.get(position?)
}

/// Pen's number of the server at a position.
fn id_at(service: &ServicePlan, position: usize) -> ServerId {
    match Some(position) {
        at if at == service.emergency => ServerId::Emergency,
        at if at == service.abuse => ServerId::Abuse,
        _ => ServerId::Regular(position),
    }
}

impl Figures<'_> {
    /// A moment of the workers' clock, given in its nanoseconds, as seconds since 1970.
    fn unix_of(&self, nanos: i64) -> i64 {
        let Time(now) = self.workers.now();
        let ago = i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(nanos) / 1_000_000_000;
        clock::unix().saturating_sub(ago)
    }
}

impl Facts for Figures<'_> {
    fn unix_time(&self) -> i64 {
        Before.unix_time()
    }

    fn local_time(&self) -> String {
        Before.local_time()
    }

    fn is_running(&self) -> bool {
        true
    }

    fn has_countries(&self) -> bool {
        self.has_countries
    }

    fn pid(&self) -> u32 {
        Before.pid()
    }

    fn server(&self, server: ServerId) -> ServerFigures {
        let Some(service) = service(self.workers) else { return ServerFigures::default() };
        let Some(server) = find(&service, server) else { return ServerFigures::default() };
        let state = &server.state;
        ServerFigures {
            connections: state.connections(),
            sent: state.sum(|shard| &shard.to_server),
            received: state.sum(|shard| &shard.to_client),
            blacklisted_at: state.blacklisted_at().map_or(0, |at| self.unix_of(at)),
        }
    }

    fn current_server(&self) -> ServerId {
        let service = service(self.workers);
        service.map_or(ServerId::Regular(0), |service| id_at(&service, service.state.current()))
    }

    fn clients(&self) -> Vec<ClientFigures> {
        let Some(service) = service(self.workers) else { return Vec::new() };
        // Accounts are settled when a connection ends; what runs now comes on top.
        let mut running: HashMap<IpAddr, (u64, u64)> = HashMap::new();
        for info in self.workers.connections(self.conn_max) {
            let (sent, received) = running.entry(info.peer.ip()).or_default();
            *sent += info.to_client;
            *received += info.from_client;
        }
        let figures = |(slot, account): (usize, Account)| {
            let (sent, received) = running.get(&account.address).copied().unwrap_or_default();
            ClientFigures {
                slot,
                address: account.address,
                last_used: account.last_used,
                server: id_at(&service, account.server.unwrap_or(0)),
                connects: account.connects,
                sent: account.sent + sent,
                received: account.received + received,
            }
        };
        self.watch.accounts.all().into_iter().enumerate().map(figures).collect()
    }

    fn connections(&self) -> Vec<ConnectionFigures> {
        let Some(service) = service(self.workers) else { return Vec::new() };
        let accounts = self.watch.accounts.all().into_iter().enumerate();
        let slots: HashMap<IpAddr, usize> = accounts.map(|(slot, account)| (account.address, slot)).collect();
        let figures = |info: ConnectionInfo| ConnectionFigures {
            number: number_of(info.id, self.threads),
            state: state_of(info.stage),
            client_fd: info.client_fd,
            server_fd: info.server_fd.unwrap_or(-1),
            pending_down: info.pending_down,
            pending_up: info.pending_up,
            pending: i32::from(info.stage == Stage::Dialling),
            client: slots.get(&info.peer.ip()).map_or(-1, |slot| i64::try_from(*slot).unwrap_or(-1)),
            server: info.server.map(|position| id_at(&service, position)),
        };
        let mut all: Vec<_> = self.workers.connections(self.conn_max).into_iter().map(figures).collect();
        all.sort_unstable_by_key(|connection| connection.number);
        all
    }

    /// The highest number in use: which one was given last is not kept.
    fn newest_connection(&self) -> usize {
        self.connections().last().map_or(0, |newest| newest.number)
    }

    fn idlers(&self) -> u32 {
        u32::try_from(self.workers.idlers()).unwrap_or(u32::MAX)
    }
}

/// Pen's number of a connection: its place in the table, and with several workers their tables in turn.
fn number_of(id: u64, threads: usize) -> usize {
    let (worker, place) = ((id >> 32) as usize, (id & u64::from(u32::MAX)) as usize);
    place.saturating_mul(threads.max(1)).saturating_add(worker)
}

/// The connection of Pen's number: the way back.
pub(super) fn id_of(number: usize, threads: usize) -> u64 {
    let threads = threads.max(1);
    ((number % threads) as u64) << 32 | (number / threads) as u64
}

/// Pen's number of a stage: 1 while connecting, 2 when connected; 4 on top when the server's end has been passed on.
fn state_of(stage: Stage) -> i32 {
    match stage {
        Stage::New | Stage::Dialling | Stage::Securing => 1,
        Stage::Greeting | Stage::Relaying | Stage::Dummy => 2,
        Stage::Leaving => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_connection_leads_back_to_it() {
        for (id, threads, number) in [(7, 1, 7), (1 << 32 | 3, 2, 7), (3, 2, 6)] {
            assert_eq!((number_of(id, threads), id_of(number, threads)), (number, id));
        }
    }
}
