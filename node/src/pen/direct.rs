//! Direct server return and the tarpit, as `dsr_if` and `tarpit_acl` ask for them.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Pen;
use super::service::file_name;
use crate::balance::acl::AccessList;
use crate::balance::geo::Countries;
use crate::config::model::{Acl, Algorithm, Endpoint, Place, Server, Service, Transport};
use crate::config::{DEFAULT_IDLE_TIMEOUT, DEFAULT_UDP_IDLE_TIMEOUT};
use crate::plan::ServicePlan;
use crate::proxy::dsr::{self, Clock, Dsr, Pit, Settings};

/// The port of servers in a file when all ports are passed on; only a health check would ask it.
const ANY_PORT: u16 = 80;

/// The running service. It needs no listener of the balancer's.
pub(super) struct Direct {
    dsr: Dsr,
}

impl Direct {
    /// Starts on this interface, for the listening address.
    pub(super) fn start(
        pen: &Pen,
        interface: &str,
        service: &Arc<ServicePlan>,
        clock: Clock,
    ) -> Result<Self, String> {
        let Some(Endpoint::Inet(SocketAddr::V4(at))) = &pen.listen else {
            return Err(
                "direct server return needs an IPv4 address to listen on, with or without a port".into()
            );
        };
        let settings = Settings {
            interface: interface.to_owned(),
            address: *at.ip(),
            port: (at.port() > 0).then_some(at.port()),
            transport: pen.transport,
            with_port: pen.rules.round_robin,
            // Commands may ask for it at any time.
            tarpit: true,
        };
        let dsr = dsr::start(settings, Arc::clone(service), clock)
            .map_err(|error| format!("dsr_if {interface}: {error}"))?;
        Ok(Self { dsr })
    }

    /// Takes over what commands have changed.
    pub(super) fn update(&self, pen: &Pen, service: &Arc<ServicePlan>, countries: Option<&Arc<Countries>>) {
        let entries = pen.tarpit_acl.and_then(|list| pen.acls.get(list));
        let list = entries.map(|entries| {
            let acl = Acl { name: String::new(), entries: entries.clone() };
            Arc::new(AccessList::new(&acl, countries)) as Pit
        });
        self.dsr.set_tarpit(list);
        self.dsr.serve(Arc::clone(service));
    }
}

/// The service as a file of this house says it. `None`: there is no direct server return, or none that could be.
pub(super) fn translated(pen: &Pen, service: &Service) -> Option<Service> {
    let (Some(interface), Some(Endpoint::Inet(SocketAddr::V4(at)))) = (&pen.dsr_if, &pen.listen) else {
        return None;
    };
    let port = (at.port() > 0).then_some(at.port());
    let tarpit = pen.tarpit_acl.filter(|list| pen.acls.get(*list).is_some_and(|entries| !entries.is_empty()));
    let servers = service.servers.iter().filter_map(|server| {
        let Endpoint::Inet(SocketAddr::V4(address)) = server.address else { return None };
        // Frames are not changed: the port that clients ask is the server's.
        let address = SocketAddr::new((*address.ip()).into(), port.unwrap_or(ANY_PORT));
        Some(Server { weight: server.weight.max(1), ..Server::new(&server.name, address) })
    });
    Some(Service {
        transport: service.transport,
        algorithm: Algorithm::SourceHash { with_port: pen.rules.round_robin },
        blacklist: service.blacklist,
        source: service.source,
        dsr: Some(crate::config::model::Direct {
            address: *at.ip(),
            port,
            place: Place::Interface(interface.clone()),
            tarpit: tarpit.map(|list| file_name("list", &list.to_string())),
        }),
        servers: servers.collect(),
        idle_timeout: Some(match service.transport {
            Transport::Tcp => DEFAULT_IDLE_TIMEOUT,
            Transport::Udp => DEFAULT_UDP_IDLE_TIMEOUT,
        }),
        ..Service::new(&service.name)
    })
}
