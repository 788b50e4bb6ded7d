//! Who this node is: its file, and what `cygnet cluster init` or `join` have left in its state directory.

use std::sync::Arc;

use anyhow::{Context, bail};
use cygnet_ha::consensus::credentials::{Credentials, IdentityFile};
use cygnet_ha::consensus::store::redb::FILE_NAME;
use cygnet_ha::consensus::{Begin, Security};

use crate::config::model::{Member, NodeConfig};

/// The node's file with the members that the state directory knows.
///
/// # Errors
/// The node is in no cluster yet, or the two contradict each other.
pub(super) fn settle(config: NodeConfig) -> anyhow::Result<NodeConfig> {
    let directory = config.state_dir.display();
    let identity = IdentityFile::load(&config.state_dir)?;
    let Some(identity) = identity else {
        if config.insecure {
            return Ok(config);
        }
        bail!(
            "this node is in no cluster yet ({directory} knows none); on the first node run `cygnet cluster init`, on \
             the others `cygnet cluster join ADDRESS --token TOKEN`, and start it again"
        );
    };
    if identity.secure == config.insecure {
        bail!(
            "{directory} belongs to a cluster with{} encrypted links, and the node's file says otherwise; correct \
             `insecure` there, or clear the directory to begin anew",
            if identity.secure { "" } else { "out" }
        );
    }
    if (&identity.cluster, &identity.name) != (&config.cluster, &config.name) {
        bail!(
            "{directory} is that of {} in the cluster {}, and the node's file says {} in {}; correct the file, or \
             clear the directory to begin anew",
            identity.name,
            identity.cluster,
            config.name,
            config.cluster
        );
    }
    if config.insecure {
        return Ok(config);
    }
    with_members(config, &identity)
}

fn with_members(config: NodeConfig, identity: &IdentityFile) -> anyhow::Result<NodeConfig> {
    let own = identity.members.iter().find(|member| member.id == identity.id);
    let written = config.members.iter().find(|member| member.name == config.name);
    if let (Some(own), Some(written)) = (own, written)
        && (own.address, own.witness) != (written.address, written.witness)
    {
        bail!(
            "the cluster knows {} at {}{}, and the node's file says otherwise; restore `address` and `witness` there, \
             or remove the node from the cluster and join it anew",
            own.name,
            own.address,
            if own.witness { " as a witness" } else { "" }
        );
    }
    let member = |member: &cygnet_ha::state::MemberRecord| Member {
        id: member.id,
        name: member.name.clone(),
        address: member.address,
        witness: member.witness,
    };
    Ok(NodeConfig { members: identity.members.iter().map(member).collect(), ..config })
}

/// How the log begins, if there is none.
pub(super) fn begin(config: &NodeConfig) -> anyhow::Result<Begin> {
    let known = IdentityFile::load(&config.state_dir)?.is_some();
    let lost = known && !config.state_dir.join(FILE_NAME).exists();
    Ok(if config.insecure && !lost { Begin::Voters } else { Begin::Fetch { lost } })
}

/// The certificates for the links; none where the operator wants them plain.
pub(super) fn security(config: &NodeConfig) -> anyhow::Result<Option<Arc<Security>>> {
    if config.insecure {
        return Ok(None);
    }
    let credentials = Credentials::load(&config.state_dir)?;
    Ok(Some(Arc::new(Security::new(credentials).context("the certificates of this node cannot be used")?)))
}

/// Notes that this node has had a log: one that is missing later is lost, not new.
pub(super) fn remember(config: &NodeConfig, own: &Member) -> anyhow::Result<()> {
    if !config.insecure || IdentityFile::load(&config.state_dir)?.is_some() {
        return Ok(());
    }
    let identity = IdentityFile {
        cluster: config.cluster.clone(),
        id: own.id,
        name: own.name.clone(),
        witness: own.witness,
        secure: false,
        members: Vec::new(),
    };
    Ok(identity.save(&config.state_dir)?)
}
