//! Who may look, and who may change something: by the user and the groups of whoever connects, as the kernel says them
//! (SO_PEERCRED and SO_PEERGROUPS, unix(7)).

use std::sync::Arc;

use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use axum::serve::IncomingStream;
use cygnet_netlink::account;
use tokio::net::UnixStream;

use super::router::refuse;
use super::socket::Limited;
use super::types::{ApiError, ErrorCode};

/// Requests that change nothing although they have a body.
const LOOKS: [&str; 2] = ["/v1/config/check", "/v1/config/diff"];

/// Whoever is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    uid: u32,
    /// All of its groups.
    gids: Vec<u32>,
}

impl Caller {
    /// The user, by number.
    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    /// `None`: the kernel does not say; then it is nobody.
    pub(super) fn of(stream: &UnixStream) -> Option<Self> {
        let credentials = stream.peer_cred().ok()?;
        let mut gids = account::peer_groups(stream).unwrap_or_default();
        gids.push(credentials.gid());
        Some(Self { uid: credentials.uid(), gids })
    }
}

/// Somebody, or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A user, by number.
    User(u32),
    /// The members of a group, by number.
    Group(u32),
    /// All users of this machine.
    Everybody,
}

impl Who {
    fn is(self, caller: &Caller) -> bool {
        match self {
            Self::User(uid) => caller.uid == uid,
            Self::Group(gid) => caller.gids.contains(&gid),
            Self::Everybody => true,
        }
    }
}

/// What callers may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// Besides root and the user of this program: who may change something.
    pub operators: Vec<Who>,
    /// Who may look.
    pub readers: Vec<Who>,
}

/// What one caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Nobody,
    Reader,
    Operator,
}

impl Roles {
    /// `own`: the user of this program, who could do everything anyway, as root could.
    fn role(&self, caller: &Caller, own: u32) -> Role {
        let any = |list: &[Who]| list.iter().any(|who| who.is(caller));
        if caller.uid == 0 || caller.uid == own || any(&self.operators) {
            Role::Operator
        } else if any(&self.readers) {
            Role::Reader
        } else {
            Role::Nobody
        }
    }
}

/// What a request needs.
fn needed(method: &Method, path: &str) -> Role {
    let looks = [Method::GET, Method::HEAD].contains(method) || LOOKS.contains(&path);
    if looks { Role::Reader } else { Role::Operator }
}

/// Whether a request is more than a look.
pub(super) fn changes_something(method: &Method, path: &str) -> bool {
    needed(method, path) == Role::Operator
}

impl Connected<IncomingStream<'_, Limited>> for ConnectedCaller {
    fn connect_info(stream: IncomingStream<'_, Limited>) -> Self {
        stream.remote_addr().clone()
    }
}

/// As it comes with a connection.
#[derive(Clone, Debug)]
pub(super) struct ConnectedCaller(pub(super) Option<Caller>);

/// Lets a request pass, or says who may ask for it.
pub(super) async fn check(State(roles): State<Arc<Roles>>, request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<ConnectInfo<ConnectedCaller>>();
    let caller = caller.and_then(|ConnectInfo(ConnectedCaller(caller))| caller.clone());
    let role = caller.as_ref().map_or(Role::Nobody, |caller| roles.role(caller, account::own_user()));
    if role >= needed(request.method(), request.uri().path()) {
        return next.run(request).await;
    }
    let who = caller.map_or_else(|| "whoever this is".to_owned(), |caller| format!("user {}", caller.uid));
    let (what, list) = match role {
        Role::Nobody => ("neither look nor change anything here", "readers"),
        _ => ("look, but change nothing", "operators"),
    };
    let error = format!("{who} may {what}");
    let remedy =
        format!("ask an operator, or add the user or a group of it to `{list}` in [roles] of the node file");
    refuse(ApiError::new(ErrorCode::Forbidden, error, remedy))
}

#[cfg(test)]
impl Caller {
    /// This very process, as `id` has it.
    pub(super) fn own() -> (u32, Vec<u32>) {
        let id = |what: &str| {
            let output = std::process::Command::new("id").arg(what).output().expect("id runs");
            let words = String::from_utf8_lossy(&output.stdout).into_owned();
            words.split_whitespace().map(|word| word.parse().expect("a number")).collect::<Vec<u32>>()
        };
        (id("-u")[0], id("-G"))
    }

    pub(super) fn parts(&self) -> (u32, Vec<u32>) {
        let mut gids = self.gids.clone();
        gids.sort_unstable();
        gids.dedup();
        (self.uid, gids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(uid: u32, gids: &[u32]) -> Caller {
        Caller { uid, gids: gids.to_vec() }
    }

    #[test]
    fn operators_change_readers_look_and_others_do_neither() {
        let roles = Roles {
            operators: vec![Who::User(1000), Who::Group(50)],
            readers: vec![Who::Group(60), Who::User(1001)],
        };
        let role = |uid, gids| roles.role(&caller(uid, gids), 900);
        assert_eq!([role(1000, &[1]), role(7, &[1, 50]), role(7, &[60, 50])], [Role::Operator; 3]);
        assert_eq!([role(1001, &[]), role(7, &[1, 60])], [Role::Reader; 2]);
        assert_eq!(role(7, &[1000]), Role::Nobody, "a group is not the user of the same number");
        assert_eq!([role(0, &[]), role(900, &[])], [Role::Operator; 2], "root, and the program's own user");
    }

    #[test]
    fn everybody_may_be_let_in_to_look() {
        let roles = Roles { operators: Vec::new(), readers: vec![Who::Everybody] };
        assert_eq!(roles.role(&caller(7, &[]), 900), Role::Reader);
    }

    #[test]
    fn only_what_changes_nothing_is_for_readers() {
        assert_eq!(needed(&Method::GET, "/v1/status"), Role::Reader);
        for path in LOOKS {
            assert_eq!(needed(&Method::POST, path), Role::Reader);
        }
        for (method, path) in
            [(Method::POST, "/v1/config/apply"), (Method::POST, "/v1/switchover"), (Method::DELETE, "/")]
        {
            assert_eq!(needed(&method, path), Role::Operator);
        }
    }
}
