//! The verbs that change the cluster's configuration.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::super::Session;
use super::super::exit::{Exit, Outcome, Stop};
use super::{on_trial, print_difference, read};
use crate::control::status::{Status, age};
use crate::control::types::{
    ApiError, Applied, ApplyConfig, ConfigChecked, ConfigConfirmed, ConfigDiff, ConfigText, ConfirmConfig,
    ErrorCode, NodeApplied, RollBack, RolledBack,
};
use crate::control::{nodes, not_too_much};

/// How long `--wait` waits by itself, seconds: a node takes a version up in milliseconds, and one that starts in some seconds.
const WAIT_SECONDS: &str = "30";
/// How often it looks.
const LOOK: Duration = Duration::from_millis(200);

/// `cygnet config apply`.
#[derive(Debug, Args)]
pub(super) struct ApplyArgs {
    /// The cluster file
    file: PathBuf,
    /// Only check and show; exits with 3 if anything would change
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    how: How,
}

/// `cygnet config rollback`.
#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    /// The version whose text is to run again
    version: Option<u64>,
    #[command(flatten)]
    how: How,
}

// How a change is made. No doc comment: clap would take it for the help of the whole command.
#[derive(Debug, Args)]
struct How {
    /// Refuse unless this version is running
    #[arg(long, value_name = "N")]
    if_version: Option<u64>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// The version before comes back by itself after this time, unless `cygnet config confirm` is run
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    confirm_within: Option<Duration>,
    /// Also if it removes more than half of the virtual addresses, services or servers
    #[arg(long)]
    force: bool,
    /// Wait until all nodes that can be reached run it, 30 s if no other time is given; exits with 7 and their names if some
    /// do not
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = WAIT_SECONDS)]
    wait: Option<u64>,
}

impl How {
    fn confirm_within_ms(&self) -> Option<u64> {
        self.confirm_within.map(|within| u64::try_from(within.as_millis()).unwrap_or(u64::MAX))
    }
}

pub(super) fn apply(args: &ApplyArgs, session: &mut Session<'_>) -> Outcome {
    let (text, how) = (read(&args.file)?, &args.how);
    let difference: ConfigDiff = session.client.post("/v1/config/diff", &text)?;
    if let Some(expected) = how.if_version.filter(|expected| *expected != difference.version) {
        let error = format!("version {} is running, not {expected}", difference.version);
        let remedy = "look at `cygnet config diff FILE` and apply again";
        return Err(ApiError::new(ErrorCode::Refused, error, remedy).into());
    }
    if !session.screen.is_json() {
        print_difference(&difference, session)?;
    }
    if !how.force {
        not_too_much(&difference.excessive)?;
    }
    if args.dry_run {
        return dry_run(&text, &difference, session);
    }
    if difference.changed {
        let count = difference.changes.len();
        session.confirm(how.yes, &format!("apply {count} change(s) to v{}?", difference.version))?;
    }
    let change = ApplyConfig {
        text: text.text,
        file: text.file,
        author: session.author.to_owned(),
        comment: how.comment.clone().unwrap_or_default(),
        // What was shown and confirmed is what is applied: a change by somebody else in between is refused.
        if_version: Some(difference.version),
        confirm_within_ms: how.confirm_within_ms(),
        force: how.force,
    };
    let applied: Applied = session.client.post("/v1/config/apply", &change)?;
    finish(applied, how, session)
}

fn dry_run(text: &ConfigText, difference: &ConfigDiff, session: &mut Session<'_>) -> Outcome {
    let checked: ConfigChecked = session.client.post("/v1/config/check", text)?;
    let objections: Vec<String> = checked
        .peers
        .iter()
        .filter_map(|peer| {
            peer.objection.as_ref().map(|objection| format!("{} cannot run it: {objection}", peer.node))
        })
        .collect();
    if !objections.is_empty() {
        return Err(ApiError::new(ErrorCode::Refused, objections.join("; "), "").into());
    }
    if session.screen.is_json() {
        session.screen.json(difference)?;
    } else {
        for peer in checked.peers.iter().filter(|peer| !peer.reached) {
            session.screen.line(&format!("{} could not be asked", peer.node))?;
        }
        session.screen.line("nothing was changed (dry run)")?;
    }
    Ok(if difference.changed { Exit::Differs } else { Exit::Ok })
}

pub(super) fn rollback(args: &RollbackArgs, session: &mut Session<'_>) -> Outcome {
    let how = &args.how;
    let mut wish = RollBack {
        version: args.version,
        author: session.author.to_owned(),
        comment: how.comment.clone().unwrap_or_default(),
        if_version: how.if_version,
        confirm_within_ms: how.confirm_within_ms(),
        force: how.force,
        dry_run: true,
    };
    let RolledBack { back_to, difference, .. } = session.client.post("/v1/config/rollback", &wish)?;
    if !session.screen.is_json() {
        print_difference(&difference, session)?;
    }
    let question = format!("go back to v{back_to}, as v{}?", difference.version + 1);
    session.confirm(how.yes, &question)?;
    // What was shown and confirmed is what is done.
    (wish.version, wish.if_version, wish.dry_run) = (Some(back_to), Some(difference.version), false);
    let rolled: RolledBack = session.client.post("/v1/config/rollback", &wish)?;
    match rolled.applied {
        Some(applied) => finish(applied, how, session),
        None => Err(ApiError::new(ErrorCode::Error, "the node only looked at it", "").into()),
    }
}

pub(super) fn confirm(version: Option<u64>, session: &mut Session<'_>) -> Outcome {
    let wish = ConfirmConfig { version, author: session.author.to_owned() };
    let confirmed: ConfigConfirmed = session.client.post("/v1/config/confirm", &wish)?;
    if session.screen.is_json() {
        session.screen.json(&confirmed)?;
    } else {
        session.screen.line(&format!("v{} is confirmed", confirmed.version))?;
    }
    Ok(Exit::Ok)
}

/// Waits if that was asked for, and says who runs it.
fn finish(mut applied: Applied, how: &How, session: &mut Session<'_>) -> Outcome {
    if let Some(seconds) = how.wait {
        wait(&mut applied, Duration::from_secs(seconds), session)?;
    }
    if session.screen.is_json() {
        session.screen.json(&applied)?;
        return Ok(Exit::Ok);
    }
    if applied.changed || how.wait.is_some() {
        let nodes: Vec<String> = applied.nodes.iter().map(node_applied).collect();
        let word = if applied.changed { "applied" } else { "runs" };
        session.screen.line(&format!("v{} {word}: {}", applied.version, nodes.join(", ")))?;
    }
    if !applied.unasked.is_empty() {
        let names = applied.unasked.join(", ");
        session.screen.line(&format!(
            "could not be asked: {names}; it follows when it is back, and its status says if it cannot"
        ))?;
    }
    if let Some(waiting) = &applied.confirmation {
        session.screen.line(&on_trial(waiting))?;
    }
    Ok(Exit::Ok)
}

/// Looks again and again who runs it, until all that can be reached do.
fn wait(applied: &mut Applied, patience: Duration, session: &mut Session<'_>) -> Result<(), Stop> {
    let deadline = Instant::now() + patience;
    loop {
        let status: Status = session.client.get("/v1/status")?;
        applied.nodes = nodes(&status.facts);
        let runs = |node: &NodeApplied| node.version.is_some_and(|version| version >= applied.version);
        let behind = applied.nodes.iter().filter(|node| node.connected && !runs(node));
        let behind: Vec<String> = behind.map(node_applied).collect();
        if behind.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let (version, seconds) = (applied.version, patience.as_secs());
            let error =
                format!("v{version} is committed, but after {seconds} s not run by {}", behind.join(", "));
            let remedy = "see `cygnet status` and `cygnet events` there";
            return Err(ApiError::new(ErrorCode::TimedOut, error, remedy).into());
        }
        std::thread::sleep(LOOK);
    }
}

/// `lb2 v42 (120ms ago)`.
fn node_applied(node: &NodeApplied) -> String {
    let version = node.version.map_or_else(|| "unknown".to_owned(), |version| format!("v{version}"));
    let age = node.age_ms.map_or_else(String::new, |ms| format!(" ({} ago)", age(ms)));
    let gone = if node.connected { "" } else { ", not connected" };
    format!("{} {version}{age}{gone}", node.node)
}
