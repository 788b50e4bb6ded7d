//! Where TLS connections go by the name that the client asks for.

use std::collections::HashMap;
use std::sync::Arc;

use super::ServicePlan;
use crate::config::model::Route;

/// Names and the services behind them. Looking up a name takes the same time however many there are.
#[derive(Debug, Default)]
pub struct Routes {
    /// Whole names.
    exact: HashMap<Box<str>, Target>,
    /// `*.example.org` as `example.org`.
    below: HashMap<Box<str>, Target>,
}

#[derive(Debug)]
struct Target {
    /// The position among the routes: the first that fits counts.
    order: usize,
    service: Arc<ServicePlan>,
}

impl Routes {
    /// `service`: a service by its name. Routes to services that are not there are left out.
    pub(super) fn new(routes: &[Route], service: impl Fn(&str) -> Option<Arc<ServicePlan>>) -> Self {
        let mut all = Self::default();
        for (order, route) in routes.iter().enumerate() {
            let Some(service) = service(&route.service) else { continue };
            for name in &route.names {
                let name = name.to_ascii_lowercase();
                let (table, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut all.below, parent),
                    None => (&mut all.exact, name.as_str()),
                };
                let target = Target { order, service: Arc::clone(&service) };
                table.entry(Box::from(name)).or_insert(target);
            }
        }
        all
    }

    /// The service for a name, in whatever case; `None`: no route fits.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&Arc<ServicePlan>> {
        let lower = name.bytes().any(|byte| byte.is_ascii_uppercase()).then(|| name.to_ascii_lowercase());
        let name = lower.as_deref().unwrap_or(name);
        let name = name.strip_suffix('.').unwrap_or(name);
        let exact = self.exact.get(name);
        let below = name
            .split_once('.')
            .filter(|(label, _)| !label.is_empty())
            .and_then(|(_, parent)| self.below.get(parent));
        let first = match (exact, below) {
            (Some(exact), Some(below)) => {
                if below.order < exact.order {
                    below
                } else {
                    exact
                }
            }
            (one, other) => one.or(other)?,
        };
        Some(&first.service)
    }
}
