//! What the API says of the cluster's configuration.

pub use cygnet_ha::consensus::Confirmation;
use serde::{Deserialize, Serialize};

use crate::config::diff::{Change, ChangeSize};

/// Shortest time that a configuration may wait for its confirmation, ms: less is over before anybody has looked.
pub const CONFIRM_WITHIN_MIN_MS: u64 = 1000;

/// `GET /v1/config[?version=N]`: one version of the cluster's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigVersion {
    /// Who made it, when and why. Version 0 is the empty configuration before the first one.
    #[serde(flatten)]
    pub entry: ConfigEntry,
    /// The text, as it was applied.
    pub text: String,
}

/// One line of the configuration's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigEntry {
    /// Counts from 1.
    pub version: u64,
    /// Who applied it.
    pub author: String,
    /// When, by the clock of the node that took it.
    pub unix_ms: u64,
    /// Why, in the author's words.
    pub comment: String,
    /// How much it changed; `None` where the version before it is not kept, or one of the two cannot be read here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<ChangeSize>,
}

/// `GET /v1/config/history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigHistory {
    /// The versions that are kept, newest first.
    pub versions: Vec<ConfigEntry>,
    /// The newest one waits for its confirmation.
    #[serde(default)]
    pub confirmation: Option<Confirmation>,
}

/// `POST /v1/config/check` and `/v1/config/diff`: a text to judge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigText {
    /// The text.
    pub text: String,
    /// Its name in messages.
    #[serde(default = "default_file")]
    pub file: String,
}

fn default_file() -> String {
    "cluster.toml".to_owned()
}

/// `POST /v1/config/check`: the text is good here; what the others say of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigChecked {
    /// Whether no node that answered has an objection.
    pub ok: bool,
    /// What each other node says.
    pub peers: Vec<PeerCheck>,
}

/// One other node's word on a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerCheck {
    /// The node.
    pub node: String,
    /// Whether it could be asked at all.
    pub reached: bool,
    /// Its objection; `None` when it has none or was not reached.
    pub objection: Option<String>,
}

/// `POST /v1/config/diff`: what the text would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigDiff {
    /// The running version that it was compared with; quote it as `if_version` when applying.
    pub version: u64,
    /// Whether the text differs at all, be it in comments only.
    pub changed: bool,
    /// What differs in meaning; empty when only comments or layout do.
    pub changes: Vec<Change>,
    /// Of what it removes more than one change may without `force`, in numbers.
    #[serde(default)]
    pub excessive: Vec<String>,
}

/// `POST /v1/config/apply`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyConfig {
    /// The text.
    pub text: String,
    /// Its name in messages.
    #[serde(default = "default_file")]
    pub file: String,
    /// Who applies it.
    pub author: String,
    /// Why.
    #[serde(default)]
    pub comment: String,
    /// Refuse unless this version is running: nobody else has changed anything in between.
    #[serde(default)]
    pub if_version: Option<u64>,
    /// Unless it is confirmed within so many milliseconds, the version before comes back by itself.
    #[serde(default)]
    pub confirm_within_ms: Option<u64>,
    /// Even if it removes more than one change may ([`crate::config::removal`]).
    #[serde(default)]
    pub force: bool,
}

/// `POST /v1/config/rollback`: an older text becomes the newest version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollBack {
    /// Which; `None`: the one that would come back by itself, or else the one before the running one.
    #[serde(default)]
    pub version: Option<u64>,
    /// Who wants it.
    pub author: String,
    /// Why; empty: it is said what was done.
    #[serde(default)]
    pub comment: String,
    /// Refuse unless this version is running.
    #[serde(default)]
    pub if_version: Option<u64>,
    /// As in [`ApplyConfig`].
    #[serde(default)]
    pub confirm_within_ms: Option<u64>,
    /// As in [`ApplyConfig`].
    #[serde(default)]
    pub force: bool,
    /// Change nothing; say what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

/// The answer to [`RollBack`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledBack {
    /// The version whose text is, or would be, running again.
    pub back_to: u64,
    /// What that changes.
    pub difference: ConfigDiff,
    /// The new version; `None` when it was only looked at.
    pub applied: Option<Applied>,
}

/// `POST /v1/config/confirm`: the version that waits for its confirmation stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfirmConfig {
    /// Which; `None`: the one that waits.
    #[serde(default)]
    pub version: Option<u64>,
    /// Who confirms it.
    pub author: String,
}

/// The answer to [`ConfirmConfig`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigConfirmed {
    /// The version that stays.
    pub version: u64,
}

/// The answer to a committed change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The version that is running now.
    pub version: u64,
    /// False when this very text is running already, and nothing was written.
    pub changed: bool,
    /// Who runs it, as far as this node knows at this moment.
    pub nodes: Vec<NodeApplied>,
    /// Nodes that could not be asked before. They take it when they come back, and say in their status if they cannot.
    #[serde(default)]
    pub unasked: Vec<String>,
    /// It waits for its confirmation.
    #[serde(default)]
    pub confirmation: Option<Confirmation>,
}

/// How far a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeApplied {
    /// The node.
    pub node: String,
    /// The version that it runs; `None` when it has not said.
    pub version: Option<u64>,
    /// How old its word is; `None` for this node itself.
    pub age_ms: Option<u64>,
    /// Whether it can be reached now.
    #[serde(default)]
    pub connected: bool,
}
