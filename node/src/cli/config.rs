//! `cygnet config`.

mod change;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Session;
use super::client::with_query;
use super::exit::{Exit, Outcome, Stop};
use super::from_pen;
use super::output::{Cell, Format, Table, moment, or_dash, printable};
use crate::config::model::{ClusterConfig, NodeConfig};
use crate::config::{self, FileKind, Problem, TEXT_BYTES_MAX};
use crate::control::status::age;
use crate::control::types::{
    ApiError, ConfigDiff, ConfigHistory, ConfigText, ConfigVersion, Confirmation, ErrorCode,
};

/// `cygnet config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check files without a node: node files, a cluster file, or both against each other
    #[command(after_help = "Example: cygnet config check /etc/cygnet/node.toml cluster.toml")]
    Check {
        /// The files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// What a cluster file would change; exits with 3 if anything
    #[command(after_help = "Example: cygnet config diff cluster.toml")]
    Diff {
        /// The cluster file
        file: PathBuf,
    },
    /// Check a cluster file on all nodes, show what it changes, ask, and commit it
    #[command(after_help = "Example: cygnet config apply cluster.toml --comment 'second web server'")]
    Apply(change::ApplyArgs),
    /// The configuration that is running, or an older version
    #[command(after_help = "Example: cygnet config show --version 40 > cluster.toml")]
    Show {
        /// Which version
        #[arg(long, value_name = "N")]
        version: Option<u64>,
    },
    /// The versions that are kept, newest first
    #[command(after_help = "Example: cygnet config history")]
    History,
    /// Make an older text the newest version: checked, shown, asked and committed like any other
    ///
    /// Without VERSION: the one that would come back by itself, or else the one before the running one.
    #[command(after_help = "Example: cygnet config rollback 40 --comment 'the new servers are not ready'")]
    Rollback(change::RollbackArgs),
    /// Keep a version that was applied with --confirm-within
    #[command(after_help = "Example: cygnet config confirm")]
    Confirm {
        /// Which; without it, the one that waits
        version: Option<u64>,
    },
    /// Print the cluster file that does what Pen does, from its files or its command line
    #[command(after_help = "Examples: cygnet config from-pen /etc/pen/www.cfg > cluster.toml\n          \
                            cygnet config from-pen --command-line -- pen -r 80 10.0.0.1:8080 10.0.0.2:8080")]
    FromPen {
        /// Files of Pen's commands, in the order in which they are read
        #[arg(
            value_name = "FILE",
            required_unless_present = "command_line",
            conflicts_with = "command_line"
        )]
        files: Vec<PathBuf>,
        /// Pen's arguments follow after `--`
        #[arg(long)]
        command_line: bool,
        /// Pen's arguments
        #[arg(last = true, value_name = "ARGUMENT", requires = "command_line")]
        arguments: Vec<String>,
    },
}

pub(super) fn run(args: &ConfigArgs, session: &mut Session<'_>) -> Outcome {
    match &args.verb {
        Verb::Check { files } => check(files, session),
        Verb::Diff { file } => diff(file, session),
        Verb::Apply(args) => change::apply(args, session),
        Verb::Rollback(args) => change::rollback(args, session),
        Verb::Confirm { version } => change::confirm(*version, session),
        Verb::Show { version } => show(*version, session),
        Verb::History => history(session),
        Verb::FromPen { files, arguments, .. } => from_pen::run(files, arguments, session),
    }
}

/// Reads a file, but no more of it than a configuration can be long.
pub(super) fn read(path: &Path) -> Result<ConfigText, ApiError> {
    let file = path.display().to_string();
    let fail = |what: &str, remedy: &str| {
        ApiError::new(ErrorCode::Error, format!("cannot read {file}: {what}"), remedy)
    };
    let mut bytes = Vec::new();
    let limit = TEXT_BYTES_MAX as u64 + 1;
    File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|error| fail(&error.to_string(), ""))?;
    if bytes.len() > TEXT_BYTES_MAX {
        return Err(fail(&format!("it has more than {TEXT_BYTES_MAX} bytes"), "a configuration is shorter"));
    }
    let text = String::from_utf8(bytes).map_err(|_| fail("it is not UTF-8 text", "save it as UTF-8"))?;
    Ok(ConfigText { text, file })
}

/// What is good about a file.
#[derive(Serialize)]
struct CheckedFile {
    file: String,
    summary: String,
}

#[derive(Serialize)]
struct CheckedFiles {
    ok: bool,
    files: Vec<CheckedFile>,
}

fn check(paths: &[PathBuf], session: &mut Session<'_>) -> Outcome {
    let mut problems = Vec::new();
    let mut nodes: Vec<(ConfigText, NodeConfig)> = Vec::new();
    let mut clusters: Vec<(ConfigText, ClusterConfig)> = Vec::new();
    let mut files = Vec::new();
    for path in paths {
        let read = read(path)?;
        let good = match config::file_kind(&read.text) {
            FileKind::Node => config::parse_node(&read.text, &read.file).map(|node| {
                let summary = format!("node {} of cluster {}", node.name, node.cluster);
                files.push(CheckedFile { file: read.file.clone(), summary });
                nodes.push((read, node));
            }),
            FileKind::Cluster => config::parse_cluster(&read.text, &read.file).map(|cluster| {
                let (vips, services) = (cluster.vips.len(), cluster.services.len());
                let summary = format!("cluster file, virtual addresses: {vips}, services: {services}");
                files.push(CheckedFile { file: read.file.clone(), summary });
                clusters.push((read, cluster));
            }),
        };
        problems.extend(good.err().unwrap_or_default());
    }
    if clusters.len() > 1 {
        let names: Vec<&str> = clusters.iter().map(|(read, _)| read.file.as_str()).collect();
        let error = format!("{} cluster files: {}", names.len(), names.join(", "));
        return Err(ApiError::new(
            ErrorCode::Usage,
            error,
            "check one at a time, with any number of node files",
        )
        .into());
    }
    for (cluster_read, cluster) in &clusters {
        for (node_read, node) in &nodes {
            problems.extend(check_pair((node_read, node), (cluster_read, cluster)));
        }
    }
    if !problems.is_empty() {
        return Err(ApiError::invalid(problems).into());
    }
    if session.screen.is_json() {
        session.screen.json(&CheckedFiles { ok: true, files })?;
    } else {
        for CheckedFile { file, summary } in files {
            session.screen.line(&format!("{file}: ok, {summary}"))?;
        }
    }
    Ok(Exit::Ok)
}

/// The problems of two files with each other, with their lines.
fn check_pair(node: (&ConfigText, &NodeConfig), cluster: (&ConfigText, &ClusterConfig)) -> Vec<Problem> {
    let mut problems = config::check_pair(node.1, cluster.1);
    for problem in &mut problems {
        config::locate(problem, config::NODE_FILE, &node.0.file, &node.0.text);
        config::locate(problem, config::CLUSTER_FILE, &cluster.0.file, &cluster.0.text);
    }
    problems
}

fn diff(file: &Path, session: &mut Session<'_>) -> Outcome {
    let difference: ConfigDiff = session.client.post("/v1/config/diff", &read(file)?)?;
    if session.screen.is_json() {
        session.screen.json(&difference)?;
    } else {
        print_difference(&difference, session)?;
    }
    Ok(if difference.changed { Exit::Differs } else { Exit::Ok })
}

fn print_difference(difference: &ConfigDiff, session: &mut Session<'_>) -> Result<(), Stop> {
    if !difference.changed {
        session.screen.line(&format!("no difference from v{}", difference.version))?;
        return Ok(());
    }
    if difference.changes.is_empty() {
        session.screen.line(&format!("only comments or layout differ from v{}", difference.version))?;
        return Ok(());
    }
    session.screen.line(&format!("changes to v{}:", difference.version))?;
    for change in &difference.changes {
        session.screen.line(&format!("  {change}"))?;
    }
    Ok(())
}

fn show(version: Option<u64>, session: &mut Session<'_>) -> Outcome {
    let path = with_query("/v1/config", &[("version", version.map(|version| version.to_string()))]);
    let shown: ConfigVersion = session.client.get(&path)?;
    if session.screen.is_json() {
        session.screen.json(&shown)?;
        return Ok(Exit::Ok);
    }
    if session.screen.format == Format::Wide {
        let entry = &shown.entry;
        let head = format!(
            "# v{} by {} at {}: {}",
            entry.version,
            entry.author,
            moment(entry.unix_ms),
            entry.comment
        );
        session.screen.line(&head)?;
    }
    // TOML has no control characters but tab and newline; what else there is was never accepted.
    for line in shown.text.lines() {
        writeln!(session.screen.out, "{}", line.split('\t').map(printable).collect::<Vec<_>>().join("\t"))?;
    }
    Ok(Exit::Ok)
}

fn history(session: &mut Session<'_>) -> Outcome {
    let history: ConfigHistory = session.client.get("/v1/config/history")?;
    if session.screen.is_json() {
        session.screen.json(&history)?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&[">VERSION", "TIME (UTC)", "AUTHOR", "CHANGE", "COMMENT"]);
    for entry in &history.versions {
        table.row(vec![
            Cell::from(format!("v{}", entry.version)),
            Cell::from(moment(entry.unix_ms)),
            Cell::from(&entry.author),
            Cell::from(or_dash(entry.change)),
            Cell::from(&entry.comment),
        ]);
    }
    session.screen.table(&table)?;
    if let Some(waiting) = &history.confirmation {
        session.screen.line("")?;
        session.screen.line(&on_trial(waiting))?;
    }
    Ok(Exit::Ok)
}

/// What becomes of a version that waits for its confirmation.
fn on_trial(waiting: &Confirmation) -> String {
    let Confirmation { version, back_to, left_ms } = waiting;
    format!(
        "v{version} is on trial: v{back_to} comes back in {} unless it is confirmed; cygnet config confirm",
        age(*left_ms)
    )
}
