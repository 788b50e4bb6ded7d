//! The operator's wishes for the members of the cluster.

use std::time::Duration;

use cygnet_ha::consensus::{Handle, Status};
use cygnet_ha::events::{EventLog, Severity};
use cygnet_ha::vip::driver::Cluster;
use cygnet_ha::vip::peers::PeerNode;
use tokio::time::{Instant, sleep};

use super::api::refused;
use crate::control::types::{
    ApiError, ErrorCode, MemberAction, MemberChange, MemberChanged, MemberView, Members, NewToken, TokenMade,
};

/// How long leadership may take to move.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// The members as this node sees them.
pub(super) fn members(status: &Status) -> Members {
    let member = |member: &cygnet_ha::consensus::MemberStatus| MemberView {
        id: member.id,
        name: member.name.clone(),
        address: member.address,
        witness: member.witness,
        standing: member.standing,
        voter: member.voter,
        leader: status.leader == Some(member.id),
        here: member.id == status.id,
        connected: member.connected,
        behind: member.matched.map(|matched| status.commit.saturating_sub(matched)),
    };
    Members {
        members: status.members.iter().map(member).collect(),
        commit: status.commit,
        epoch: status.epoch,
        secure: status.secure,
    }
}

/// The nodes that hold addresses too, and where the last word of a dead one is heard; `None` if this node is no member.
pub(super) fn neighbours(status: &Status) -> Option<Cluster> {
    let own = status.members.iter().find(|member| member.id == status.id)?.address;
    let others = status.members.iter().filter(|member| member.id != status.id && !member.witness);
    let others = others
        .map(|member| (PeerNode { id: member.id, name: member.name.clone() }, member.address))
        .collect();
    Some(Cluster { own, others })
}

/// Carries a wish out.
pub(super) async fn change(
    log: &Handle,
    events: &EventLog,
    change: MemberChange,
) -> Result<MemberChanged, ApiError> {
    let (status, name) = (log.status(), change.name.as_str());
    if change.action == MemberAction::Recover {
        return recover(log, &change).await;
    }
    if change.action == MemberAction::Rotate {
        log.rotate_tickets(&change.author).await.map_err(refused)?;
        let done =
            "a new key is on its way to all nodes, and seals session tickets in some seconds".to_owned();
        return Ok(MemberChanged { done });
    }
    let Some(member) = status.members.iter().find(|member| member.name == name) else {
        let names: Vec<&str> = status.members.iter().map(|member| member.name.as_str()).collect();
        let remedy = format!("there are: {}", names.join(", "));
        return Err(ApiError::new(ErrorCode::NotFound, "no such member", remedy));
    };
    let done = match change.action {
        MemberAction::Remove => {
            log.remove_member(member.id, change.force).await.map_err(refused)?;
            format!("{name} is no member any more; it stops when it hears of it")
        }
        MemberAction::Promote => {
            log.promote_member(member.id).await.map_err(refused)?;
            format!("{name} is a voter now")
        }
        MemberAction::Transfer | MemberAction::Recover | MemberAction::Rotate => {
            transfer(log, member.id, member.voter, name).await?;
            format!("{name} leads")
        }
    };
    events.record(Severity::Info, "cluster", done.as_str(), format!("by {}", change.author));
    Ok(MemberChanged { done })
}

async fn transfer(log: &Handle, id: u64, voter: bool, name: &str) -> Result<(), ApiError> {
    if !voter {
        let error = format!("{name} does not vote, and cannot lead");
        return Err(ApiError::new(ErrorCode::Refused, error, "promote it first"));
    }
    log.transfer_leader(id).await;
    let deadline = Instant::now() + TRANSFER_PATIENCE;
    while log.status().leader != Some(id) {
        if Instant::now() >= deadline {
            let error = format!("{name} does not lead after {} s", TRANSFER_PATIENCE.as_secs());
            return Err(ApiError::new(
                ErrorCode::TimedOut,
                error,
                "is it connected? `cygnet cluster members`",
            ));
        }
        sleep(LOOK).await;
    }
    Ok(())
}

async fn recover(log: &Handle, change: &MemberChange) -> Result<MemberChanged, ApiError> {
    let outlook = log.recovery_outlook();
    if change.name != outlook.cluster {
        let error = format!("the cluster is called {}, not {}", outlook.cluster, change.name);
        return Err(ApiError::new(ErrorCode::Refused, error, "type its name to confirm"));
    }
    let epoch = log.recover().await.map_err(refused)?;
    let done =
        format!("this node is the only voter now, in epoch {epoch}; the others follow when they come back");
    Ok(MemberChanged { done })
}

/// Makes a token.
pub(super) async fn create_token(
    log: &Handle,
    events: &EventLog,
    new: NewToken,
) -> Result<TokenMade, ApiError> {
    let ttl = Duration::from_secs(new.ttl_s);
    let token = log.create_token(new.witness, new.learner, ttl, &new.author).await.map_err(refused)?;
    let status = log.status();
    let own = status.members.iter().find(|member| member.id == status.id);
    let Some(address) = own.map(|own| own.address) else {
        return Err(ApiError::new(ErrorCode::Error, "this node is no member", ""));
    };
    let what = format!("a token for {} was made", if new.witness { "a witness" } else { "a node" });
    events.record(Severity::Info, "cluster", what, format!("by {}, for {} s", new.author, new.ttl_s));
    Ok(TokenMade { token, address })
}
