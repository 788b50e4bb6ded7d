//! The programs under test: Cygnet and those that it stands beside.

pub mod cygnet;
pub mod keepalived;
pub mod ucarp;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::enter;

/// Writes a configuration file of a node and gives its path.
pub(crate) fn write_config(name: &str, text: &str) -> Result<PathBuf> {
    let path = Path::new(enter::FILES).join(name);
    std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    Ok(path)
}
