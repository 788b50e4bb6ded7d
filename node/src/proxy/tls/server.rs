//! What a service needs to end its clients' TLS, made of its section of the configuration, and kept up to date with the
//! files while connections run.

use std::collections::HashMap;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use cygnet_netlink::ssl::TicketKeys;
use openssl::ssl::Ssl;
use openssl::x509::X509;

use crate::config::model::TlsListen;

use super::authorities::Authorities;
use super::client_hello::Fields;
use super::credentials::{Credentials, Paths};
use super::error::{ContextError, TlsError};
use super::expiry::Lifetime;
use super::names::{Files, Names, scan};
use super::ocsp::{self, Staple};
use super::rules::{Contexts, Rules};
use super::session::server_ssl;

/// Certificates, keys and rules of a service. Cheap to clone: all clones are the same one.
#[derive(Clone)]
pub struct ServerContext(Arc<Inner>);

struct Inner {
    listen: TlsListen,
    tickets: Arc<TicketKeys>,
    /// What handshakes see.
    loaded: ArcSwap<Loaded>,
    /// Held while files are read. Files that were bad, as they were then.
    failed: Mutex<HashMap<PathBuf, Stamp>>,
}

#[derive(Clone)]
struct Loaded {
    default: Arc<Entry>,
    names: Names,
}

/// One certificate, ready for handshakes.
pub(super) struct Entry {
    contexts: Contexts,
    certificate: X509,
    issuer: Option<X509>,
    file: PathBuf,
    lifetime: Lifetime,
    stamp: Stamp,
    ocsp: Option<PathBuf>,
    staple: Staple,
}

/// What a look at the files found.
#[derive(Debug, Default)]
pub struct Reload {
    /// Certificates that were read anew, added or removed, and OCSP responses that were.
    pub changed: usize,
    /// What could not be used. What was there before goes on serving.
    pub problems: Vec<ContextError>,
}

impl ServerContext {
    /// Reads and checks all files that `listen` names. Sessions are sealed with `tickets`, which services may share. Also
    /// says what is wrong with single names of the directory: their clients get the default certificate.
    ///
    /// # Errors
    /// What is wrong with the default certificate or the settings, and what helps.
    pub fn new(
        listen: &TlsListen,
        tickets: &Arc<TicketKeys>,
    ) -> Result<(Self, Vec<ContextError>), ContextError> {
        let sources = Sources::of_default(listen);
        let default = Arc::new(sources.load(listen, tickets, sources.stamp())?);
        let loaded = Loaded { default, names: Names::default() };
        let inner = Inner {
            listen: listen.clone(),
            tickets: tickets.clone(),
            loaded: ArcSwap::from_pointee(loaded),
            failed: Mutex::default(),
        };
        let context = Self(Arc::new(inner));
        let problems = context.update(Eager::No).problems;
        Ok((context, problems))
    }

    /// Reads what changed in the files. New connections see it at once, running ones keep what they have; what is bad
    /// leaves the former one in place. Reads files: not for a worker's thread.
    #[must_use]
    pub fn reload(&self) -> Reload {
        self.update(Eager::Yes)
    }

    /// The same, for a slow thread every few seconds: names each problem once, not every time. This is what brings in
    /// renewed OCSP responses, and stops handing out those that are too old.
    #[must_use]
    pub fn refresh(&self) -> Reload {
        self.update(Eager::No)
    }

    /// How many names of the directory have a certificate.
    #[must_use]
    pub fn names(&self) -> usize {
        self.0.loaded.load().names.len()
    }

    /// All certificates, by their files, and how long each counts.
    #[must_use]
    pub fn lifetimes(&self) -> Vec<(PathBuf, Lifetime)> {
        let loaded = self.0.loaded.load();
        let entries = std::iter::once(&loaded.default).chain(loaded.names.entries());
        entries.map(|entry| (entry.file.clone(), entry.lifetime)).collect()
    }

    /// The library's session for a client that asks for `name`.
    pub(super) fn ssl(&self, name: Option<&str>, hello: Option<&Fields<'_>>) -> Result<Ssl, TlsError> {
        let loaded = self.0.loaded.load();
        let entry = name.and_then(|name| loaded.names.find(name)).unwrap_or(&loaded.default);
        let ssl = server_ssl(entry.contexts.choose(hello))?;
        #[cfg(feature = "fast-tls")]
        let ssl = entry.stapled(ssl)?;
        Ok(ssl)
    }

    fn update(&self, eager: Eager) -> Reload {
        let inner = &*self.0;
        let mut failed = inner.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if eager == Eager::Yes {
            failed.clear();
        }
        let before = inner.loaded.load_full();
        let mut look = Look { inner, failed: &mut failed, found: Reload::default() };
        let default = look.entry(&Sources::of_default(&inner.listen), Some(&before.default));
        let default = default.unwrap_or_else(|| before.default.clone());
        let names = look.names(&before.names);
        for entry in std::iter::once(&default).chain(names.entries()) {
            look.staple(entry);
        }
        let found = look.found;
        if found.changed > 0 {
            inner.loaded.store(Arc::new(Loaded { default, names }));
        }
        found
    }
}

impl fmt::Debug for ServerContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerContext").field("listen", &self.0.listen).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Eager {
    /// Tries also what failed before and did not change since.
    Yes,
    No,
}

/// One look at the files.
struct Look<'a> {
    inner: &'a Inner,
    failed: &'a mut HashMap<PathBuf, Stamp>,
    found: Reload,
}

impl Look<'_> {
    /// The certificate of `sources` as it is now, or `None` if it cannot be used.
    fn entry(&mut self, sources: &Sources, before: Option<&Arc<Entry>>) -> Option<Arc<Entry>> {
        let stamp = sources.stamp();
        if let Some(before) = before.filter(|before| before.stamp == stamp) {
            return Some(before.clone());
        }
        let path = &sources.paths.certificate;
        if self.failed.get(path) == Some(&stamp) {
            return before.cloned();
        }
        match sources.load(&self.inner.listen, &self.inner.tickets, stamp.clone()) {
            Ok(entry) => {
                self.failed.remove(path);
                self.found.changed += 1;
                Some(Arc::new(entry))
            }
            Err(problem) => {
                self.failed.insert(path.clone(), stamp);
                self.found.problems.push(problem);
                before.cloned()
            }
        }
    }

    /// The directory as it is now.
    fn names(&mut self, before: &Names) -> Names {
        let Some(directory) = self.inner.listen.names.as_deref() else { return Names::default() };
        let files = match scan(directory) {
            Ok(files) => files,
            Err(problem) => {
                let stamp = Stamp::of([directory]);
                if self.failed.insert(directory.to_owned(), stamp.clone()) != Some(stamp) {
                    self.found.problems.push(problem);
                }
                return before.clone();
            }
        };
        let mut names = Names::default();
        for files in files {
            let sources = Sources::of_name(&self.inner.listen, &files);
            if let Some(entry) = self.entry(&sources, before.of_stem(&files.stem)) {
                names.insert(&files.stem, entry);
            }
        }
        let gone = before.len().saturating_sub(names.len());
        self.found.changed += gone;
        names
    }

    /// The OCSP response of an entry as it is now. A file that is not there is none.
    fn staple(&mut self, entry: &Entry) {
        let Some(path) = entry.ocsp.as_deref().filter(|path| path.exists()) else {
            self.found.changed += usize::from(entry.staple.swap(None).is_some());
            return;
        };
        let stamp = Stamp::of([path]);
        match ocsp::load(path, &entry.certificate, entry.issuer.as_ref()) {
            Ok(der) => {
                self.failed.remove(path);
                if entry.staple.load().as_deref() != Some(&der) {
                    entry.staple.store(Some(Arc::new(der)));
                    self.found.changed += 1;
                }
            }
            Err(problem) => {
                let outdated =
                    |der: &Arc<Vec<u8>>| ocsp::check(der, &entry.certificate, entry.issuer.as_ref()).is_err();
                if entry.staple.load().as_ref().is_some_and(outdated) {
                    entry.staple.store(None);
                    self.found.changed += 1;
                }
                if self.failed.insert(path.to_owned(), stamp.clone()) != Some(stamp) {
                    self.found.problems.push(problem);
                }
            }
        }
    }
}

/// The files of one certificate.
struct Sources {
    paths: Paths,
    /// Authorities of client certificates.
    authorities: Option<PathBuf>,
    ocsp: Option<PathBuf>,
}

impl Sources {
    fn of_default(listen: &TlsListen) -> Self {
        let chain = listen.chain.iter().chain(&listen.client_authorities).cloned().collect();
        let paths = Paths {
            certificate: listen.certificate.clone(),
            key: listen.key.clone(),
            chain,
            chain_directory: listen.client_authorities_directory.clone(),
        };
        Self { paths, authorities: listen.client_authorities.clone(), ocsp: listen.ocsp.clone() }
    }

    /// What a name has no file for is that of the default: the chain may come from the same authority.
    fn of_name(listen: &TlsListen, files: &Files) -> Self {
        let own = files.authorities.exists().then(|| files.authorities.clone());
        let paths = Paths {
            certificate: files.certificate.clone(),
            key: files.key.exists().then(|| files.key.clone()),
            chain: own.iter().chain(&listen.chain).cloned().collect(),
            chain_directory: listen.client_authorities_directory.clone(),
        };
        let authorities = own.or_else(|| listen.client_authorities.clone());
        Self { paths, authorities, ocsp: Some(files.ocsp.clone()) }
    }

    fn stamp(&self) -> Stamp {
        let paths = &self.paths;
        let files = [Some(&paths.certificate), paths.key.as_ref(), self.authorities.as_ref()];
        Stamp::of(files.into_iter().flatten().chain(&paths.chain).map(PathBuf::as_path))
    }

    fn load(
        &self,
        listen: &TlsListen,
        tickets: &Arc<TicketKeys>,
        stamp: Stamp,
    ) -> Result<Entry, ContextError> {
        let credentials = Credentials::load(&self.paths)?;
        let directory = listen.client_authorities_directory.as_deref();
        let asked = listen.client_required || listen.client_authorities.is_some() || directory.is_some();
        let authorities = match (asked, self.authorities.as_deref(), directory) {
            (false, _, _) => None,
            (true, None, None) => return Err(ContextError::NoClientAuthorities),
            (true, file, directory) => Some(Authorities::load(file, directory)?),
        };
        let staple = Staple::default();
        let rules = Rules { listen, tickets, authorities: authorities.as_ref(), staple: &staple };
        let contexts = rules.contexts(&self.paths.certificate, &credentials)?;
        let Credentials { certificate, issuer, chain, .. } = credentials;
        let lifetime = Lifetime::of(&certificate, chain.iter().map(|member| &**member))?;
        let file = self.paths.certificate.clone();
        Ok(Entry { contexts, certificate, issuer, file, lifetime, stamp, ocsp: self.ocsp.clone(), staple })
    }
}

impl Entry {
    /// AWS-LC has no callback for it: each session gets a copy.
    #[cfg(feature = "fast-tls")]
    fn stapled(&self, mut ssl: Ssl) -> Result<Ssl, TlsError> {
        if let Some(response) = self.staple.load().as_deref() {
            cygnet_netlink::ssl::set_ocsp_response(&mut ssl, response)?;
        }
        Ok(ssl)
    }
}

/// What files looked like: device, inode, length and time of change of each, where it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp(Vec<Option<[i64; 5]>>);

impl Stamp {
    fn of<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let look = |path: &Path| {
            let facts = std::fs::metadata(path).ok()?;
            let (device, inode, length) =
                (facts.dev().cast_signed(), facts.ino().cast_signed(), facts.size().cast_signed());
            Some([device, inode, length, facts.ctime(), facts.ctime_nsec()])
        };
        Self(paths.into_iter().map(look).collect())
    }
}
