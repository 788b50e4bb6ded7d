//! A balancer's surroundings that stand still, for tests.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::{
    COUNTRIES, ClientFigures, ConnectionFigures, Facts, Files, Names, ServerFigures, ServerId, Surroundings,
};

/// 2026-11-22 21:53:21 UTC.
pub(super) const NOW: i64 = 1_795_384_401;

#[derive(Default)]
pub(super) struct World {
    pub(super) servers: BTreeMap<ServerId, ServerFigures>,
    pub(super) current: usize,
    pub(super) clients: Vec<ClientFigures>,
    pub(super) connections: Vec<ConnectionFigures>,
    pub(super) newest: usize,
    pub(super) files: RefCell<BTreeMap<PathBuf, String>>,
    pub(super) lacks_countries: bool,
    pub(super) is_running: bool,
}

impl World {
    pub(super) fn around(&self) -> Surroundings<'_> {
        Surroundings { facts: self, names: self, files: self }
    }

    pub(super) fn with_file(self, path: &str, text: &str) -> Self {
        self.files.borrow_mut().insert(PathBuf::from(path), text.to_owned());
        self
    }

    pub(super) fn file(&self, path: &str) -> String {
        self.files.borrow()[Path::new(path)].clone()
    }
}

impl Facts for World {
    fn unix_time(&self) -> i64 {
        NOW
    }
    fn local_time(&self) -> String {
        "2026-11-22 21:53:21".to_owned()
    }
    fn pid(&self) -> u32 {
        1828
    }
    fn server(&self, server: ServerId) -> ServerFigures {
        self.servers.get(&server).copied().unwrap_or_default()
    }
    fn current_server(&self) -> ServerId {
        ServerId::Regular(self.current)
    }
    fn clients(&self) -> Vec<ClientFigures> {
        self.clients.clone()
    }
    fn connections(&self) -> Vec<ConnectionFigures> {
        self.connections.clone()
    }
    fn newest_connection(&self) -> usize {
        self.newest
    }
    fn idlers(&self) -> u32 {
        0
    }
    fn is_running(&self) -> bool {
        self.is_running
    }
}

impl Names for World {
    fn address(&self, name: &str) -> Option<IpAddr> {
        match name {
            "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
            other => other.parse().ok(),
        }
    }
    fn port(&self, name: &str) -> Option<u16> {
        match name {
            "http" => Some(80),
            other => other.parse().ok(),
        }
    }
}

impl Files for World {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let files = self.files.borrow();
        files.get(path).map(|text| text.clone().into_bytes()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
    fn write(&self, path: &Path, text: &[u8]) -> io::Result<()> {
        if path.starts_with("/nonexistent") {
            return Err(io::ErrorKind::NotFound.into());
        }
        let text = String::from_utf8(text.to_vec()).map_err(io::Error::other)?;
        self.files.borrow_mut().insert(path.to_owned(), text);
        Ok(())
    }
    fn countries(&self, named: Option<&Path>) -> Option<PathBuf> {
        (!self.lacks_countries).then(|| named.unwrap_or_else(|| Path::new(COUNTRIES[0])).to_owned())
    }
}
