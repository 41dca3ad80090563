//! The command line's side of the operator interface.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::base::limits;

use super::{OperatorReply, OperatorRequest, socket_path};

/// Speaks to the server that runs on one data directory.
#[derive(Clone, Debug)]
pub struct Client {
    data: PathBuf,
}

impl Client {
    /// For the server with this data directory. Nothing is opened yet.
    #[must_use]
    pub fn new(data: &Path) -> Client {
        Client { data: data.to_owned() }
    }

    /// Asks once. A refusal is an answer; the error says in one sentence what to do where there
    /// is no answer. A [`OperatorRequest::TraceSince`] waits up to [`limits::TRACE_WAIT`].
    pub async fn ask(&self, request: &OperatorRequest) -> Result<OperatorReply, String> {
        let path = socket_path(&self.data);
        let stream = UnixStream::connect(&path).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => format!(
                "no server at {}: start it with `cpmd dev --data {}`",
                path.display(),
                self.data.display()
            ),
            std::io::ErrorKind::PermissionDenied => format!(
                "{}: not for this user: run it as the user that runs the server",
                path.display()
            ),
            _ => format!("{}: {error}: check --data", path.display()),
        })?;
        let lost = |error: &dyn std::fmt::Display| {
            format!("{}: {error}: look whether the server still runs", path.display())
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| lost(&error))?;
        let (method, target, body) = http(request);
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("Host", "cpmd")
            .header("Content-Type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| lost(&error))?;
        let exchange = tokio::time::timeout(limits::OPERATOR_ANSWER_WAIT, async {
            let answer = sender.send_request(request).await.map_err(|error| lost(&error))?;
            Limited::new(answer.into_body(), limits::OPERATOR_ANSWER_OCTETS_MAX)
                .collect()
                .await
                .map_err(|error| lost(&error))
        });
        // The exchange goes on only while the connection is polled beside it.
        tokio::pin!(exchange, connection);
        let mut open = true;
        let body = loop {
            tokio::select! {
                body = &mut exchange => break body.map_err(|_| lost(&"no answer"))??,
                _ = &mut connection, if open => open = false,
            }
        };
        serde_json::from_slice(&body.to_bytes())
            .map_err(|_| format!("{}: not the answer of a cpmd of this version", path.display()))
    }
}

/// Method, target and body of a request.
fn http(request: &OperatorRequest) -> (Method, String, String) {
    let account = |uri: &str| format!("/accounts/{}", escape(uri));
    match request {
        OperatorRequest::AccountAdd { uri, password } => (
            Method::POST,
            "/accounts".to_owned(),
            serde_json::json!({"uri": uri, "password": password.0}).to_string(),
        ),
        OperatorRequest::AccountList => (Method::GET, "/accounts".to_owned(), String::new()),
        OperatorRequest::AccountPasswd { uri, password } => {
            (Method::PUT, account(uri), serde_json::json!({"password": password.0}).to_string())
        }
        OperatorRequest::AccountRemove { uri } => (Method::DELETE, account(uri), String::new()),
        OperatorRequest::Status => (Method::GET, "/status".to_owned(), String::new()),
        OperatorRequest::TraceSince { cursor, account, call, .. } => {
            let mut target = format!("/trace?cursor={cursor}");
            for (name, value) in [("account", account), ("call", call)] {
                if let Some(value) = value {
                    target.push_str(&format!("&{name}={}", escape(value)));
                }
            }
            (Method::GET, target, String::new())
        }
    }
}

/// Percent-encodes all but the unreserved characters (RFC 3986 §2.3).
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            escaped.push(char::from(octet));
        } else {
            escaped.push_str(&format!("%{octet:02X}"));
        }
    }
    escaped
}
