//! The node behind the API.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cygnet_ha::consensus::ProposeError;
use cygnet_ha::events::Severity;
use cygnet_ha::state::{Admin as LogAdmin, PutConfig, ReturnConfig, Version};
use cygnet_ha::vip::VipView;
use cygnet_ha::vip::driver::HandOver;

use super::facts;
use super::left;
use super::maintenance::Drained;
use super::membership;
use super::memory;
use super::node::Node;
use super::preflight::preflight;
use super::replica::Replicated;
use super::running;
use super::upgrade;
use crate::balance::ClientEntry;
use crate::config::model::NodeConfig;
use crate::control::status::{DRAINED, Facts};
use crate::control::types::{
    Admin, ApiError, Applied, ApplyConfig, CLIENTS_PAGE_MAX, ClientView, Clients, ClientsQuery,
    ClusterEvents, ConfigEntry, ConfigVersion, Drains, EVENTS_PAGE_MAX, ErrorCode, Events, EventsQuery,
    MemberChange, MemberChanged, Members, NewToken, PeerCheck, RecoveryOutlook, ServerView, SetNode,
    SetServer, SwitchOver, SwitchedOver, TokenMade, Upgrade, Upgraded,
};
use crate::control::{NodeApi, nodes};
use crate::proxy::{ServerStats, ServiceStats};

/// How long a change waits until this node runs what was committed. It normally takes milliseconds.
const RUN_PATIENCE: Duration = Duration::from_secs(5);

/// [`NodeApi`] over a running node.
pub(crate) struct Api(pub(crate) Arc<Node>);

impl NodeApi for Api {
    async fn facts(&self) -> Result<Facts, ApiError> {
        Ok(facts::facts(&self.0))
    }

    async fn vips(&self) -> Result<Vec<VipView>, ApiError> {
        let vips = self.0.vips.as_ref().ok_or_else(on_a_witness)?;
        Ok(vips.views().borrow().to_vec())
    }

    fn node_config(&self) -> Arc<NodeConfig> {
        Arc::clone(&self.0.config)
    }

    async fn config(&self, version: Option<u64>) -> Result<ConfigVersion, ApiError> {
        let replicated = self.0.replicated.borrow().clone();
        let configuration = &replicated.configuration;
        let wanted = version.unwrap_or_else(|| configuration.version());
        if wanted == 0 {
            return Ok(ConfigVersion::default());
        }
        let Some(found) = configuration.get(wanted) else {
            let error = format!("configuration v{wanted} is not kept");
            return Err(ApiError::new(ErrorCode::NotFound, error, "see `cygnet config history`"));
        };
        Ok(version_view(found))
    }

    async fn history(&self) -> Result<Vec<ConfigVersion>, ApiError> {
        Ok(self.0.replicated.borrow().configuration.history().rev().map(version_view).collect())
    }

    async fn preflight(&self, text: &str) -> Result<Vec<PeerCheck>, ApiError> {
        let mut answers: HashMap<_, _> = self.0.log.preflight(text).await.into_iter().collect();
        let own = self.own_objection(text).await;
        let members = self.0.log.status().members;
        let others = members.iter().filter(|member| member.name != self.0.config.name);
        let check = |node: String| match answers.remove(&node) {
            Some(answer) => PeerCheck { node, reached: true, objection: answer.err() },
            None => PeerCheck { node, reached: false, objection: None },
        };
        let others = others.map(|member| member.name.clone()).map(check);
        Ok(own.into_iter().chain(others).collect())
    }

    async fn apply(&self, change: ApplyConfig) -> Result<Applied, ApiError> {
        let put = PutConfig {
            text: change.text,
            author: change.author,
            unix_ms: unix_ms(),
            comment: change.comment,
            if_version: change.if_version,
            confirm_within_ms: change.confirm_within_ms,
        };
        let committed = self.0.log.put_config(put).await.map_err(refused)?;
        Ok(self.applied(committed.version).await)
    }

    async fn confirm_config(&self, version: u64, author: &str) -> Result<u64, ApiError> {
        let committed = self.0.log.confirm_config(version, author).await.map_err(refused)?;
        Ok(committed.version)
    }

    async fn return_config(&self, version: u64, author: &str, comment: &str) -> Result<Applied, ApiError> {
        let (author, comment) = (author.to_owned(), comment.to_owned());
        let back = ReturnConfig { version, author, unix_ms: unix_ms(), comment };
        let committed = self.0.log.return_config(back).await.map_err(refused)?;
        Ok(self.applied(committed.version).await)
    }

    async fn servers(&self) -> Result<Vec<ServerView>, ApiError> {
        let traffic = self.0.traffic.as_ref().ok_or_else(on_a_witness)?;
        let stats = traffic.workers.stats();
        let others = if self.0.health.is_busy() { facts::others(&self.0) } else { Vec::new() };
        let of_service = |service: &ServiceStats| {
            let view = |server: &ServerStats| ServerView {
                check: facts::check_view(&self.0, &others, &service.name, &server.name),
                ..server_view(service, server)
            };
            service.servers.iter().map(view).collect::<Vec<_>>()
        };
        Ok(stats.services.iter().flat_map(of_service).collect())
    }

    async fn set_server(&self, change: SetServer) -> Result<(), ApiError> {
        let admin = match change.admin {
            Admin::Ready => LogAdmin::Ready,
            Admin::Drain => LogAdmin::Drain,
        };
        self.0.log.set_server(&change.service, &change.server, admin).await.map_err(refused)?;
        self.taken(|made_from| made_from.servers.get(&change.service, &change.server) == admin).await;
        Ok(())
    }

    async fn set_node(&self, change: SetNode) -> Result<bool, ApiError> {
        self.not_during_an_upgrade()?;
        let drains = change.admin == Admin::Drain;
        if let (true, Some(vips)) = (drains, &self.0.vips) {
            // What can be handed over loses nothing; the rest resigns.
            vips.hand_over(HandOver::default()).await;
        }
        let wish = drains.then(|| Drained { author: change.author.clone(), comment: change.comment.clone() });
        let node = Arc::clone(&self.0);
        let set = tokio::task::spawn_blocking(move || node.maintenance.set(wish)).await;
        let changed = set.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(|error| {
            let what = format!("cannot write the wish to {}: {error}", self.0.config.state_dir.display());
            ApiError::new(ErrorCode::Error, what, "nothing was changed; see to the disk")
        })?;
        if changed {
            let what = if drains { "drained: gives up its addresses" } else { "made ready again" };
            let why = match change.comment.as_str() {
                "" => format!("by {}", change.author),
                comment => format!("by {}: {comment}", change.author),
            };
            self.0.events.record(Severity::Info, "node", what, why);
        }
        let mut running = self.0.running.clone();
        let known = |running: &Arc<running::Running>| running.ready_reason.starts_with(DRAINED) == drains;
        let _ = tokio::time::timeout(RUN_PATIENCE, running.wait_for(known)).await;
        Ok(changed)
    }

    async fn switch_over(&self, wish: SwitchOver) -> Result<SwitchedOver, ApiError> {
        self.not_during_an_upgrade()?;
        let vips = self.0.vips.as_ref().ok_or_else(on_a_witness)?;
        let node = self.0.config.name.clone();
        let connections = facts::report(&self.0).connections;
        let SwitchOver { to, vips: names, dry_run, author, .. } = wish;
        if !dry_run {
            let to = to.as_deref().unwrap_or("the best standby");
            self.0.events.record(
                Severity::Info,
                "node",
                format!("asked to switch over to {to}"),
                format!("by {author}"),
            );
        }
        let reply = vips.hand_over(HandOver { vips: names, to, dry_run }).await;
        Ok(SwitchedOver { node, connections, moved: reply.moved, refused: reply.refused })
    }

    async fn upgrade(&self, wish: Upgrade) -> Result<Upgraded, ApiError> {
        // Not given up when whoever asked goes away.
        let work = tokio::spawn(upgrade::upgrade(Arc::clone(&self.0), wish));
        work.await.unwrap_or_else(|error| Err(ApiError::new(ErrorCode::Error, error.to_string(), "")))
    }

    async fn drains(&self, limit: usize) -> Result<Drains, ApiError> {
        let vips = self.0.vips.as_ref().ok_or_else(on_a_witness)?;
        Ok(left::drains(&self.0, vips, limit).await)
    }

    async fn clients(&self, query: ClientsQuery) -> Result<Clients, ApiError> {
        let traffic = self.0.traffic.as_ref().ok_or_else(on_a_witness)?;
        let limit = query.limit.unwrap_or(CLIENTS_PAGE_MAX).clamp(1, CLIENTS_PAGE_MAX);
        let mut page = Page::new(limit, query.after);
        traffic.clients.for_each(|entry| {
            if query.service.as_deref().is_none_or(|service| *service == *entry.service) {
                page.offer(entry);
            }
        });
        Ok(page.finish())
    }

    async fn members(&self) -> Result<Members, ApiError> {
        Ok(membership::members(&self.0.log.status()))
    }

    async fn change_members(&self, change: MemberChange) -> Result<MemberChanged, ApiError> {
        membership::change(&self.0.log, &self.0.events, change).await
    }

    async fn create_token(&self, new: NewToken) -> Result<TokenMade, ApiError> {
        membership::create_token(&self.0.log, &self.0.events, new).await
    }

    async fn recovery(&self) -> Result<RecoveryOutlook, ApiError> {
        Ok(self.0.log.recovery_outlook())
    }

    async fn events(&self, query: EventsQuery) -> Result<Events, ApiError> {
        let EventsQuery { after, limit } = query;
        let events = self.0.events.next(after, limit.unwrap_or(EVENTS_PAGE_MAX));
        Ok(Events { node: self.0.config.name.clone(), events, last: self.0.events.last() })
    }

    async fn cluster_events(&self, query: EventsQuery) -> Result<ClusterEvents, ApiError> {
        Ok(memory::page(&self.0, &query))
    }
}

impl Api {
    /// What is moved meanwhile would be moved by a process that holds it no more.
    fn not_during_an_upgrade(&self) -> Result<(), ApiError> {
        let refused =
            || ApiError::new(ErrorCode::Refused, "a new program is taking over", "try again in a moment");
        if self.0.upgrade.is_busy() { Err(refused()) } else { Ok(()) }
    }

    /// What this node itself has against a configuration, if anything: its files are looked at too.
    async fn own_objection(&self, text: &str) -> Option<PeerCheck> {
        let (config, text) = (Arc::clone(&self.0.config), text.to_owned());
        let cluster = Arc::clone(&self.0.running.borrow().cluster);
        let looked = tokio::task::spawn_blocking(move || preflight(&config, &cluster, &text)).await;
        let objection = looked.unwrap_or_else(|error| Err(error.to_string())).err()?;
        Some(PeerCheck { node: self.0.config.name.clone(), reached: true, objection: Some(objection) })
    }

    /// Waits until this node has taken up what was committed. When that takes longer than it may, `status` says which
    /// version runs.
    async fn taken(&self, up: impl Fn(&Replicated) -> bool) {
        let mut running = self.0.running.clone();
        let _ = tokio::time::timeout(RUN_PATIENCE, running.wait_for(|running| up(&running.made_from))).await;
    }

    /// The answer to a change that was committed, once this node runs it or has had its time.
    async fn applied(&self, version: u64) -> Applied {
        self.taken(|made_from| made_from.version() >= version).await;
        let facts = facts::facts(&self.0);
        let confirmation = facts.config.confirmation;
        Applied { version, changed: true, nodes: nodes(&facts), unasked: Vec::new(), confirmation }
    }
}

/// The smallest `limit` clients after a mark, gathered in one pass over the table in bounded memory.
struct Page {
    limit: usize,
    after: Option<String>,
    kept: BTreeMap<String, ClientView>,
    more: bool,
    total: u64,
    now: u64,
}

impl Page {
    fn new(limit: usize, after: Option<String>) -> Self {
        Self { limit, after, kept: BTreeMap::new(), more: false, total: 0, now: unix_ms() }
    }

    fn offer(&mut self, entry: ClientEntry) {
        self.total += 1;
        let mark = format!("{}/{}", entry.service, entry.client);
        let beyond = || self.kept.last_key_value().is_some_and(|(last, _)| mark > *last);
        if self.after.as_ref().is_some_and(|after| mark <= *after) {
            return;
        }
        if self.kept.len() == self.limit {
            self.more = true;
            if beyond() {
                return;
            }
            self.kept.pop_last();
        }
        let view = ClientView {
            client: entry.client,
            service: entry.service.to_string(),
            server: entry.server.to_string(),
            age_ms: self.now.saturating_sub(u64::from(entry.seen) * 1000),
        };
        self.kept.insert(mark, view);
    }

    fn finish(self) -> Clients {
        let next = self.more.then(|| self.kept.last_key_value().map(|(mark, _)| mark.clone())).flatten();
        Clients { clients: self.kept.into_values().collect(), next, total: self.total }
    }
}

fn server_view(service: &ServiceStats, server: &ServerStats) -> ServerView {
    ServerView {
        service: service.name.clone(),
        name: server.name.clone(),
        address: server.address.clone(),
        weight: server.weight,
        max: server.max,
        admin: if server.drained { Admin::Drain } else { Admin::Ready },
        blacklisted_ms: server.blacklisted_ms,
        source: server.source,
        source_problem: server.source_missing.clone(),
        connections: u64::from(server.connections),
        total: server.connected,
        failed: server.failed,
        check: None,
    }
}

fn version_view(version: &Version) -> ConfigVersion {
    let entry = ConfigEntry {
        version: version.version,
        author: version.author.clone(),
        unix_ms: version.unix_ms,
        comment: version.comment.clone(),
        change: None,
    };
    ConfigVersion { entry, text: version.text.to_string() }
}

fn on_a_witness() -> ApiError {
    ApiError::new(
        ErrorCode::NotFound,
        "this node is a witness and carries no traffic",
        "ask one of the balancers",
    )
}

/// A proposal that came to nothing, in the API's words.
pub(super) fn refused(error: ProposeError) -> ApiError {
    let code = match &error {
        ProposeError::NoQuorum { .. } => ErrorCode::NoQuorum,
        ProposeError::Refused(_)
        | ProposeError::TooOld { .. }
        | ProposeError::Insecure
        | ProposeError::OwnTicketKeys(_)
        | ProposeError::WouldLoseQuorum { .. }
        | ProposeError::NotCaughtUp { .. }
        | ProposeError::NothingToRecover => ErrorCode::Refused,
        ProposeError::Timeout { .. } => ErrorCode::TimedOut,
        ProposeError::Invalid(_) => ErrorCode::Invalid,
        ProposeError::Busy | ProposeError::Stopped(_) => ErrorCode::Error,
    };
    // What the log says ends with the remedy, after the first semicolon.
    let text = error.to_string();
    let (error, remedy) = text.split_once("; ").unwrap_or((&text, ""));
    ApiError::new(code, error, remedy)
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, facts::millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(limit: usize, after: Option<&str>) -> Clients {
        let mut page = Page::new(limit, after.map(str::to_owned));
        for last in [5, 3, 9, 1, 7] {
            let client = std::net::Ipv4Addr::new(10, 0, 0, last).into();
            page.offer(ClientEntry { service: "web".into(), client, server: "s1".into(), seen: 0 });
        }
        page.finish()
    }

    #[test]
    fn pages_of_clients_together_show_each_client_once() {
        let (mut seen, mut after) = (Vec::new(), None);
        for _ in 0..10 {
            let part = page(2, after.as_deref());
            assert!(part.clients.len() <= 2);
            assert_eq!(part.total, 5);
            seen.extend(part.clients.into_iter().map(|client| client.client));
            after = part.next;
            if after.is_none() {
                break;
            }
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 5);
        assert!(after.is_none());
    }
}
