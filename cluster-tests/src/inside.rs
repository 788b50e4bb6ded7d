//! Tasks of a test whose sockets are a node's: a runtime in its network namespace.

use std::fs::File;
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::{Builder, Runtime};

/// A runtime with one thread, which lives in `node`. What is to open sockets there has to be spawned on it: whoever waits for it
/// stays where it is.
///
/// # Errors
/// If there is no such node.
pub fn runtime(node: &str) -> Result<Runtime> {
    let space = File::open(format!("/run/netns/{node}")).with_context(|| format!("no node {node}"))?;
    let enter = move || {
        let entered = move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network));
        assert!(entered.is_ok(), "cannot enter the node: {entered:?}");
    };
    Ok(Builder::new_multi_thread().worker_threads(1).enable_all().on_thread_start(enter).build()?)
}
