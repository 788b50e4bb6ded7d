//! What a node keeps beside its log: who it is, and with what it proves it. Written once at `init` or `join`, kept
//! up to date while it runs; every file has mode 0600 and is replaced as a whole.
//!
//! | file | content |
//! |---|---|
//! | `identity.json` | cluster, number, name, the members last known |
//! | `authority.crt` | the cluster's authority |
//! | `authority.key` | its key; not on a witness |
//! | `node.crt`, `node.key` | this node's certificate and key |

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use serde::{Deserialize, Serialize};

use super::authority::{Authority, Who};
use crate::state::MemberRecord;

const IDENTITY: &str = "identity.json";
const AUTHORITY_CERTIFICATE: &str = "authority.crt";
const AUTHORITY_KEY: &str = "authority.key";
const NODE_CERTIFICATE: &str = "node.crt";
const NODE_KEY: &str = "node.key";

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityFile {
    /// Name of the cluster.
    pub cluster: String,
    /// The node's number.
    pub id: u64,
    /// The node's name.
    pub name: String,
    /// It carries no traffic.
    pub witness: bool,
    /// Whether the link to the other nodes is encrypted.
    pub secure: bool,
    /// The members last known, this one included: where to look for the others when the log is lost.
    pub members: Vec<MemberRecord>,
}

/// With what a node proves who it is.
#[derive(Clone)]
pub struct Credentials {
    /// The cluster's authority.
    pub authority: X509,
    /// Its key, where this node has it.
    pub signer: Option<Authority>,
    /// This node's certificate.
    pub certificate: X509,
    /// This node's key.
    pub key: PKey<Private>,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Reading or writing failed.
    #[error("{}: {error}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is not what it should be.
    #[error("{}: {what}; if it cannot be restored, remove this node from the cluster and join it again", file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
}

fn content(file: PathBuf, what: impl ToString) -> CredentialsError {
    CredentialsError::Content { file, what: what.to_string() }
}

/// Replaces a file as a whole.
fn write(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), CredentialsError> {
    let (file, fresh) = (directory.join(name), directory.join(format!("{name}.new")));
    let written = || {
        let _ = fs::remove_file(&fresh);
        let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        new.write_all(bytes)?;
        new.sync_all()?;
        fs::rename(&fresh, &file)?;
        fs::File::open(directory)?.sync_all()
    };
    written().map_err(|error| CredentialsError::File { file: file.clone(), error })
}

fn read(directory: &Path, name: &str) -> Result<Option<Vec<u8>>, CredentialsError> {
    let file = directory.join(name);
    match fs::read(&file) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CredentialsError::File { file, error }),
    }
}

/// Gives the files to whom the directory belongs: `init` and `join` run as root, the node as its own user.
///
/// # Errors
/// The owner cannot be changed.
pub fn give_to_owner(directory: &Path) -> Result<(), CredentialsError> {
    let given = || {
        let owner = fs::metadata(directory)?;
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let now = entry.metadata()?;
            if now.is_file() && (now.uid(), now.gid()) != (owner.uid(), owner.gid()) {
                chown(entry.path(), Some(owner.uid()), Some(owner.gid()))?;
            }
        }
        Ok(())
    };
    given().map_err(|error| CredentialsError::File { file: directory.to_owned(), error })
}

impl IdentityFile {
    /// Reads it; `None` if this node is in no cluster yet.
    ///
    /// # Errors
    /// Unreadable or garbled.
    pub fn load(directory: &Path) -> Result<Option<Self>, CredentialsError> {
        let Some(bytes) = read(directory, IDENTITY)? else { return Ok(None) };
        let identity = serde_json::from_slice(&bytes);
        identity.map(Some).map_err(|error| content(directory.join(IDENTITY), error))
    }

    /// Writes it.
    ///
    /// # Errors
    /// The disk's.
    pub fn save(&self, directory: &Path) -> Result<(), CredentialsError> {
        fs::create_dir_all(directory)
            .map_err(|error| CredentialsError::File { file: directory.to_owned(), error })?;
        write(directory, IDENTITY, &serde_json::to_vec_pretty(self).unwrap_or_default())
    }

    /// Whom the certificate of this node is for.
    #[must_use]
    pub fn who(&self) -> Who {
        Who { cluster: self.cluster.clone(), id: self.id, name: self.name.clone() }
    }
}

impl Credentials {
    /// Reads them.
    ///
    /// # Errors
    /// Missing, unreadable, or not belonging together.
    pub fn load(directory: &Path) -> Result<Self, CredentialsError> {
        let needed =
            |name: &str| read(directory, name)?.ok_or_else(|| content(directory.join(name), "it is missing"));
        let authority_pem = needed(AUTHORITY_CERTIFICATE)?;
        let authority = X509::from_pem(&authority_pem)
            .map_err(|error| content(directory.join(AUTHORITY_CERTIFICATE), error))?;
        let signer = read(directory, AUTHORITY_KEY)?.map(|key| {
            Authority::from_pem(&authority_pem, &key)
                .map_err(|_| content(directory.join(AUTHORITY_KEY), "it is not the key of authority.crt"))
        });
        let certificate = X509::from_pem(&needed(NODE_CERTIFICATE)?)
            .map_err(|error| content(directory.join(NODE_CERTIFICATE), error))?;
        let key = PKey::private_key_from_pem(&needed(NODE_KEY)?)
            .map_err(|error| content(directory.join(NODE_KEY), error))?;
        let fits = certificate.public_key().is_ok_and(|public| public.public_eq(&key));
        if !fits {
            return Err(content(directory.join(NODE_KEY), "it is not the key of node.crt"));
        }
        Ok(Self { authority, signer: signer.transpose()?, certificate, key })
    }

    /// Writes them.
    ///
    /// # Errors
    /// The disk's.
    pub fn save(&self, directory: &Path) -> Result<(), CredentialsError> {
        let internal = |error: openssl::error::ErrorStack| content(directory.to_owned(), error);
        fs::create_dir_all(directory)
            .map_err(|error| CredentialsError::File { file: directory.to_owned(), error })?;
        write(directory, AUTHORITY_CERTIFICATE, &self.authority.to_pem().map_err(internal)?)?;
        if let Some(signer) = &self.signer {
            write(directory, AUTHORITY_KEY, &signer.key_pem().map_err(internal)?)?;
        }
        write(directory, NODE_KEY, &self.key.private_key_to_pem_pkcs8().map_err(internal)?)?;
        write(directory, NODE_CERTIFICATE, &self.certificate.to_pem().map_err(internal)?)
    }

    /// The key that an earlier attempt to join has left behind, or a new one that is left behind for a later one: the
    /// cluster answers the same node twice.
    ///
    /// # Errors
    /// The disk's, or OpenSSL's.
    pub fn key_for_joining(directory: &Path) -> Result<PKey<Private>, CredentialsError> {
        if let Some(pem) = read(directory, NODE_KEY)?
            && let Ok(key) = PKey::private_key_from_pem(&pem)
        {
            return Ok(key);
        }
        fs::create_dir_all(directory)
            .map_err(|error| CredentialsError::File { file: directory.to_owned(), error })?;
        let internal = |error: openssl::error::ErrorStack| content(directory.join(NODE_KEY), error);
        let key = super::authority::new_key().map_err(internal)?;
        write(directory, NODE_KEY, &key.private_key_to_pem_pkcs8().map_err(internal)?)?;
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::consensus::authority::new_key;

    #[test]
    fn credentials_come_back_and_nobody_else_may_read_them() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create("demo").unwrap();
        let key = new_key().unwrap();
        let public = PKey::public_key_from_der(&key.public_key_to_der().unwrap()).unwrap();
        let who = Who { cluster: "demo".into(), id: 1, name: "lb1".into() };
        let certificate = authority.sign(&public, &who, 10).unwrap();
        let made = Credentials {
            authority: authority.certificate.clone(),
            signer: Some(authority),
            certificate,
            key,
        };
        made.save(dir.path()).unwrap();
        let back = Credentials::load(dir.path()).unwrap();
        assert!(back.signer.is_some() && back.key.public_eq(&made.key));
        for file in fs::read_dir(dir.path()).unwrap() {
            let file = file.unwrap();
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
        }
        let other = new_key().unwrap().private_key_to_pem_pkcs8().unwrap();
        fs::write(dir.path().join(NODE_KEY), other).unwrap();
        let error = Credentials::load(dir.path()).err().unwrap().to_string();
        assert!(error.contains("not the key of node.crt") && error.contains("join it again"), "{error}");
    }
}
