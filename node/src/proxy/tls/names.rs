//! The directory of certificates by server name: `NAME.crt` with `NAME.key`, `NAME.ca` and `NAME.ocsp`.
//!
//! The directory is read when the context is made, and again at every reload and refresh; a handshake only looks a name
//! up in memory. So no client's words ever become a file name, and no handshake waits for a disk.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::client_hello::is_host_name;
use super::error::ContextError;
use super::server::Entry;

/// How many certificates a directory may hold. Each is a context of the library, about 20 KiB.
pub(super) const NAMES_MAX: usize = 4096;
/// A file for every name one label below: `_.example.org.crt` stands for `*.example.org`.
const WILDCARD: &str = "_.";

/// The certificates by name.
#[derive(Clone, Default)]
pub(super) struct Names {
    exact: HashMap<Box<str>, Arc<Entry>>,
    /// By what follows the first label.
    wildcards: HashMap<Box<str>, Arc<Entry>>,
}

impl Names {
    /// The certificate for a name in lower case.
    pub(super) fn find(&self, name: &str) -> Option<&Arc<Entry>> {
        let wildcard = || self.wildcards.get(name.split_once('.')?.1);
        self.exact.get(name).or_else(wildcard)
    }

    /// The certificate of a file's name (without its ending).
    pub(super) fn of_stem(&self, stem: &str) -> Option<&Arc<Entry>> {
        match stem.strip_prefix(WILDCARD) {
            Some(rest) => self.wildcards.get(rest),
            None => self.exact.get(stem),
        }
    }

    pub(super) fn insert(&mut self, stem: &str, entry: Arc<Entry>) {
        match stem.strip_prefix(WILDCARD) {
            Some(rest) => self.wildcards.insert(rest.into(), entry),
            None => self.exact.insert(stem.into(), entry),
        };
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.exact.values().chain(self.wildcards.values())
    }

    pub(super) fn len(&self) -> usize {
        self.exact.len() + self.wildcards.len()
    }
}

/// The files of one name.
pub(super) struct Files {
    /// The name in lower case.
    pub(super) stem: String,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) authorities: PathBuf,
    pub(super) ocsp: PathBuf,
}

/// The names that a directory has certificates for, in order. Files whose names are no host names are passed over.
pub(super) fn scan(directory: &Path) -> Result<Vec<Files>, ContextError> {
    let unreadable = |source| ContextError::Unreadable { path: directory.to_owned(), source };
    let mut found = Vec::new();
    for file in std::fs::read_dir(directory).map_err(unreadable)? {
        let certificate = file.map_err(unreadable)?.path();
        let stem =
            certificate.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_ascii_lowercase();
        if certificate.extension().is_none_or(|ending| ending != "crt") || !is_host_name(&stem) {
            continue;
        }
        if found.len() == NAMES_MAX {
            return Err(ContextError::TooManyNames { path: directory.to_owned(), limit: NAMES_MAX });
        }
        found.push(Files {
            stem,
            key: certificate.with_extension("key"),
            authorities: certificate.with_extension("ca"),
            ocsp: certificate.with_extension("ocsp"),
            certificate,
        });
    }
    found.sort_by(|a, b| a.stem.cmp(&b.stem));
    Ok(found)
}
