//! The country of an address, from a database in MaxMind's format (GeoLite2-Country, DB-IP and others).
//!
//! The whole file is read when a plan is made that needs it, and a look-up reads memory only. It is about 100 steps, and no
//! allocation.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use maxminddb::{MaxMindDbError, PathElement, Reader, WithinOptions};

/// The largest file that is read, bytes: the largest that names countries, that of all cities, has about 130 MiB.
const FILE_MAX: u64 = 1024 * 1024 * 1024;
/// So many networks of a database may be without a country at its beginning, until it is taken for one of another kind.
const NETWORKS_LOOKED_AT: usize = 10_000;
/// Where the two letters stand, in the databases of MaxMind and DB-IP, and in those of IPinfo.
const CODES: [&[PathElement<'static>]; 2] =
    [&[PathElement::Key("country"), PathElement::Key("iso_code")], &[PathElement::Key("country_code")]];

/// A country database.
pub struct Countries {
    file: PathBuf,
    /// By which a change of the file is seen: its length, and when it was written.
    version: Option<(u64, SystemTime)>,
    reader: Reader<Vec<u8>>,
}

/// Why a country database cannot be used.
#[derive(Debug)]
pub enum GeoError {
    /// It is not there, or may not be read.
    Read(PathBuf, std::io::Error),
    /// It is damaged, or something else; the reason.
    Broken(PathBuf, String),
}

impl GeoError {
    /// What is wrong with which file.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::Read(file, error) => {
                format!("the country database {} cannot be read ({error})", file.display())
            }
            Self::Broken(file, reason) => format!("{} is no country database ({reason})", file.display()),
        }
    }

    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Read(..) => {
                "install one in MaxMind's format (GeoLite2-Country.mmdb, for instance) there, name another file, or take \
                 the entries with countries out of the access lists"
            }
            Self::Broken(..) => {
                "get it again, whole and unpacked, in MaxMind's format (GeoLite2-Country.mmdb, for instance)"
            }
        }
    }
}

impl fmt::Display for GeoError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.what(), self.remedy())
    }
}

impl std::error::Error for GeoError {}

impl Countries {
    /// Reads the database in `file`. If `previous` is of the same file, unchanged since, it is used on.
    ///
    /// # Errors
    /// The file cannot be read, or is no country database.
    pub fn open(file: &Path, previous: Option<&Arc<Self>>) -> Result<Arc<Self>, GeoError> {
        let unreadable = |source| GeoError::Read(file.to_owned(), source);
        let facts = fs::metadata(file).map_err(unreadable)?;
        let version = facts.modified().ok().map(|modified| (facts.len(), modified));
        if let Some(previous) = previous
            && previous.file == file
            && previous.version == version
            && version.is_some()
        {
            return Ok(Arc::clone(previous));
        }
        if facts.len() > FILE_MAX {
            return Err(broken(file, format!("it has more than {FILE_MAX} bytes")));
        }
        let bytes = fs::read(file).map_err(unreadable)?;
        Ok(Arc::new(Self { version, ..Self::from_bytes(file, bytes)? }))
    }

    /// A database that is in memory already; `file` is for messages.
    ///
    /// # Errors
    /// It is no country database.
    pub fn from_bytes(file: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Self, GeoError> {
        let file = file.into();
        let reader = Reader::from_source(bytes).map_err(|error| broken(&file, error.to_string()))?;
        let countries = Self { file, version: None, reader };
        match countries.names_one() {
            Ok(true) => Ok(countries),
            Ok(false) => {
                let kind = &countries.reader.metadata().database_type;
                Err(broken(
                    &countries.file,
                    format!("a database of the kind {kind:?}, which names no countries"),
                ))
            }
            Err(error) => Err(broken(&countries.file, error.to_string())),
        }
    }

    /// The country of an address: two capital letters. An IPv4 address within an IPv6 one is looked up as what it is.
    #[must_use]
    pub fn country(&self, address: IpAddr) -> Option<[u8; 2]> {
        let found = self.reader.lookup(address.to_canonical()).ok()?;
        let code: &str = CODES.iter().find_map(|path| found.decode_path(path).ok().flatten())?;
        let code: [u8; 2] = code.as_bytes().try_into().ok()?;
        Some(code.map(|letter| letter.to_ascii_uppercase()))
    }

    /// Whether there is a country in it at all.
    fn names_one(&self) -> Result<bool, MaxMindDbError> {
        for found in self.reader.networks(WithinOptions::default())?.take(NETWORKS_LOOKED_AT) {
            let found = found?;
            for path in CODES {
                // A damaged record is an error here, and no country later.
                if found.decode_path::<&str>(path)?.is_some() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

fn broken(file: &Path, reason: String) -> GeoError {
    GeoError::Broken(file.to_owned(), reason)
}

impl fmt::Debug for Countries {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Countries").field("file", &self.file).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
