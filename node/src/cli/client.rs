//! The other end of the API: one request, one connection, bounded in time and size.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

use crate::control::REQUEST_TIME_MAX;
use crate::control::types::{ApiError, ErrorCode, Reply, SCHEMA};

/// How long to wait for an answer to a question.
const READ_TIME_MAX: Duration = Duration::from_secs(10);
/// How long to wait for a change: a little longer than the node itself waits, so that its word comes first.
const WRITE_TIME_MAX: Duration = Duration::from_secs(REQUEST_TIME_MAX.as_secs() + 5);
/// Largest answer in bytes: a full page of anything is far smaller.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Asks one node.
pub(super) struct Client {
    socket: PathBuf,
    runtime: Runtime,
}

impl Client {
    pub(super) fn new(socket: &Path) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { socket: socket.to_path_buf(), runtime })
    }

    /// Runs something else that talks over the network.
    pub(super) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.ask(Method::GET, path, Bytes::new(), READ_TIME_MAX)
    }

    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ApiError> {
        let body = serde_json::to_vec(body).map_err(|error| {
            ApiError::new(ErrorCode::Error, format!("cannot write the request: {error}"), "")
        })?;
        self.ask(Method::POST, path, body.into(), WRITE_TIME_MAX)
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        time: Duration,
    ) -> Result<T, ApiError> {
        let late = || {
            let error = format!("{} did not answer within {} s", self.socket.display(), time.as_secs());
            ApiError::new(ErrorCode::TimedOut, error, "the node hangs or is overloaded: see its log")
        };
        let work = within(time, exchange(&self.socket, method, path, body));
        let (status, bytes) = self.runtime.block_on(work).ok_or_else(late)??;
        if status.is_success() {
            return decode::<Reply<T>>(&bytes).map(|reply| reply.body);
        }
        Err(decode::<Reply<ApiError>>(&bytes).map_or_else(|undecodable| undecodable, |reply| reply.body))
    }
}

async fn within<T>(time: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(time, work).await.ok()
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let remedy = format!("this command speaks schema {SCHEMA}; is the node of another version?");
        ApiError::new(ErrorCode::Error, format!("the node's answer cannot be read: {error}"), remedy)
    })
}

async fn exchange(
    socket: &Path,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<(hyper::StatusCode, Bytes), ApiError> {
    let stream = UnixStream::connect(socket).await.map_err(|error| unreachable(socket, &error))?;
    let broken = |error: hyper::Error| {
        let error = format!("the connection to {} broke: {error}", socket.display());
        ApiError::new(ErrorCode::Error, error, "the node may have ended: see its log")
    };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "cygnet")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|error| ApiError::new(ErrorCode::Error, format!("cannot ask for {path}: {error}"), ""))?;
    // What ends the connection also ends the request, which says so.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    let bytes = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|error| {
        ApiError::new(
            ErrorCode::Error,
            format!("the node's answer ended early: {error}"),
            "see the node's log",
        )
    })?;
    Ok((status, bytes.to_bytes()))
}

fn unreachable(socket: &Path, error: &io::Error) -> ApiError {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "only root and the socket's group may use it: `sudo`, or join the group"
        }
        _ => "is it running (`systemctl status cygnet`)? Another socket: --api PATH or CYGNET_API",
    };
    let what = format!("cannot reach the node at {}: {error}", socket.display());
    ApiError::new(ErrorCode::Unreachable, what, remedy)
}

/// A path with a query; values that are `None` are left out.
pub(super) fn with_query(path: &str, query: &[(&str, Option<String>)]) -> String {
    let mut whole = path.to_owned();
    for (key, value) in query {
        if let Some(value) = value {
            whole.push(if whole.contains('?') { '&' } else { '?' });
            whole.push_str(&format!("{key}={}", encoded(value)));
        }
    }
    whole
}

/// Percent-encodes all but the unreserved characters (RFC 3986 section 2.3).
fn encoded(value: &str) -> String {
    value.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(byte.into());
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_encoded() {
        let query = [("service", Some("w b&ü".to_owned())), ("after", None), ("limit", Some("3".to_owned()))];
        assert_eq!(with_query("/v1/clients", &query), "/v1/clients?service=w%20b%26%C3%BC&limit=3");
        assert_eq!(with_query("/v1/clients", &[("after", None)]), "/v1/clients");
    }
}
