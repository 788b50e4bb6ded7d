//! What the API asks of the node behind it.

use std::future::Future;
use std::sync::Arc;

use cygnet_ha::vip::VipView;

use super::status::Facts;
use super::types::{
    ApiError, Applied, ApplyConfig, Clients, ClientsQuery, ClusterEvents, ConfigVersion, Drains, Events,
    EventsQuery, MemberChange, MemberChanged, Members, NewToken, PeerCheck, RecoveryOutlook, ServerView,
    SetNode, SetServer, SwitchOver, SwitchedOver, TokenMade, Upgrade, Upgraded,
};
use crate::config::model::NodeConfig;

/// The node, as the API sees it. Implementations write plain `async fn`s.
///
/// No method may wait without a bound; the router adds its own ([`super::REQUEST_TIME_MAX`]) all the same.
pub trait NodeApi: Send + Sync + 'static {
    /// What is known now; the verdict is made from it.
    fn facts(&self) -> impl Future<Output = Result<Facts, ApiError>> + Send;

    /// The virtual addresses as seen from here.
    fn vips(&self) -> impl Future<Output = Result<Vec<VipView>, ApiError>> + Send;

    /// This node's own file, against which a cluster configuration is checked.
    fn node_config(&self) -> Arc<NodeConfig>;

    /// A version of the cluster's configuration; `None`: the one that is committed last. Version 0 is the empty one
    /// before the first. A version that is not kept is [`super::types::ErrorCode::NotFound`].
    fn config(&self, version: Option<u64>) -> impl Future<Output = Result<ConfigVersion, ApiError>> + Send;

    /// The versions that are kept, newest first.
    fn history(&self) -> impl Future<Output = Result<Vec<ConfigVersion>, ApiError>> + Send;

    /// Asks all nodes whether they could run this text.
    fn preflight(&self, text: &str) -> impl Future<Output = Result<Vec<PeerCheck>, ApiError>> + Send;

    /// Commits a configuration that has passed the checks here and on the peers, and waits a bounded time until
    /// this node runs it. Another running version than `if_version` is [`super::types::ErrorCode::Refused`].
    fn apply(&self, change: ApplyConfig) -> impl Future<Output = Result<Applied, ApiError>> + Send;

    /// Confirms the version that waits for it. Another one, or none, is [`super::types::ErrorCode::Refused`]. The version.
    fn confirm_config(
        &self,
        version: u64,
        author: &str,
    ) -> impl Future<Output = Result<u64, ApiError>> + Send;

    /// Brings back what was there before `version`, which waits for its confirmation, and waits a bounded time until this
    /// node runs it.
    fn return_config(
        &self,
        version: u64,
        author: &str,
        comment: &str,
    ) -> impl Future<Output = Result<Applied, ApiError>> + Send;

    /// Hands over to a new program on this node; if that one does not come up, nothing has changed
    /// ([`super::types::ErrorCode::Refused`]).
    fn upgrade(&self, wish: Upgrade) -> impl Future<Output = Result<Upgraded, ApiError>> + Send;

    /// The servers of all services, in the order of the configuration.
    fn servers(&self) -> impl Future<Output = Result<Vec<ServerView>, ApiError>> + Send;

    /// Commits the operator's wish for a server. The router has checked that it exists.
    fn set_server(&self, change: SetServer) -> impl Future<Output = Result<(), ApiError>> + Send;

    /// The members of the cluster.
    fn members(&self) -> impl Future<Output = Result<Members, ApiError>> + Send;

    /// Removes or promotes a member, moves leadership, or recovers the cluster. The router has checked the author.
    fn change_members(
        &self,
        change: MemberChange,
    ) -> impl Future<Output = Result<MemberChanged, ApiError>> + Send;

    /// Makes a token that lets one node in, once.
    fn create_token(&self, new: NewToken) -> impl Future<Output = Result<TokenMade, ApiError>> + Send;

    /// What a recovery would lose.
    fn recovery(&self) -> impl Future<Output = Result<RecoveryOutlook, ApiError>> + Send;

    /// Notes the operator's wish for this node, across restarts, and waits a bounded time until the elections know it. The
    /// router has checked what follows from it. True if it was another one before.
    fn set_node(&self, change: SetNode) -> impl Future<Output = Result<bool, ApiError>> + Send;

    /// Moves addresses to another node and waits until that is done or has failed, which takes some seconds at most. The
    /// router has checked that the other node is no worse.
    fn switch_over(&self, wish: SwitchOver) -> impl Future<Output = Result<SwitchedOver, ApiError>> + Send;

    /// The connections that go on through this node although their address was moved, at most `limit` one by one.
    fn drains(&self, limit: usize) -> impl Future<Output = Result<Drains, ApiError>> + Send;

    /// One page of remembered clients; `limit` is given and within bounds.
    fn clients(&self, query: ClientsQuery) -> impl Future<Output = Result<Clients, ApiError>> + Send;

    /// The events after `query.after`; `limit` is given and within bounds.
    fn events(&self, query: EventsQuery) -> impl Future<Output = Result<Events, ApiError>> + Send;

    /// The same of all nodes, by the memory that they share; `query.after` is a number there.
    fn cluster_events(
        &self,
        query: EventsQuery,
    ) -> impl Future<Output = Result<ClusterEvents, ApiError>> + Send;
}
