//! A program that seems to take over from a node (`cygnet upgrade`), and then does not. It speaks as little of the hand-over as that
//! takes: a length in four bytes, and JSON.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde_json::{Value, json};

/// A longer word is none.
const WORD_MAX: usize = 2 << 20;

/// What it does instead of taking over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum End {
    /// Hangs before it says anything.
    Hangs,
    /// Refuses when it knows what it is to take over.
    Refuses,
    /// Speaks an older level of the hand-over.
    Old,
    /// Ends when it has everything: the log is its own by then.
    Dies,
    /// Hangs then.
    HangsAtLast,
}

/// Its whole life; standard input is the socket to the node.
///
/// # Errors
/// If the node does not speak with it as with a new program, or [`End::Dies`].
pub fn run(end: End) -> Result<()> {
    let mut node = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    if end == End::Hangs {
        return silence(&mut node);
    }
    let level = u32::from(end != End::Old);
    say(
        &mut node,
        &json!({"here": {"level": level, "program": {"version": "9.9.9", "pid": std::process::id()}}}),
    )?;
    wait(&mut node, "state")?;
    if end == End::Refuses {
        return say(&mut node, &json!({"refused": {"why": "it is Friday"}}));
    }
    say(&mut node, &json!("prepared"))?;
    wait(&mut node, "go")?;
    match end {
        End::HangsAtLast => silence(&mut node),
        _ => bail!("dies as it was told to"),
    }
}

/// Says nothing until the node has closed the connection.
fn silence(node: &mut UnixStream) -> Result<()> {
    std::io::copy(node, &mut std::io::sink())?;
    Ok(())
}

fn say(node: &mut UnixStream, word: &Value) -> Result<()> {
    let body = word.to_string();
    node.write_all(&u32::try_from(body.len())?.to_be_bytes())?;
    Ok(node.write_all(body.as_bytes())?)
}

/// Reads words, without what comes with them, until this one.
fn wait(node: &mut UnixStream, name: &str) -> Result<()> {
    loop {
        let mut header = [0; 4];
        node.read_exact(&mut header).context("the node has closed the connection")?;
        let length = usize::try_from(u32::from_be_bytes(header))?;
        ensure!(length <= WORD_MAX, "a word of {length} bytes");
        let mut body = vec![0; length];
        node.read_exact(&mut body)?;
        let word: Value = serde_json::from_slice(&body)?;
        if word.get(name).is_some() {
            return Ok(());
        }
        ensure!(word.get("abort").is_none(), "{word}");
    }
}
