//! The cluster configuration and its history.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Refusal;
use super::command::{ConfirmConfig, PutConfig, ReturnConfig};

/// How many versions are kept, the current one included.
pub const HISTORY_VERSIONS: usize = 32;

/// How many bytes of text are kept over all versions; the current one is always kept.
pub const HISTORY_BYTES: usize = 8 * 1024 * 1024;

/// The longest time that a configuration may wait for its confirmation, ms: a day. Whoever tries something does not try
/// for longer.
pub const CONFIRM_WITHIN_MAX_MS: u64 = 24 * 3600 * 1000;

/// Whose version it is that came back because nobody confirmed the one after it.
pub const NOBODY: &str = "cygnet";

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

/// The current version waits for its confirmation. Without it the one that was confirmed last comes back, as a new version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unconfirmed {
    /// The version that waits: always the current one.
    pub version: u64,
    /// How long it waits, from the moment when it is applied; ms.
    pub within_ms: u64,
    /// What comes back. Kept here, for the history may have forgotten it by then.
    pub back_to: Version,
}

/// The current version and those before it. Cheap to clone: the texts are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    versions: VecDeque<Version>,
    unconfirmed: Option<Unconfirmed>,
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

    /// The confirmation that the current version waits for, if it does.
    #[must_use]
    pub fn unconfirmed(&self) -> Option<&Unconfirmed> {
        self.unconfirmed.as_ref()
    }

    pub(super) fn put(&mut self, put: &PutConfig) -> Result<u64, Refusal> {
        let current = self.version();
        if let Some(expected) = put.if_version
            && expected != current
        {
            return Err(Refusal::VersionMismatch { expected, current });
        }
        let unconfirmed = self.to_confirm(put)?;
        self.push(Version {
            version: current + 1,
            text: Arc::from(put.text.as_str()),
            author: put.author.clone(),
            unix_ms: put.unix_ms,
            comment: put.comment.clone(),
        });
        self.unconfirmed = unconfirmed;
        Ok(current + 1)
    }

    /// What the version that `put` makes has to wait for. One trial may follow another, and what comes back is what was
    /// there before the first; a change for good on top of a trial would settle it by the way, and is refused.
    fn to_confirm(&self, put: &PutConfig) -> Result<Option<Unconfirmed>, Refusal> {
        let version = self.version() + 1;
        match (put.confirm_within_ms, &self.unconfirmed, self.current()) {
            (None, None, _) => Ok(None),
            (None, Some(waiting), _) => Err(Refusal::Unconfirmed { version: waiting.version }),
            (Some(within_ms), Some(waiting), _) => {
                Ok(Some(Unconfirmed { version, within_ms, back_to: waiting.back_to.clone() }))
            }
            (Some(within_ms), None, Some(current)) => {
                Ok(Some(Unconfirmed { version, within_ms, back_to: current.clone() }))
            }
            (Some(_), None, None) => Err(Refusal::NothingToReturnTo),
        }
    }

    pub(super) fn confirm(&mut self, confirm: &ConfirmConfig) -> Result<u64, Refusal> {
        self.waiting(confirm.version)?;
        self.unconfirmed = None;
        Ok(self.version())
    }

    pub(super) fn return_back(&mut self, back: &ReturnConfig) -> Result<u64, Refusal> {
        let old = self.waiting(back.version)?.back_to.clone();
        let version = self.version() + 1;
        let author = if back.author.is_empty() { NOBODY } else { &back.author }.to_owned();
        self.push(Version { version, author, unix_ms: back.unix_ms, comment: back.comment.clone(), ..old });
        self.unconfirmed = None;
        Ok(version)
    }

    fn waiting(&self, version: u64) -> Result<&Unconfirmed, Refusal> {
        let current = self.version();
        let waiting = self.unconfirmed.as_ref().ok_or(Refusal::NothingToConfirm { current })?;
        if waiting.version == version {
            Ok(waiting)
        } else {
            Err(Refusal::VersionMismatch { expected: version, current })
        }
    }

    /// From a snapshot; false if it makes no sense.
    pub(super) fn restore_unconfirmed(&mut self, unconfirmed: Unconfirmed) -> bool {
        let fits = unconfirmed.version == self.version() && unconfirmed.back_to.version < unconfirmed.version;
        if fits {
            self.unconfirmed = Some(unconfirmed);
        }
        fits
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
