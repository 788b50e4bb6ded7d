//! `cygnet config`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Session;
use super::client::with_query;
use super::exit::{Exit, Outcome, Stop};
use super::from_pen;
use super::output::{Cell, Format, Table, moment, printable};
use crate::config::model::{ClusterConfig, NodeConfig};
use crate::config::{self, FileKind, Problem, TEXT_BYTES_MAX};
use crate::control::status::age;
use crate::control::types::{
    ApiError, Applied, ApplyConfig, ConfigChecked, ConfigDiff, ConfigHistory, ConfigText, ConfigVersion,
    ErrorCode, NodeApplied,
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
    Apply(ApplyArgs),
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

#[derive(Debug, Args)]
struct ApplyArgs {
    /// The cluster file
    file: PathBuf,
    /// Refuse unless this version is running
    #[arg(long, value_name = "N")]
    if_version: Option<u64>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Only check and show; exits with 3 if anything would change
    #[arg(long)]
    dry_run: bool,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
}

pub(super) fn run(args: &ConfigArgs, session: &mut Session<'_>) -> Outcome {
    match &args.verb {
        Verb::Check { files } => check(files, session),
        Verb::Diff { file } => diff(file, session),
        Verb::Apply(args) => apply(args, session),
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

fn apply(args: &ApplyArgs, session: &mut Session<'_>) -> Outcome {
    let text = read(&args.file)?;
    let difference: ConfigDiff = session.client.post("/v1/config/diff", &text)?;
    if let Some(expected) = args.if_version.filter(|expected| *expected != difference.version) {
        let error = format!("version {} is running, not {expected}", difference.version);
        return Err(ApiError::new(
            ErrorCode::Refused,
            error,
            "look at `cygnet config diff FILE` and apply again",
        )
        .into());
    }
    if !session.screen.is_json() {
        print_difference(&difference, session)?;
    }
    if args.dry_run {
        return dry_run(&text, &difference, session);
    }
    if difference.changed {
        session.confirm(
            args.yes,
            &format!("apply {} change(s) to v{}?", difference.changes.len(), difference.version),
        )?;
    }
    let change = ApplyConfig {
        text: text.text,
        file: text.file,
        author: session.author.to_owned(),
        comment: args.comment.clone().unwrap_or_default(),
        // What was shown and confirmed is what is applied: a change by somebody else in between is refused.
        if_version: Some(difference.version),
    };
    let applied: Applied = session.client.post("/v1/config/apply", &change)?;
    if session.screen.is_json() {
        session.screen.json(&applied)?;
    } else if applied.changed {
        let nodes: Vec<String> = applied.nodes.iter().map(node_applied).collect();
        session.screen.line(&format!("v{} applied: {}", applied.version, nodes.join(", ")))?;
    }
    Ok(Exit::Ok)
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

fn node_applied(node: &NodeApplied) -> String {
    let version = node.version.map_or_else(|| "unknown".to_owned(), |version| format!("v{version}"));
    let age = node.age_ms.map_or_else(String::new, |ms| format!(" ({} ago)", age(ms)));
    format!("{} {version}{age}", node.node)
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
    let mut table = Table::new(&[">VERSION", "TIME (UTC)", "AUTHOR", "COMMENT"]);
    for entry in &history.versions {
        table.row(vec![
            Cell::from(format!("v{}", entry.version)),
            Cell::from(moment(entry.unix_ms)),
            Cell::from(&entry.author),
            Cell::from(&entry.comment),
        ]);
    }
    session.screen.table(&table)?;
    Ok(Exit::Ok)
}
