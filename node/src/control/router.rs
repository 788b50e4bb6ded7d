//! The routes: what is asked becomes calls of [`NodeApi`], what comes back becomes JSON.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Json, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

use super::api::NodeApi;
use super::audit::{NotDone, command};
use super::status::Status;
use super::types::{
    ApiError, CLIENTS_PAGE_MAX, Clients, ClientsQuery, DRAIN_LISTED_MAX, DrainQuery, EVENTS_PAGE_MAX,
    ErrorCode, EventsQuery, MemberChange, NewToken, Reply, ServerView, Servers, SetNode, SetServer,
    SwitchOver, TOKEN_SECONDS_MAX, Upgrade, Vips, Why,
};
use super::{configuration, drain, switchover, why};
use crate::config::{TEXT_BYTES_MAX, shortened};

/// Largest request in bytes: the longest configuration, written as JSON, with room for its escapes.
pub const BODY_BYTES_MAX: usize = 4 * TEXT_BYTES_MAX;
/// How long one request may take, checks of the peers and the commit included.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(45);

pub(super) type Answer<T> = Result<T, ApiError>;

/// The API over a node.
pub fn router<A: NodeApi>(api: Arc<A>) -> Router {
    Router::new()
        .route("/v1/status", get(status::<A>))
        .route("/v1/vips", get(vips::<A>))
        .merge(configuration::routes::<A>())
        .route("/v1/servers", get(servers::<A>).post(set_server::<A>))
        .route("/v1/cluster/members", get(members::<A>).post(change_members::<A>))
        .route("/v1/cluster/tokens", post(create_token::<A>))
        .route("/v1/cluster/recovery", get(recovery::<A>))
        .route("/v1/clients", get(clients::<A>))
        .route("/v1/events", get(events::<A>))
        .route("/v1/cluster/events", get(cluster_events::<A>))
        .route("/v1/node", post(set_node::<A>))
        .route("/v1/switchover", post(switch_over::<A>))
        .route("/v1/drain", get(drains::<A>))
        .route("/v1/upgrade", post(upgrade::<A>))
        .route("/v1/why", get(why::<A>))
        .fallback(async || reply(Err::<(), _>(not_found("no such resource"))))
        .method_not_allowed_fallback(async || reply(Err::<(), _>(usage("this method is not allowed here"))))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(api)
}

pub(super) fn usage(error: impl Into<String>) -> ApiError {
    ApiError::new(
        ErrorCode::Usage,
        error,
        "the API is described in cygnet(1); is the command of another version?",
    )
}

fn not_found(error: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::NotFound, error, "")
}

/// Runs a request within its time, and writes the answer.
pub(super) async fn answer<T: Serialize>(work: impl Future<Output = Answer<T>>) -> Response {
    let late = || {
        let error = format!("the node did not answer within {} s", REQUEST_TIME_MAX.as_secs());
        ApiError::new(ErrorCode::TimedOut, error, "it may still happen: look with `cygnet status`")
    };
    reply(tokio::time::timeout(REQUEST_TIME_MAX, work).await.unwrap_or_else(|_| Err(late())))
}

/// An answer without a question that was looked at.
pub(super) fn refuse(error: ApiError) -> Response {
    reply(Err::<(), _>(error))
}

fn reply<T: Serialize>(answer: Answer<T>) -> Response {
    match answer {
        Ok(body) => Json(Reply::new(body)).into_response(),
        Err(error) => {
            let not_done = NotDone(error.code, error.error.clone());
            let mut response = (http_status(error.code), Json(Reply::new(error))).into_response();
            response.extensions_mut().insert(not_done);
            response
        }
    }
}

fn http_status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::Error | ErrorCode::Unreachable => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::Usage => StatusCode::BAD_REQUEST,
        ErrorCode::Forbidden => StatusCode::FORBIDDEN,
        ErrorCode::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::NoQuorum => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::Refused => StatusCode::CONFLICT,
        ErrorCode::TimedOut => StatusCode::GATEWAY_TIMEOUT,
    }
}

pub(super) type Body<T> = Result<Json<T>, JsonRejection>;
pub(super) type Params<T> = Result<Query<T>, QueryRejection>;

pub(super) fn body<T>(body: Body<T>) -> Answer<T> {
    body.map(|Json(body)| body).map_err(|rejection| usage(rejection.body_text()))
}

pub(super) fn params<T>(params: Params<T>) -> Answer<T> {
    params.map(|Query(params)| params).map_err(|rejection| usage(rejection.body_text()))
}

async fn status<A: NodeApi>(State(api): State<Arc<A>>) -> Response {
    answer(async { api.facts().await.map(Status::of) }).await
}

async fn vips<A: NodeApi>(State(api): State<Arc<A>>) -> Response {
    answer(async { api.vips().await.map(|vips| Vips { vips }) }).await
}

/// Texts that end up in everyone's history are short and stay on their line.
pub(super) fn short_line(what: &str, text: &str, bytes_max: usize) -> Answer<()> {
    if text.len() > bytes_max {
        let error = format!("the {what} has {} bytes, and {bytes_max} is the limit", text.len());
        return Err(ApiError::new(ErrorCode::Usage, error, "shorten it"));
    }
    if text.contains(char::is_control) {
        return Err(ApiError::new(
            ErrorCode::Usage,
            format!("the {what} has control characters"),
            "write one line",
        ));
    }
    Ok(())
}

/// Whose servers to show.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhichService {
    service: Option<String>,
}

async fn servers<A: NodeApi>(State(api): State<Arc<A>>, which: Params<WhichService>) -> Response {
    answer(async {
        let which = params(which)?.service;
        let mut servers = api.servers().await?;
        if let Some(service) = which {
            known_service(&servers, &service)?;
            servers.retain(|server| server.service == service);
        }
        Ok(Servers { servers })
    })
    .await
}

async fn set_server<A: NodeApi>(State(api): State<Arc<A>>, request: Body<SetServer>) -> Response {
    command(request, async |change: SetServer| {
        known_server(&api.servers().await?, &change.service, &change.server)?;
        api.set_server(change.clone()).await?;
        Ok(change)
    })
    .await
}

async fn members<A: NodeApi>(State(api): State<Arc<A>>) -> Response {
    answer(async { api.members().await }).await
}

async fn change_members<A: NodeApi>(State(api): State<Arc<A>>, request: Body<MemberChange>) -> Response {
    command(request, async |change| api.change_members(change).await).await
}

async fn create_token<A: NodeApi>(State(api): State<Arc<A>>, request: Body<NewToken>) -> Response {
    command(request, async |new: NewToken| {
        if new.ttl_s == 0 || new.ttl_s > TOKEN_SECONDS_MAX {
            let error = format!("a token lives 1 to {TOKEN_SECONDS_MAX} s, not {}", new.ttl_s);
            return Err(ApiError::new(ErrorCode::Usage, error, "choose another --ttl"));
        }
        api.create_token(new).await
    })
    .await
}

async fn recovery<A: NodeApi>(State(api): State<Arc<A>>) -> Response {
    answer(async { api.recovery().await }).await
}

/// Says which services there are, unless this is one.
fn known_service(servers: &[ServerView], service: &str) -> Answer<()> {
    if servers.iter().any(|server| server.service == service) {
        return Ok(());
    }
    let mut services: Vec<&str> = servers.iter().map(|server| server.service.as_str()).collect();
    services.dedup();
    let services = if services.is_empty() { "none".to_owned() } else { services.join(", ") };
    let error = format!("no service {}", shortened(service));
    Err(ApiError::new(ErrorCode::NotFound, error, format!("there are: {services}")))
}

/// Finds a server, or says which there are.
pub(crate) fn known_server<'s>(
    servers: &'s [ServerView],
    service: &str,
    name: &str,
) -> Answer<&'s ServerView> {
    known_service(servers, service)?;
    let of_service = || servers.iter().filter(|server| server.service == service);
    of_service().find(|server| server.name == name).ok_or_else(|| {
        let names: Vec<&str> = of_service().map(|server| server.name.as_str()).collect();
        let error = format!("service {service} has no server {}", shortened(name));
        ApiError::new(ErrorCode::NotFound, error, format!("it has: {}", names.join(", ")))
    })
}

async fn clients<A: NodeApi>(State(api): State<Arc<A>>, query: Params<ClientsQuery>) -> Response {
    let work = async {
        let mut query = params(query)?;
        query.limit = Some(query.limit.unwrap_or(CLIENTS_PAGE_MAX).clamp(1, CLIENTS_PAGE_MAX));
        let page: Clients = api.clients(query).await?;
        Ok(page)
    };
    answer(work).await
}

async fn events<A: NodeApi>(State(api): State<Arc<A>>, query: Params<EventsQuery>) -> Response {
    answer(async { api.events(page_of_events(query)?).await }).await
}

async fn cluster_events<A: NodeApi>(State(api): State<Arc<A>>, query: Params<EventsQuery>) -> Response {
    answer(async { api.cluster_events(page_of_events(query)?).await }).await
}

fn page_of_events(query: Params<EventsQuery>) -> Answer<EventsQuery> {
    let query = params(query)?;
    let limit = Some(query.limit.unwrap_or(EVENTS_PAGE_MAX).clamp(1, EVENTS_PAGE_MAX));
    Ok(EventsQuery { limit, ..query })
}

async fn set_node<A: NodeApi>(State(api): State<Arc<A>>, request: Body<SetNode>) -> Response {
    command(request, async |change: SetNode| {
        let mut answer = drain::consequences(&api.facts().await?, &change)?;
        if !change.dry_run {
            answer.changed = api.set_node(change).await?;
        }
        Ok(answer)
    })
    .await
}

async fn switch_over<A: NodeApi>(State(api): State<Arc<A>>, request: Body<SwitchOver>) -> Response {
    command(request, async |wish: SwitchOver| {
        switchover::allow(&api.facts().await?, &wish)?;
        api.switch_over(wish).await
    })
    .await
}

async fn upgrade<A: NodeApi>(State(api): State<Arc<A>>, request: Body<Upgrade>) -> Response {
    command(request, async |wish: Upgrade| {
        if wish.binary.as_ref().is_some_and(|path| !path.is_absolute()) {
            let error = "the path of the program must begin with a slash";
            let remedy = "the node has a working directory of its own";
            return Err(ApiError::new(ErrorCode::Usage, error, remedy));
        }
        api.upgrade(wish).await
    })
    .await
}

async fn drains<A: NodeApi>(State(api): State<Arc<A>>, query: Params<DrainQuery>) -> Response {
    answer(async {
        let limit = params(query)?.limit.unwrap_or(DRAIN_LISTED_MAX);
        api.drains(limit.min(DRAIN_LISTED_MAX)).await
    })
    .await
}

/// Whose story to tell.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhichVip {
    vip: Option<String>,
}

async fn why<A: NodeApi>(State(api): State<Arc<A>>, which: Params<WhichVip>) -> Response {
    let work = async {
        let which = params(which)?.vip;
        let facts = api.facts().await?;
        let stories = why::stories(&facts, which.as_deref());
        if let (Some(name), true) = (&which, stories.is_empty()) {
            let names: Vec<&str> = facts.vips.iter().map(|vip| vip.name.as_str()).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let error = format!("no virtual address {}", shortened(name));
            return Err(ApiError::new(ErrorCode::NotFound, error, format!("there are: {names}")));
        }
        Ok(Why { node: facts.node, stories })
    };
    answer(work).await
}
