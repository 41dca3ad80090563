//! The server's side of the operator interface.

use std::fs::{self, DirBuilder, Permissions};
use std::future::Future;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path as Segment, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::base::limits;
use crate::base::pii::Pii;

use super::{Door, OperatorReply, OperatorRequest, socket_path};

/// How often a waiting look at the trace asks again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The listening socket of one data directory; its file goes when it is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    file: Leftover,
}

impl Socket {
    /// Opens `<data>/operator.sock` for the user that runs the server alone (mode 0600). A socket
    /// that is left over is replaced; one that answers is somebody's: an error, as everything
    /// that goes wrong, in one sentence. Needs a tokio runtime.
    pub fn bind(data: &Path) -> Result<Socket, String> {
        let path = socket_path(data);
        let trouble = |what: &str, error: std::io::Error| {
            format!("{}: {what}: {error}: check the data directory", path.display())
        };
        match fs::symlink_metadata(&path) {
            Ok(kind) if !kind.file_type().is_socket() => {
                return Err(format!("{} is not a socket: move it away", path.display()));
            }
            Ok(_) if UnixStream::connect(&path).is_ok() => {
                return Err(format!(
                    "another cpmd runs on {}: stop it, or use another data directory",
                    data.display()
                ));
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(trouble("cannot look at it", error)),
        }
        // Between bind and chmod a socket is open to others: make it where nobody else can go.
        let room = data.join(".operator");
        match DirBuilder::new().mode(0o700).create(&room) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                fs::set_permissions(&room, Permissions::from_mode(0o700))
                    .map_err(|e| trouble("cannot prepare it", e))?;
            }
            Err(error) => return Err(trouble("cannot prepare it", error)),
        }
        let young = room.join("s");
        let listener =
            remove(&young).and_then(|()| UnixListener::bind(&young)).map_err(|error| {
                if error.kind() == ErrorKind::InvalidInput {
                    format!(
                        "{}: the path is too long for a socket: use a shorter --data",
                        path.display()
                    )
                } else {
                    trouble("cannot open it", error)
                }
            })?;
        fs::set_permissions(&young, Permissions::from_mode(0o600))
            .and_then(|()| fs::rename(&young, &path))
            .and_then(|()| fs::remove_dir(&room))
            .map_err(|error| trouble("cannot put it in place", error))?;
        Ok(Socket { listener, file: Leftover(path) })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.0
    }

    /// Answers operators until `stop`.
    pub async fn serve(self, door: Door, stop: impl Future<Output = ()> + Send + 'static) {
        let Socket { listener, file: _file } = self;
        let served = axum::serve(listener, router(door)).with_graceful_shutdown(stop).await;
        if let Err(error) = served {
            tracing::error!(%error, "the operator interface stopped");
        }
    }
}

/// The file of a socket, removed when this is dropped.
#[derive(Debug)]
struct Leftover(PathBuf);

impl Drop for Leftover {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "cannot remove the operator socket");
        }
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewAccount {
    uri: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPassword {
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Look {
    #[serde(default)]
    cursor: u64,
    account: Option<String>,
    call: Option<String>,
    /// Milliseconds to wait for something to show.
    wait: Option<u64>,
}

fn router(door: Door) -> Router {
    let nothing = || async {
        OperatorReply::refused(
            404,
            "no such resource",
            "there are /accounts, /accounts/{uri}, /status and /trace",
        )
    };
    let not_so = || async {
        OperatorReply::refused(
            405,
            "no such method here",
            "GET or POST /accounts, PUT or DELETE /accounts/{uri}, GET /status, GET /trace",
        )
    };
    Router::new()
        .route("/accounts", get(list).post(add))
        .route("/accounts/{uri}", put(passwd).delete(drop_account))
        .route("/status", get(status))
        .route("/trace", get(look))
        .fallback(nothing)
        .method_not_allowed_fallback(not_so)
        .layer(DefaultBodyLimit::max(limits::OPERATOR_BODY_OCTETS_MAX))
        .with_state(door)
}

async fn list(State(door): State<Door>) -> OperatorReply {
    ask(&door, OperatorRequest::AccountList).await
}

async fn add(
    State(door): State<Door>,
    body: Result<Json<NewAccount>, JsonRejection>,
) -> OperatorReply {
    match body {
        Ok(Json(NewAccount { uri, password })) => {
            ask(&door, OperatorRequest::AccountAdd { uri, password: Pii(password) }).await
        }
        Err(error) => {
            unreadable(&error, "{\"uri\": \"sip:alice@a.example\", \"password\": \"...\"}")
        }
    }
}

async fn passwd(
    State(door): State<Door>,
    Segment(uri): Segment<String>,
    body: Result<Json<NewPassword>, JsonRejection>,
) -> OperatorReply {
    match body {
        Ok(Json(NewPassword { password })) => {
            ask(&door, OperatorRequest::AccountPasswd { uri, password: Pii(password) }).await
        }
        Err(error) => unreadable(&error, "{\"password\": \"...\"}"),
    }
}

async fn drop_account(State(door): State<Door>, Segment(uri): Segment<String>) -> OperatorReply {
    ask(&door, OperatorRequest::AccountRemove { uri }).await
}

async fn status(State(door): State<Door>) -> OperatorReply {
    ask(&door, OperatorRequest::Status).await
}

/// A long poll: answers as soon as there is something, or empty after the wait.
async fn look(
    State(door): State<Door>,
    query: Result<Query<Look>, QueryRejection>,
) -> OperatorReply {
    let Query(look) = match query {
        Ok(look) => look,
        Err(error) => {
            return OperatorReply::refused(
                400,
                error.body_text(),
                "use cursor=NUMBER, account=URI, call=ID, wait=MILLISECONDS",
            );
        }
    };
    let wait = look.wait.map_or(limits::TRACE_WAIT, Duration::from_millis).min(limits::TRACE_WAIT);
    // tokio's clock: this floor may look at one.
    let end = Instant::now() + wait;
    let mut cursor = look.cursor;
    loop {
        let request = OperatorRequest::TraceSince {
            cursor,
            account: look.account.clone(),
            call: look.call.clone(),
            max: limits::TRACE_LOOK_MAX,
        };
        let reply = ask(&door, request).await;
        let OperatorReply::Trace { lines, next } = &reply else { return reply };
        if !lines.is_empty() || Instant::now() >= end {
            return reply;
        }
        if cursor == *next {
            sleep(LOOK_AGAIN).await;
        }
        cursor = *next;
    }
}

/// Asks the server loop.
async fn ask(door: &Door, request: OperatorRequest) -> OperatorReply {
    let (answer, answered) = oneshot::channel();
    if let Err(error) = door.try_send((request, answer)) {
        return match error {
            tokio::sync::mpsc::error::TrySendError::Full(_) => {
                OperatorReply::refused(503, "the server is busy", "try again")
            }
            tokio::sync::mpsc::error::TrySendError::Closed(_) => stopping(),
        };
    }
    match timeout(limits::OPERATOR_WAIT, answered).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(_)) => stopping(),
        Err(_) => OperatorReply::refused(
            504,
            "the server does not answer",
            "look with `cpmd account list` whether it was done",
        ),
    }
}

fn stopping() -> OperatorReply {
    OperatorReply::refused(503, "the server is stopping", "start it again")
}

fn unreadable(error: &JsonRejection, example: &str) -> OperatorReply {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let why = format!("more than {} octets were sent", limits::OPERATOR_BODY_OCTETS_MAX);
        return OperatorReply::refused(413, why, format!("send {example}"));
    }
    OperatorReply::refused(
        error.status().as_u16(),
        error.body_text(),
        format!("send Content-Type: application/json and {example}"),
    )
}

impl IntoResponse for OperatorReply {
    fn into_response(self) -> Response {
        let status = match &self {
            OperatorReply::Refused(refusal) => {
                StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
            _ => StatusCode::OK,
        };
        (status, Json(self)).into_response()
    }
}
