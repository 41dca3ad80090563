//! Client and server over a real Unix socket, with a door that a test answers.

use std::os::unix::fs::PermissionsExt;

use tempfile::tempdir;
use tokio::sync::oneshot;

use super::*;

fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test);
}

/// A server on `data` whose door is answered by `answer`; stops when the sender is dropped.
fn server(
    data: &Path,
    answer: impl Fn(OperatorRequest) -> OperatorReply + Send + 'static,
) -> (oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let (door, mut visits) = door();
    let (stop, stopped) = oneshot::channel::<()>();
    let socket = Socket::bind(data).unwrap();
    tokio::spawn(async move {
        while let Some((request, reply)) = visits.recv().await {
            reply.send(answer(request)).ok();
        }
    });
    let serving = tokio::spawn(socket.serve(door, async {
        stopped.await.ok();
    }));
    (stop, serving)
}

#[test]
fn every_request_arrives_as_it_was_meant_and_its_answer_comes_back() {
    run(async {
        let data = tempdir().unwrap();
        // What arrives is told back as the reason of a refusal.
        let tell = |request| OperatorReply::refused(409, format!("{request:?}"), "nothing");
        let (_stop, _serving) = server(data.path(), tell);
        let client = Client::new(data.path());
        let uri = "sip:a%lice+x@a.example".to_owned();
        let requests = [
            OperatorRequest::AccountAdd { uri: uri.clone(), password: Pii("ä\"?".into()) },
            OperatorRequest::AccountList,
            OperatorRequest::AccountPasswd { uri: uri.clone(), password: Pii("ä".into()) },
            OperatorRequest::AccountRemove { uri: uri.clone() },
            OperatorRequest::Status,
            OperatorRequest::TraceSince {
                cursor: u64::MAX,
                account: Some(uri),
                call: Some("a&b=c d@1".into()),
                max: limits::TRACE_LOOK_MAX,
            },
        ];
        for request in requests {
            let reply = client.ask(&request).await.unwrap();
            let OperatorReply::Refused(refusal) = reply else { panic!("{reply:?}") };
            assert_eq!(refusal.why, format!("{request:?}"));
            assert_eq!((refusal.status, refusal.fix.as_str()), (409, "nothing"));
        }
    });
}

#[test]
fn every_reply_comes_back_equal() {
    let line = Line { number: 7, start: "200 OK".into(), ..Line::default() };
    let replies = [
        OperatorReply::Done,
        OperatorReply::Accounts {
            accounts: vec![AccountLine { uri: "sip:b@b".into(), ..AccountLine::default() }],
        },
        OperatorReply::Status(Box::new(Status { bindings: 3, ..Status::default() })),
        OperatorReply::Trace { lines: vec![line], next: 8 },
    ];
    for reply in replies {
        run(async {
            let data = tempdir().unwrap();
            let told = reply.clone();
            let (_stop, _serving) = server(data.path(), move |_| told.clone());
            let heard = Client::new(data.path()).ask(&OperatorRequest::Status).await;
            assert_eq!(heard, Ok(reply));
        });
    }
}

#[test]
fn a_look_goes_on_until_there_is_something_to_show() {
    run(async {
        let data = tempdir().unwrap();
        let (_stop, _serving) = server(data.path(), |request| {
            let OperatorRequest::TraceSince { cursor, .. } = request else { panic!("{request:?}") };
            let lines = if cursor == 128 { vec![Line::default()] } else { Vec::new() };
            OperatorReply::Trace { lines, next: cursor + 64 }
        });
        let look = OperatorRequest::TraceSince { cursor: 0, account: None, call: None, max: 64 };
        let reply = Client::new(data.path()).ask(&look).await.unwrap();
        assert_eq!(reply, OperatorReply::Trace { lines: vec![Line::default()], next: 192 });
    });
}

#[test]
fn the_socket_is_private_and_goes_with_the_server() {
    run(async {
        let data = tempdir().unwrap();
        let path = socket_path(data.path());
        let (stop, serving) = server(data.path(), |_| OperatorReply::Done);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 1, "no other file is left");

        let second = Socket::bind(data.path()).unwrap_err();
        assert!(second.contains("another cpmd runs"), "{second}");
        let client = Client::new(data.path());
        assert_eq!(client.ask(&OperatorRequest::Status).await, Ok(OperatorReply::Done));

        drop(stop);
        serving.await.unwrap();
        assert!(!path.exists());
    });
}

#[test]
fn a_socket_that_is_left_over_is_replaced_and_another_file_is_not() {
    run(async {
        let data = tempdir().unwrap();
        let path = socket_path(data.path());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let no_server = Client::new(data.path()).ask(&OperatorRequest::Status).await.unwrap_err();
        assert!(no_server.contains("start it with `cpmd dev --data"), "{no_server}");
        drop(Socket::bind(data.path()).unwrap());
        assert!(!path.exists());

        std::fs::write(&path, "mine").unwrap();
        assert!(Socket::bind(data.path()).unwrap_err().contains("not a socket"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    });
}

#[test]
fn no_server_no_data_directory() {
    run(async {
        let client = Client::new(Path::new("/nonexistent/data"));
        let error = client.ask(&OperatorRequest::AccountList).await.unwrap_err();
        assert_eq!(
            error,
            "no server at /nonexistent/data/operator.sock: \
             start it with `cpmd dev --data /nonexistent/data`"
        );
    });
}

#[test]
fn a_door_that_is_shut_is_told() {
    run(async {
        let data = tempdir().unwrap();
        let (door, visits) = door();
        drop(visits);
        let socket = Socket::bind(data.path()).unwrap();
        tokio::spawn(socket.serve(door, std::future::pending()));
        let reply = Client::new(data.path()).ask(&OperatorRequest::Status).await.unwrap();
        let OperatorReply::Refused(refusal) = reply else { panic!("{reply:?}") };
        assert_eq!(refusal.status, 503);
    });
}

#[test]
fn a_body_that_is_too_large_is_refused_before_it_is_read() {
    run(async {
        let data = tempdir().unwrap();
        let (_stop, _serving) = server(data.path(), |_| OperatorReply::Done);
        let password = "x".repeat(limits::OPERATOR_BODY_OCTETS_MAX);
        let add = OperatorRequest::AccountAdd { uri: "sip:a@b".into(), password: Pii(password) };
        let reply = Client::new(data.path()).ask(&add).await.unwrap();
        let OperatorReply::Refused(refusal) = reply else { panic!("{reply:?}") };
        assert_eq!(refusal.status, 413);
        assert_eq!(refusal.why, "more than 16384 octets were sent");
    });
}
