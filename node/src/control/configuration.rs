//! The routes of the cluster's configuration, and what is checked before anything is proposed to the log.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use cygnet_ha::state::configuration::CONFIRM_WITHIN_MAX_MS;
use serde::Deserialize;

use super::api::NodeApi;
use super::audit::command;
use super::router::{Answer, Body, Params, answer, body, params};
use super::status::Facts;
use super::types::{
    ApiError, Applied, ApplyConfig, CONFIRM_WITHIN_MIN_MS, ConfigChecked, ConfigConfirmed, ConfigDiff,
    ConfigEntry, ConfigHistory, ConfigText, ConfigVersion, ConfirmConfig, ErrorCode, NodeApplied, PeerCheck,
    RollBack, RolledBack,
};
use crate::config;
use crate::config::diff::{ChangeSize, diff};
use crate::config::model::ClusterConfig;
use crate::config::removal::{REMOVED_PERCENT_MAX, excessive};

/// The routes below `/v1/config`.
pub(super) fn routes<A: NodeApi>() -> Router<Arc<A>> {
    Router::new()
        .route("/v1/config", get(show::<A>))
        .route("/v1/config/history", get(history::<A>))
        .route("/v1/config/check", post(check::<A>))
        .route("/v1/config/diff", post(differ::<A>))
        .route("/v1/config/apply", post(apply_change::<A>))
        .route("/v1/config/rollback", post(rollback::<A>))
        .route("/v1/config/confirm", post(confirm::<A>))
}

/// Which version to show.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhichVersion {
    version: Option<u64>,
}

async fn show<A: NodeApi>(State(api): State<Arc<A>>, which: Params<WhichVersion>) -> Response {
    answer(async { api.config(params(which)?.version).await }).await
}

async fn history<A: NodeApi>(State(api): State<Arc<A>>) -> Response {
    answer(async {
        let versions = api.history().await?;
        let confirmation = api.facts().await?.config.confirmation;
        // Reading all of them again may take long.
        let sized = tokio::task::spawn_blocking(move || with_sizes(versions)).await;
        let versions = sized.map_err(|error| ApiError::new(ErrorCode::Error, error.to_string(), ""))?;
        Ok(ConfigHistory { versions, confirmation })
    })
    .await
}

/// How much each version changed, newest first. The first one of all is compared with nothing.
fn with_sizes(versions: Vec<ConfigVersion>) -> Vec<ConfigEntry> {
    let read = |version: &ConfigVersion| config::parse_cluster(&version.text, "").ok();
    let models: Vec<Option<ClusterConfig>> = versions.iter().map(read).collect();
    let size = |at: usize, version: u64| {
        let nothing = ClusterConfig::default();
        let before = models.get(at + 1).map_or((version == 1).then_some(&nothing), Option::as_ref)?;
        Some(ChangeSize::of(&diff(before, models[at].as_ref()?)))
    };
    let entry = |(at, version): (usize, ConfigVersion)| {
        let change = size(at, version.entry.version);
        ConfigEntry { change, ..version.entry }
    };
    versions.into_iter().enumerate().map(entry).collect()
}

async fn check<A: NodeApi>(State(api): State<Arc<A>>, request: Body<ConfigText>) -> Response {
    answer(async {
        let ConfigText { text, file } = body(request)?;
        check_here(api.as_ref(), &text, &file)?;
        let peers = api.preflight(&text).await?;
        Ok(ConfigChecked { ok: peers.iter().all(|peer| peer.objection.is_none()), peers })
    })
    .await
}

async fn differ<A: NodeApi>(State(api): State<Arc<A>>, request: Body<ConfigText>) -> Response {
    answer(async {
        let ConfigText { text, file } = body(request)?;
        let new = check_here(api.as_ref(), &text, &file)?;
        Ok(difference(&api.config(None).await?, &new, &text))
    })
    .await
}

/// Checks a text as this node sees it.
fn check_here<A: NodeApi>(api: &A, text: &str, file: &str) -> Answer<ClusterConfig> {
    config::parse_cluster_for(&api.node_config(), text, file).map_err(ApiError::invalid)
}

fn difference(running: &ConfigVersion, new: &ClusterConfig, new_text: &str) -> ConfigDiff {
    // One that this program cannot read, from another version of it, differs in everything and loses nothing.
    let old = config::parse_cluster(&running.text, "the running configuration").unwrap_or_default();
    ConfigDiff {
        version: running.entry.version,
        changed: running.text != new_text,
        changes: diff(&old, new),
        excessive: excessive(&old, new).iter().map(ToString::to_string).collect(),
    }
}

async fn apply_change<A: NodeApi>(State(api): State<Arc<A>>, request: Body<ApplyConfig>) -> Response {
    command(request, async |change| apply(api.as_ref(), change).await).await
}

async fn apply<A: NodeApi>(api: &A, mut change: ApplyConfig) -> Answer<Applied> {
    time_to_confirm(change.confirm_within_ms)?;
    let new = check_here(api, &change.text, &change.file)?;
    let running = api.config(None).await?;
    let version = running.entry.version;
    same_version(change.if_version, version)?;
    let difference = difference(&running, &new, &change.text);
    if !difference.changed {
        let facts = api.facts().await?;
        let (nodes, confirmation) = (nodes(&facts), facts.config.confirmation);
        return Ok(Applied { version, changed: false, nodes, unasked: Vec::new(), confirmation });
    }
    if !change.force {
        not_too_much(&difference.excessive)?;
    }
    let unasked = ask_all(api, &change.text).await?;
    // What was compared and checked is what is replaced: the log refuses it if another change comes in between.
    change.if_version = Some(version);
    Ok(Applied { unasked, ..api.apply(change).await? })
}

fn time_to_confirm(within_ms: Option<u64>) -> Answer<()> {
    let allowed = CONFIRM_WITHIN_MIN_MS..=CONFIRM_WITHIN_MAX_MS;
    if within_ms.is_none_or(|ms| allowed.contains(&ms)) {
        return Ok(());
    }
    let error = format!(
        "a confirmation is waited for {} s to {} h",
        CONFIRM_WITHIN_MIN_MS / 1000,
        CONFIRM_WITHIN_MAX_MS / 3_600_000
    );
    Err(ApiError::new(ErrorCode::Usage, error, "choose another --confirm-within"))
}

fn same_version(expected: Option<u64>, version: u64) -> Answer<()> {
    let Some(expected) = expected.filter(|expected| *expected != version) else { return Ok(()) };
    let error = format!("version {version} is running, not {expected}");
    Err(ApiError::new(ErrorCode::Refused, error, "look at `cygnet config diff FILE` and apply again"))
}

/// Refuses what [`excessive`] has found.
pub(crate) fn not_too_much(excessive: &[String]) -> Answer<()> {
    if excessive.is_empty() {
        return Ok(());
    }
    let error =
        format!("it removes {}, and one change may remove {REMOVED_PERCENT_MAX} %", excessive.join(", "));
    Err(ApiError::new(ErrorCode::Refused, error, "is it the right file, and whole? if so, add --force"))
}

/// Asks every node before anything is proposed. One objection is enough; a node that cannot be reached is named, and
/// does not hold the others up: whether there are enough nodes to decide is for the log to say.
async fn ask_all<A: NodeApi>(api: &A, text: &str) -> Answer<Vec<String>> {
    let checks = api.preflight(text).await?;
    let objections: Vec<String> = checks.iter().filter_map(objection).collect();
    if objections.is_empty() {
        return Ok(checks.into_iter().filter(|check| !check.reached).map(|check| check.node).collect());
    }
    let remedy = "nothing was changed; correct it there or here, and apply again";
    Err(ApiError::new(ErrorCode::Refused, objections.join("; "), remedy))
}

fn objection(check: &PeerCheck) -> Option<String> {
    check.objection.as_ref().map(|objection| format!("{} cannot run it: {objection}", check.node))
}

/// Who runs which version, as far as is known: all nodes with traffic.
pub(crate) fn nodes(facts: &Facts) -> Vec<NodeApplied> {
    let carries_traffic = facts.members.iter().filter(|member| !member.witness);
    let node = carries_traffic.map(|member| NodeApplied {
        node: member.name.clone(),
        version: if member.here {
            Some(facts.config.running)
        } else {
            member.report.as_ref().map(|report| report.config_version)
        },
        age_ms: member.report_age_ms,
        connected: member.connected,
    });
    node.collect()
}

async fn rollback<A: NodeApi>(State(api): State<Arc<A>>, request: Body<RollBack>) -> Response {
    command(request, async |wish| roll_back(api.as_ref(), wish).await).await
}

async fn roll_back<A: NodeApi>(api: &A, wish: RollBack) -> Answer<RolledBack> {
    let confirmation = api.facts().await?.config.confirmation;
    let running = api.config(None).await?;
    same_version(wish.if_version, running.entry.version)?;
    let waiting = confirmation.filter(|waiting| waiting.version == running.entry.version);
    let back_to = match wish.version.or(waiting.map(|waiting| waiting.back_to)) {
        Some(version) => version,
        None => version_before(api, running.entry.version).await?,
    };
    if back_to == running.entry.version {
        return Err(ApiError::new(
            ErrorCode::Usage,
            format!("v{back_to} is running"),
            "name an older version",
        ));
    }
    let text = api.config(Some(back_to)).await?.text;
    let new = check_here(api, &text, &format!("v{back_to}"))?;
    let difference = difference(&running, &new, &text);
    if wish.dry_run {
        return Ok(RolledBack { back_to, difference, applied: None });
    }
    let comment = if wish.comment.is_empty() { format!("back to v{back_to}") } else { wish.comment };
    let applied = if let Some(waiting) = waiting.filter(|waiting| waiting.back_to == back_to) {
        // What would come by itself comes now; it ran before, and nobody is asked.
        api.return_config(waiting.version, &wish.author, &comment).await?
    } else {
        let change = ApplyConfig {
            text,
            file: format!("v{back_to}"),
            author: wish.author,
            comment,
            if_version: Some(running.entry.version),
            confirm_within_ms: wish.confirm_within_ms,
            force: wish.force,
        };
        apply(api, change).await?
    };
    Ok(RolledBack { back_to, difference, applied: Some(applied) })
}

async fn version_before<A: NodeApi>(api: &A, version: u64) -> Answer<u64> {
    let versions = api.history().await?;
    let older = versions.iter().map(|kept| kept.entry.version).find(|kept| *kept < version);
    older.ok_or_else(|| {
        let remedy = "see `cygnet config history`";
        ApiError::new(ErrorCode::NotFound, "no older version is kept", remedy)
    })
}

async fn confirm<A: NodeApi>(State(api): State<Arc<A>>, request: Body<ConfirmConfig>) -> Response {
    command(request, async |ConfirmConfig { version, author }| {
        let waiting = api.facts().await?.config.confirmation.map(|waiting| waiting.version);
        let Some(version) = version.or(waiting) else {
            let remedy = "see `cygnet config history`";
            return Err(ApiError::new(ErrorCode::Refused, "nothing waits for a confirmation", remedy));
        };
        Ok(ConfigConfirmed { version: api.confirm_config(version, &author).await? })
    })
    .await
}
