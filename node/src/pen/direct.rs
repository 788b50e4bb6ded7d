//! Direct server return and the tarpit, as `dsr_if` and `tarpit_acl` ask for them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::Pen;
use crate::balance::Permits;
use crate::balance::acl::AccessList;
use crate::balance::geo::Countries;
use crate::config::model::{Acl, Endpoint};
use crate::plan::ServicePlan;
use crate::proxy::dsr::{self, Clock, Dsr, Settings};

/// The running service. It needs no listener of the balancer's.
pub(super) struct Direct {
    dsr: Dsr,
    /// Whom the tarpit is for; commands change it.
    pit: Arc<ArcSwapOption<AccessList>>,
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
        let pit = Arc::new(ArcSwapOption::<AccessList>::empty());
        let asked = Arc::clone(&pit);
        let is_in_the_pit =
            move |address| asked.load().as_ref().is_some_and(|list| list.permits(IpAddr::V4(address)));
        let settings = Settings {
            interface: interface.to_owned(),
            address: *at.ip(),
            port: (at.port() > 0).then_some(at.port()),
            transport: pen.transport,
            with_port: pen.rules.round_robin,
            tarpit: Some(Arc::new(is_in_the_pit)),
        };
        let dsr = dsr::start(settings, Arc::clone(service), clock)
            .map_err(|error| format!("dsr_if {interface}: {error}"))?;
        Ok(Self { dsr, pit })
    }

    /// Takes over what commands have changed.
    pub(super) fn update(&self, pen: &Pen, service: &Arc<ServicePlan>, countries: Option<&Arc<Countries>>) {
        let entries = pen.tarpit_acl.and_then(|list| pen.acls.get(list));
        let list = entries.map(|entries| {
            let acl = Acl { name: String::new(), entries: entries.clone() };
            Arc::new(AccessList::new(&acl, countries))
        });
        self.pit.store(list);
        self.dsr.serve(Arc::clone(service));
    }
}
