// SPDX-License-Identifier: Apache-2.0
//! Both sides over a real socket.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use varmor_node_api::api::{self, ObjectResult, Outcome, PolicyRef};
use varmor_node_api::{
    ApiError, BindError, Client, ClientError, Kind, NodeSocket, SUBSCRIBER_BUFFER, Service,
};

/// A daemon that keeps what it was sent.
#[derive(Default)]
struct Daemon {
    applied: Mutex<Vec<api::ApplyRequest>>,
    subscribers: Mutex<Vec<mpsc::Sender<api::Violation>>>,
    told: Mutex<Vec<api::TellRequest>>,
}

#[async_trait]
impl Service for Daemon {
    async fn apply(&self, request: api::ApplyRequest) -> Result<api::ApplyResponse, ApiError> {
        if request.objects.is_empty() {
            return Err(ApiError::new(
                Kind::InvalidArgument,
                "objects: empty, give at least one policy",
            ));
        }
        tokio::time::sleep(Duration::from_millis(request.wait_ms.into())).await;
        let mut response = api::ApplyResponse::new();
        let policy = PolicyRef::of("VarmorPolicy", "demo", "p");
        response
            .results
            .push(ObjectResult::of(0, policy, Outcome::CREATED, ""));
        response.results.push(ObjectResult::of(
            1,
            PolicyRef::new(),
            Outcome::REJECTED,
            "document 2: kind: unknown",
        ));
        self.applied.lock().unwrap().push(request);
        Ok(response)
    }

    async fn delete(&self, request: api::DeleteRequest) -> Result<api::DeleteResponse, ApiError> {
        let mut response = api::DeleteResponse::new();
        for (index, policy) in request.policies.into_iter().enumerate() {
            response
                .results
                .push(ObjectResult::of(index, policy, Outcome::NOT_FOUND, ""));
        }
        Ok(response)
    }

    async fn list(&self, request: api::ListRequest) -> Result<api::ListResponse, ApiError> {
        let mut response = api::ListResponse::new();
        let mut policy = api::PolicyStatus::new();
        policy.policy =
            protobuf::MessageField::some(PolicyRef::of("VarmorPolicy", &request.namespace, "p"));
        response.policies = vec![policy; 1000];
        Ok(response)
    }

    async fn bind(&self, request: api::BindRequest) -> Result<api::BindResponse, ApiError> {
        let message = format!("there is no profile {:?} on this node", request.profile);
        Err(ApiError::new(Kind::NotFound, message))
    }

    async fn status(&self, _: api::StatusRequest) -> Result<api::StatusResponse, ApiError> {
        let mut response = api::StatusResponse::new();
        response.versions.insert("kernel".into(), "6.12.0".into());
        response.counters.mut_or_insert_default().lost = u64::MAX;
        Ok(response)
    }

    async fn tell(&self, request: api::TellRequest) -> Result<api::TellResponse, ApiError> {
        self.told.lock().unwrap().push(request);
        Ok(api::TellResponse::new())
    }

    async fn questions(
        &self,
        _: api::QuestionsRequest,
    ) -> Result<mpsc::Receiver<api::Question>, ApiError> {
        let (sender, receiver) = mpsc::channel(1);
        let mut question = api::Question::new();
        question.pod = "web".into();
        sender.try_send(question).unwrap();
        Ok(receiver)
    }

    async fn violations(
        &self,
        _: api::ViolationsRequest,
    ) -> Result<mpsc::Receiver<api::Violation>, ApiError> {
        let (sender, receiver) = mpsc::channel(SUBSCRIBER_BUFFER);
        self.subscribers.lock().unwrap().push(sender);
        Ok(receiver)
    }
}

struct Running {
    daemon: Arc<Daemon>,
    path: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

fn my_uid() -> u32 {
    fs::metadata("/proc/self").unwrap().uid()
}

fn start_for(uid: u32) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("varmor-nri/node.sock");
    let socket = NodeSocket::bind(&path).unwrap().for_user(uid);
    let daemon = Arc::new(Daemon::default());
    let (stop, stopped) = oneshot::channel::<()>();
    let its = daemon.clone();
    let task = tokio::spawn(async move {
        socket
            .serve(its, async {
                let _ = stopped.await;
            })
            .await;
    });
    Running {
        daemon,
        path,
        stop: Some(stop),
        task,
        _folder: folder,
    }
}

fn start() -> Running {
    start_for(my_uid())
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("nothing happened for 20 s")
}

fn violation(json: &str) -> api::Violation {
    let mut violation = api::Violation::new();
    violation.json = json.into();
    violation
}

#[tokio::test]
async fn every_call() {
    let running = start();
    let client = Client::connect(&running.path).await.unwrap();
    let request = api::ApplyRequest {
        objects: "kind: VarmorPolicy\n---\nkind: Other\n".repeat(1000),
        source: "test".into(),
        ..Default::default()
    };
    let response = client.apply(request.clone()).await.unwrap();
    assert_eq!(running.daemon.applied.lock().unwrap()[..], [request]);
    assert_eq!(response.results[0].policy.title(), "VarmorPolicy demo/p");
    assert_eq!(response.results[0].outcome, Outcome::CREATED.into());
    assert_eq!(response.results[1].message, "document 2: kind: unknown");

    let request = api::DeleteRequest {
        policies: vec![PolicyRef::of("VarmorClusterPolicy", "", "c")],
        ..Default::default()
    };
    let response = client.delete(request).await.unwrap();
    assert_eq!(response.results[0].policy.title(), "VarmorClusterPolicy c");
    assert_eq!(response.results[0].outcome, Outcome::NOT_FOUND.into());

    let request = api::ListRequest {
        namespace: "demo".into(),
        ..Default::default()
    };
    assert_eq!(client.list(request).await.unwrap().policies.len(), 1000);

    let status = client.status(api::StatusRequest::new()).await.unwrap();
    assert_eq!(status.versions["kernel"], "6.12.0");
    assert_eq!(status.counters.lost, u64::MAX);
}

#[tokio::test]
async fn failures_keep_their_kind_and_text() {
    let running = start();
    let client = Client::connect(&running.path).await.unwrap();
    let request = api::BindRequest {
        profile: "varmor-demo-x".into(),
        ..Default::default()
    };
    let ClientError::Answered(error) = client.bind(request).await.unwrap_err() else {
        panic!("not an answer");
    };
    assert_eq!(
        error,
        ApiError::new(
            Kind::NotFound,
            "there is no profile \"varmor-demo-x\" on this node"
        )
    );
    let ClientError::Answered(error) = client.apply(api::ApplyRequest::new()).await.unwrap_err()
    else {
        panic!("not an answer");
    };
    assert_eq!(error.kind, Kind::InvalidArgument);
}

#[tokio::test]
async fn a_request_of_more_than_4_mib_is_an_error_and_no_more() {
    let running = start();
    let client = Client::connect(&running.path).await.unwrap();
    let request = api::ApplyRequest {
        objects: "x".repeat(5 << 20),
        ..Default::default()
    };
    let error = client.apply(request).await.unwrap_err();
    assert!(!matches!(error, ClientError::Closed), "{error}");
    client.status(api::StatusRequest::new()).await.unwrap();
}

#[tokio::test]
async fn calls_of_one_connection_run_at_the_same_time() {
    let running = start();
    let client = Client::connect(&running.path).await.unwrap();
    let slow = api::ApplyRequest {
        objects: "x".into(),
        wait_ms: 2000,
        ..Default::default()
    };
    let began = std::time::Instant::now();
    let (slow, ()) = tokio::join!(client.apply(slow), async {
        client.status(api::StatusRequest::new()).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(1));
    });
    slow.unwrap();
}

#[tokio::test]
async fn pods_are_asked_for_and_told() {
    let running = start();
    let client = Client::connect(&running.path).await.unwrap();
    let mut questions = client.questions().await.unwrap();
    assert_eq!(questions.next().await.unwrap().unwrap().pod, "web");
    assert!(questions.next().await.unwrap().is_none());
    let mut request = api::TellRequest::new();
    request.pods_gone = vec!["u".into()];
    client.tell(request.clone()).await.unwrap();
    assert_eq!(*running.daemon.told.lock().unwrap(), [request]);
}

#[tokio::test]
async fn violations_are_streamed_to_every_subscriber() {
    let running = start();
    let client = Client::connect(&running.path).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..2 {
        streams.push(
            client
                .violations(api::ViolationsRequest::new())
                .await
                .unwrap(),
        );
    }
    let senders = running.daemon.subscribers.lock().unwrap().clone();
    assert_eq!(senders.len(), 2);
    for sender in &senders {
        for number in 0..1000 {
            let mut record = violation(&format!("{{\"n\":{number}}}"));
            record.missed = number;
            sender.try_send(record).unwrap();
        }
    }
    for stream in &mut streams {
        for number in 0..1000 {
            let record = within(stream.next()).await.unwrap().unwrap();
            assert_eq!(
                (record.json, record.missed),
                (format!("{{\"n\":{number}}}"), number)
            );
        }
    }
    // The daemon ends the streams in order.
    drop(senders);
    running.daemon.subscribers.lock().unwrap().clear();
    assert!(within(streams[0].next()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_subscriber_that_goes_away_is_noticed_on_a_quiet_node() {
    let running = start();
    let client = Client::connect(&running.path).await.unwrap();
    let stream = client
        .violations(api::ViolationsRequest::new())
        .await
        .unwrap();
    let sender = running.daemon.subscribers.lock().unwrap()[0].clone();
    assert!(!sender.is_closed());
    drop((client, stream));
    within(sender.closed()).await;
}

#[tokio::test]
async fn other_users_are_thrown_out() {
    let running = start_for(my_uid() + 1);
    let client = Client::connect(&running.path).await.unwrap();
    let error = within(client.status(api::StatusRequest::new()))
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Closed), "{error}");
}

#[tokio::test]
async fn connections_are_limited_and_come_free_again() {
    let running = start();
    let mut clients = Vec::new();
    for _ in 0..64 {
        let client = Client::connect(&running.path).await.unwrap();
        client.status(api::StatusRequest::new()).await.unwrap();
        clients.push(client);
    }
    let one_more = Client::connect(&running.path).await.unwrap();
    assert!(
        within(one_more.status(api::StatusRequest::new()))
            .await
            .is_err()
    );
    clients.clear();
    within(async {
        loop {
            let client = Client::connect(&running.path).await.unwrap();
            if client.status(api::StatusRequest::new()).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn hostile_bytes_end_one_connection_only() {
    use tokio::io::AsyncWriteExt;
    let running = start();
    let client = Client::connect(&running.path).await.unwrap();
    for bytes in [
        vec![0xff; 4096],
        vec![0; 4096],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ] {
        let mut stream = tokio::net::UnixStream::connect(&running.path)
            .await
            .unwrap();
        let _ = stream.write_all(&bytes).await;
    }
    client.status(api::StatusRequest::new()).await.unwrap();
}

#[tokio::test]
async fn the_socket_is_for_its_owner_and_goes_with_the_daemon() {
    let mut running = start();
    let metadata = fs::symlink_metadata(&running.path).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
    let folder = running.path.parent().unwrap();
    assert_eq!(
        fs::metadata(folder).unwrap().permissions().mode() & 0o7777,
        0o700
    );
    assert_eq!(
        fs::read_dir(folder).unwrap().count(),
        1,
        "no temporary name is left"
    );
    let client = Client::connect(&running.path).await.unwrap();
    let mut stream = client
        .violations(api::ViolationsRequest::new())
        .await
        .unwrap();
    running.stop.take().unwrap().send(()).unwrap();
    within(running.task).await.unwrap();
    assert!(!running.path.exists());
    assert!(!matches!(within(stream.next()).await, Ok(Some(_))));
    assert!(
        within(client.status(api::StatusRequest::new()))
            .await
            .is_err()
    );
    let error = Client::connect(&running.path).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sock");
    // What a killed daemon leaves.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let first = NodeSocket::bind(&path).unwrap();
    assert!(matches!(NodeSocket::bind(&path), Err(BindError::InUse(_))));
    drop(first);

    fs::write(&path, "precious").unwrap();
    assert!(matches!(
        NodeSocket::bind(&path),
        Err(BindError::NotASocket(_))
    ));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::remove_file(&path).unwrap();

    // A link to a live socket elsewhere is not a socket.
    let elsewhere = folder.path().join("other.sock");
    let _other = std::os::unix::net::UnixListener::bind(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    assert!(matches!(
        NodeSocket::bind(&path),
        Err(BindError::NotASocket(_))
    ));
}

#[tokio::test]
async fn a_daemon_that_ends_late_leaves_its_successors_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sock");
    let first = NodeSocket::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let second = NodeSocket::bind(&path).unwrap();
    drop(first);
    assert!(path.exists());
    drop(second);
    assert!(!path.exists());
}
