//! Whom we believe when a peer shows a certificate.

use std::path::{Path, PathBuf};

use openssl::error::ErrorStack;
use openssl::stack::Stack;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::{X509, X509Name};

use super::credentials::{add_directory, certificates};
use super::error::ContextError;

/// Authorities from a file (PEM), a directory of hashed names, or both.
pub(super) struct Authorities {
    /// Those of the file.
    pub(super) members: Vec<X509>,
    pub(super) directory: Option<PathBuf>,
}

impl Authorities {
    pub(super) fn load(file: Option<&Path>, directory: Option<&Path>) -> Result<Self, ContextError> {
        let members = file.map(certificates).transpose()?.unwrap_or_default();
        let authorities = Self { members, directory: directory.map(Path::to_owned) };
        if let Some(file) = file {
            authorities.members().map_err(|stack| ContextError::refused(file, &stack))?;
        }
        Ok(authorities)
    }

    fn members(&self) -> Result<X509StoreBuilder, ErrorStack> {
        let mut store = X509StoreBuilder::new()?;
        for member in &self.members {
            store.add_cert(member.clone())?;
        }
        Ok(store)
    }

    /// All of them, to check certificates with.
    pub(super) fn store(&self) -> Result<X509Store, ContextError> {
        let mut store = self.members()?;
        if let Some(directory) = &self.directory {
            add_directory(&mut store, directory)?;
        }
        Ok(store.build())
    }

    /// The names that a client is told, so that it finds the right certificate.
    pub(super) fn names(&self) -> Result<Stack<X509Name>, ErrorStack> {
        let mut names = Stack::new()?;
        for member in &self.members {
            names.push(member.subject_name().to_owned()?)?;
        }
        Ok(names)
    }
}
