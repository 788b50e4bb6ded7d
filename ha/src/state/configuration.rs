//! The cluster configuration and its history.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Refusal;
use super::command::PutConfig;

/// How many versions are kept, the current one included.
pub const HISTORY_VERSIONS: usize = 32;

/// How many bytes of text are kept over all versions; the current one is always kept.
pub const HISTORY_BYTES: usize = 8 * 1024 * 1024;

/// One version of the cluster configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Counts from 1.
    pub version: u64,
    /// The TOML text.
    pub text: Arc<str>,
    /// Who applied it.
    pub author: String,
    /// When, milliseconds since 1970, by the clock of the node that was asked.
    pub unix_ms: u64,
    /// Why.
    pub comment: String,
}

/// The current version and those before it. Cheap to clone: the texts are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    versions: VecDeque<Version>,
}

impl Configuration {
    /// The current version number; 0 before the first configuration.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.versions.back().map_or(0, |version| version.version)
    }

    /// The current version.
    #[must_use]
    pub fn current(&self) -> Option<&Version> {
        self.versions.back()
    }

    /// A version by its number, if it is still kept.
    #[must_use]
    pub fn get(&self, version: u64) -> Option<&Version> {
        self.versions.iter().find(|kept| kept.version == version)
    }

    /// The versions that are kept, oldest first.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = &Version> {
        self.versions.iter()
    }

    pub(super) fn put(&mut self, put: &PutConfig) -> Result<u64, Refusal> {
        let current = self.version();
        if let Some(expected) = put.if_version
            && expected != current
        {
            return Err(Refusal::VersionMismatch { expected, current });
        }
        self.push(Version {
            version: current + 1,
            text: Arc::from(put.text.as_str()),
            author: put.author.clone(),
            unix_ms: put.unix_ms,
            comment: put.comment.clone(),
        });
        Ok(current + 1)
    }

    /// Adds a version and forgets the oldest beyond the limits.
    pub(super) fn push(&mut self, version: Version) {
        self.versions.push_back(version);
        let mut bytes: usize = self.versions.iter().map(|version| version.text.len()).sum();
        while self.versions.len() > HISTORY_VERSIONS || (bytes > HISTORY_BYTES && self.versions.len() > 1) {
            let Some(oldest) = self.versions.pop_front() else { break };
            bytes -= oldest.text.len();
        }
    }
}
