//! One line for every command that changes something: what was asked, by whom, and what came of it. By whom is said twice:
//! as the command says it, and which user it was by the kernel's word.

use axum::extract::connect_info::ConnectInfo;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use cygnet_ha::events::{EventLog, Severity};
use serde::Serialize;

use super::roles::{Caller, ConnectedCaller, changes_something};
use super::router::{Answer, Body, answer, body, refuse, short_line};
use super::types::{
    AUTHOR_BYTES_MAX, Admin, ApiError, ApplyConfig, COMMENT_BYTES_MAX, ConfirmConfig, ErrorCode,
    MemberAction, MemberChange, NewToken, RollBack, SetNode, SetServer, SwitchOver, Upgrade,
};
use crate::config::shortened;

/// The subject and the word of these events.
const COMMAND: &str = "command";

/// A request that changes something.
pub(super) trait Command {
    /// As one would type it; `None`: it only looks what would happen.
    fn words(&self) -> Option<String>;
    /// Whose wish it is, by its own word.
    fn author(&self) -> &str;
    /// Why, in the author's words.
    fn comment(&self) -> &str {
        ""
    }
}

/// On an answer: what was asked.
#[derive(Clone)]
struct Asked {
    words: String,
    author: String,
    comment: String,
}

/// On an answer: why it was not done.
#[derive(Clone)]
pub(super) struct NotDone(pub(super) ErrorCode, pub(super) String);

/// Runs a command, and leaves on the answer what [`note`] writes down.
pub(super) async fn command<C: Command, T: Serialize>(
    request: Body<C>,
    work: impl AsyncFnOnce(C) -> Answer<T>,
) -> Response {
    let command = match body(request).and_then(sound) {
        Ok(command) => command,
        Err(error) => return refuse(error),
    };
    let asked = command.words().map(|words| Asked {
        words,
        author: command.author().to_owned(),
        comment: command.comment().to_owned(),
    });
    let mut response = answer(work(command)).await;
    if let Some(asked) = asked {
        response.extensions_mut().insert(asked);
    }
    response
}

fn sound<C: Command>(command: C) -> Result<C, ApiError> {
    short_line("author", command.author(), AUTHOR_BYTES_MAX)?;
    short_line("comment", command.comment(), COMMENT_BYTES_MAX)?;
    Ok(command)
}

/// Writes commands down. One that has begun is carried to its end, also when whoever asked does not wait for it: what is
/// changed has its line.
pub(super) async fn note(State(events): State<EventLog>, request: Request, next: Next) -> Response {
    if !changes_something(request.method(), request.uri().path()) {
        return next.run(request).await;
    }
    let caller = request.extensions().get::<ConnectInfo<ConnectedCaller>>();
    let caller = caller.and_then(|ConnectInfo(ConnectedCaller(caller))| caller.clone());
    let carried = tokio::spawn(async move {
        let response = next.run(request).await;
        if let Some(asked) = response.extensions().get::<Asked>() {
            write(&events, asked, response.extensions().get(), caller.as_ref());
        }
        response
    });
    carried.await.unwrap_or_else(|error| {
        let error = format!("the command failed inside: {error}");
        refuse(ApiError::new(ErrorCode::Error, error, "see the log of the node"))
    })
}

fn write(events: &EventLog, asked: &Asked, failed: Option<&NotDone>, caller: Option<&Caller>) {
    let Asked { words, author, comment } = asked;
    let (severity, outcome) = match failed {
        None => (Severity::Info, "done".to_owned()),
        Some(NotDone(ErrorCode::TimedOut, error)) => (Severity::Warning, format!("undecided: {error}")),
        Some(NotDone(_, error)) => (Severity::Info, format!("not done: {error}")),
    };
    let user = caller.map_or_else(|| "an unknown user".to_owned(), |caller| format!("user {}", caller.uid()));
    let comment = if comment.is_empty() { String::new() } else { format!(": {comment}") };
    let (what, why) = (format!("cygnet {words}: {outcome}"), format!("by {author} ({user}){comment}"));
    events.record_kind(severity, COMMAND, COMMAND, what, why);
}

impl Command for ApplyConfig {
    fn words(&self) -> Option<String> {
        let force = if self.force { " --force" } else { "" };
        Some(format!("config apply {}{force}", shortened(&self.file)))
    }
    fn author(&self) -> &str {
        &self.author
    }
    fn comment(&self) -> &str {
        &self.comment
    }
}

impl Command for RollBack {
    fn words(&self) -> Option<String> {
        let to = self.version.map_or_else(String::new, |version| format!(" {version}"));
        (!self.dry_run).then(|| format!("config rollback{to}"))
    }
    fn author(&self) -> &str {
        &self.author
    }
    fn comment(&self) -> &str {
        &self.comment
    }
}

impl Command for ConfirmConfig {
    fn words(&self) -> Option<String> {
        Some("config confirm".to_owned())
    }
    fn author(&self) -> &str {
        &self.author
    }
}

impl Command for SetServer {
    fn words(&self) -> Option<String> {
        let (wish, service, server) = (wish(self.admin), shortened(&self.service), shortened(&self.server));
        Some(format!("server {wish} {service} {server}"))
    }
    fn author(&self) -> &str {
        &self.author
    }
}

impl Command for SetNode {
    fn words(&self) -> Option<String> {
        (!self.dry_run).then(|| format!("node {}", wish(self.admin)))
    }
    fn author(&self) -> &str {
        &self.author
    }
    fn comment(&self) -> &str {
        &self.comment
    }
}

impl Command for SwitchOver {
    fn words(&self) -> Option<String> {
        let to = self.to.as_ref().map_or_else(String::new, |to| format!(" --to {}", shortened(to)));
        let vips: String = self.vips.iter().map(|vip| format!(" --vip {}", shortened(vip))).collect();
        (!self.dry_run).then(|| format!("switchover{vips}{to}"))
    }
    fn author(&self) -> &str {
        &self.author
    }
}

impl Command for MemberChange {
    fn words(&self) -> Option<String> {
        let name = shortened(&self.name);
        Some(match self.action {
            MemberAction::Remove => format!("cluster remove {name}"),
            MemberAction::Promote => format!("cluster promote {name}"),
            MemberAction::Transfer => format!("cluster transfer {name}"),
            MemberAction::Recover => "cluster recover".to_owned(),
            MemberAction::Rotate => "cluster rotate-tickets".to_owned(),
        })
    }
    fn author(&self) -> &str {
        &self.author
    }
}

impl Command for NewToken {
    fn words(&self) -> Option<String> {
        Some(format!("token create{}", if self.witness { " --witness" } else { "" }))
    }
    fn author(&self) -> &str {
        &self.author
    }
}

impl Command for Upgrade {
    fn words(&self) -> Option<String> {
        let binary =
            self.binary.as_ref().map_or_else(String::new, |path| format!(" --binary {}", path.display()));
        (!self.dry_run).then(|| format!("upgrade{}", shortened(&binary)))
    }
    fn author(&self) -> &str {
        &self.author
    }
}

fn wish(admin: Admin) -> &'static str {
    match admin {
        Admin::Ready => "ready",
        Admin::Drain => "drain",
    }
}
