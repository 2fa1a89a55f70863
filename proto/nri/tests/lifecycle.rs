// SPDX-License-Identifier: Apache-2.0
//! The stub against runtimes of every generation: the same calls, whatever way the events come.

mod recorder;
mod runtime;

use std::sync::Arc;
use std::time::Duration;

use containerd_nri::adjust::{seccomp_filter, seccomp_rule};
use containerd_nri::api::{self, Event};
use containerd_nri::{Adjustment, End, EventMask, Hook, HookPoint, Identity};
use protobuf::MessageField;
use recorder::{Creation, Recorder};
use runtime::{Framing, Kind, Link, Runtime, within};
use tokio::sync::oneshot;

/// A plugin that runs; dropping `stop` or sending to it stops it.
struct Running {
    plugin: Arc<Recorder>,
    stop: oneshot::Sender<()>,
    end: tokio::task::JoinHandle<End>,
}

fn start(runtime: &Runtime, plugin: Recorder) -> Running {
    let plugin = Arc::new(plugin);
    let (stop, stopped) = oneshot::channel();
    let identity = Identity::new("test", "42").unwrap();
    let socket = runtime.socket();
    let its = plugin.clone();
    let end = tokio::spawn(async move {
        containerd_nri::run(socket, &identity, its, async {
            let _ = stopped.await;
        })
        .await
    });
    Running { plugin, stop, end }
}

async fn established(kind: Kind, plugin: Recorder) -> (Running, Link) {
    let runtime = Runtime::listen();
    let running = start(&runtime, plugin);
    let link = runtime.establish(kind).await;
    (running, link)
}

fn message(error: ttrpc::Error) -> String {
    match error {
        ttrpc::Error::RpcStatus(status) => status.message,
        other => panic!("not an answer of the plugin: {other}"),
    }
}

async fn every_event(kind: Kind) {
    let newer = kind.valid_events() != EventMask::BASE.bits() as i32;
    let (running, link) = established(kind, Recorder::default()).await;
    let registered = link.registered.as_ref().unwrap();
    assert_eq!(
        (
            registered.plugin_name.as_str(),
            registered.plugin_idx.as_str()
        ),
        ("test", "42")
    );
    assert_eq!(link.events, link.kind.valid_events());
    assert_eq!(running.plugin.synchronized.lock().unwrap()[..], [(1, 1)]);

    let mut expected = Vec::new();
    let mut send = async |event, name: &str| {
        link.notify(event).await.unwrap();
        expected.push(name.to_owned());
    };
    send(Event::RUN_POD_SANDBOX, "run_pod_sandbox").await;
    send(Event::POST_CREATE_CONTAINER, "post_create_container").await;
    send(Event::START_CONTAINER, "start_container").await;
    send(Event::POST_START_CONTAINER, "post_start_container").await;
    send(Event::POST_UPDATE_CONTAINER, "post_update_container").await;
    send(Event::REMOVE_CONTAINER, "remove_container").await;
    send(Event::STOP_POD_SANDBOX, "stop_pod_sandbox").await;
    send(Event::REMOVE_POD_SANDBOX, "remove_pod_sandbox").await;
    if newer {
        send(Event::POST_UPDATE_POD_SANDBOX, "post_update_pod_sandbox").await;
    }

    link.create().await.unwrap();
    expected.push("create_container".into());

    let mut update = api::UpdateContainerRequest::new();
    update.pod = MessageField::some(runtime::pod());
    update.container = MessageField::some(runtime::container());
    update
        .linux_resources
        .mut_or_insert_default()
        .pids
        .mut_or_insert_default()
        .limit = 7;
    let response = link
        .plugin
        .update_container(link.context(), &update)
        .await
        .unwrap();
    assert_eq!(response.update[0].linux.resources.pids.limit, 7);
    expected.push("update_container".into());

    let mut stop = api::StopContainerRequest::new();
    stop.pod = MessageField::some(runtime::pod());
    stop.container = MessageField::some(runtime::container());
    let response = link
        .plugin
        .stop_container(link.context(), &stop)
        .await
        .unwrap();
    assert_eq!(response.update[0].container_id, "other");
    expected.push("stop_container".into());

    if newer {
        let mut update = api::UpdatePodSandboxRequest::new();
        update.pod = MessageField::some(runtime::pod());
        let shares = |value| {
            let mut resources = api::LinuxResources::new();
            resources
                .cpu
                .mut_or_insert_default()
                .shares
                .mut_or_insert_default()
                .value = value;
            MessageField::some(resources)
        };
        update.overhead_linux_resources = shares(1);
        update.linux_resources = shares(2);
        link.plugin
            .update_pod_sandbox(link.context(), &update)
            .await
            .unwrap();
        expected.push("update_pod_sandbox".into());

        let mut validate = api::ValidateContainerAdjustmentRequest::new();
        let ask = async |request: &api::ValidateContainerAdjustmentRequest| {
            link.plugin
                .validate_container_adjustment(link.context(), request)
                .await
                .unwrap()
        };
        assert!(!ask(&validate).await.reject);
        validate
            .adjust
            .mut_or_insert_default()
            .annotations
            .insert("bad".into(), String::new());
        let verdict = ask(&validate).await;
        assert!(verdict.reject);
        assert_eq!(verdict.reason, "the annotation \"bad\" is not allowed");
    }

    link.plugin
        .shutdown(link.context(), &api::Empty::new())
        .await
        .unwrap();
    expected.push("shutdown".into());
    assert_eq!(running.plugin.calls(), expected);
    link.close();
    assert!(matches!(
        within(running.end).await.unwrap(),
        End::RuntimeStopped
    ));
}

#[tokio::test]
async fn every_event_of_containerd_1_7() {
    every_event(runtime::containerd_1_7()).await;
}

#[tokio::test]
async fn every_event_of_containerd_2_1() {
    every_event(runtime::containerd_2_1()).await;
}

#[tokio::test]
async fn every_event_of_containerd_2_2() {
    every_event(runtime::containerd_2_2()).await;
}

#[tokio::test]
async fn every_event_of_containerd_2_3() {
    every_event(runtime::containerd_2_3()).await;
}

#[tokio::test]
async fn every_event_in_shreds() {
    for size in [1, 7, 4096] {
        for mut kind in [runtime::containerd_2_1(), runtime::containerd_2_3()] {
            kind.framing = Framing::Shredded(size);
            every_event(kind).await;
        }
    }
}

#[tokio::test]
async fn configured_before_the_registration_is_answered() {
    let mut kind = runtime::containerd_2_1();
    kind.configure_before_reply = true;
    let (running, link) = established(kind, Recorder::default()).await;
    link.create().await.unwrap();
    assert_eq!(running.plugin.calls(), ["create_container"]);
}

#[tokio::test]
async fn the_plugin_learns_who_the_runtime_is() {
    let (running, _link) = established(runtime::containerd_1_7(), Recorder::default()).await;
    let configuration = running
        .plugin
        .configuration
        .lock()
        .unwrap()
        .clone()
        .unwrap();
    assert_eq!(configuration.version.version, "1.7.24~ds1");
    assert!(!configuration.version.can_adjust_seccomp());
    assert_eq!(configuration.config, "drop-in");
    assert_eq!(configuration.request_timeout, Duration::from_secs(2));
    assert_eq!(configuration.registration_timeout, Duration::from_secs(5));
}

#[tokio::test]
async fn an_adjustment_arrives_whole_in_small_frames() {
    let long = "x".repeat(300_000);
    let adjustment = Adjustment::new().annotation("long", &long).hook(
        HookPoint::CreateRuntime,
        Hook {
            path: "/hook".into(),
            ..Hook::default()
        },
    );
    let (_running, link) = established(
        runtime::containerd_2_1(),
        Recorder::creating(Creation::Answer(Box::new(adjustment))),
    )
    .await;
    let response = link.create().await.unwrap();
    assert_eq!(response.adjust.annotations["long"], long);
    assert_eq!(response.adjust.hooks.create_runtime[0].path, "/hook");
    assert_eq!(*link.longest_frame.lock().unwrap(), 4096);
}

#[tokio::test]
async fn a_message_of_almost_4_mib_arrives_in_one_frame() {
    let (running, link) = established(runtime::containerd_2_1(), Recorder::default()).await;
    let mut big = runtime::container();
    big.env.push("x".repeat((4 << 20) - 4096));
    link.synchronize(Vec::new(), vec![big]).await;
    assert_eq!(running.plugin.synchronized.lock().unwrap()[1], (0, 1));
}

#[tokio::test]
async fn a_split_synchronisation_is_one_call() {
    let (running, link) = established(runtime::containerd_2_1(), Recorder::default()).await;
    for (pods, containers, more) in [(3, 2, true), (1, 4, true), (0, 1, false)] {
        let mut request = api::SynchronizeRequest::new();
        request.pods = vec![runtime::pod(); pods];
        request.containers = vec![runtime::container(); containers];
        request.more = more;
        let response = link
            .plugin
            .synchronize(link.context(), &request)
            .await
            .unwrap();
        assert_eq!(response.more, more);
        assert!(response.update.is_empty());
    }
    assert_eq!(
        running.plugin.synchronized.lock().unwrap()[..],
        [(1, 1), (4, 7)]
    );
}

#[tokio::test]
async fn a_refusal_reaches_the_runtime_as_text() {
    let plugin = Recorder::creating(Creation::Refuse("policy demo/p: no BPF on this node"));
    let (_running, link) = established(runtime::containerd_2_1(), plugin).await;
    assert_eq!(
        message(link.create().await.unwrap_err()),
        "policy demo/p: no BPF on this node"
    );
}

#[tokio::test]
async fn a_panic_is_a_refusal_and_the_plugin_lives_on() {
    // Printing the expected panic with its backtrace can take longer than the runtime waits for an answer.
    std::panic::set_hook(Box::new(|_| {}));
    let (running, link) = established(
        runtime::containerd_2_1(),
        Recorder::creating(Creation::Panic),
    )
    .await;
    let text = message(link.create().await.unwrap_err());
    assert!(
        text.contains("the plugin failed in CreateContainer") && text.contains("panicked"),
        "{text}"
    );
    link.notify(Event::START_CONTAINER).await.unwrap();
    assert_eq!(
        running.plugin.calls(),
        ["create_container", "start_container"]
    );
}

#[tokio::test]
async fn a_slow_handler_is_a_refusal_before_the_runtime_gives_up() {
    let mut kind = runtime::containerd_2_1();
    kind.request_timeout = Duration::from_millis(600);
    let (running, link) = established(
        kind,
        Recorder::creating(Creation::Sleep(Duration::from_secs(3))),
    )
    .await;
    let began = std::time::Instant::now();
    let text = message(link.create().await.unwrap_err());
    assert_eq!(
        text,
        "the plugin did not handle CreateContainer within 540 ms"
    );
    assert!(
        began.elapsed() < Duration::from_millis(600),
        "{:?}",
        began.elapsed()
    );
    // And the handler does not go on behind the runtime's back.
    tokio::time::sleep(Duration::from_millis(3000)).await;
    assert_eq!(running.plugin.calls(), ["create_container"]);
}

#[tokio::test]
async fn a_seccomp_filter_that_would_be_lost_is_refused() {
    let adjustment = || {
        let mut filter = seccomp_filter("SCMP_ACT_ALLOW", ["SCMP_ARCH_X86_64".to_owned()]);
        filter.syscalls.push(seccomp_rule(
            ["unshare".to_owned()],
            "SCMP_ACT_ERRNO",
            Some(1),
        ));
        Recorder::creating(Creation::Answer(Box::new(
            Adjustment::new().seccomp(filter),
        )))
    };
    for kind in [runtime::containerd_1_7(), runtime::containerd_2_1()] {
        let (_running, link) = established(kind, adjustment()).await;
        let text = message(link.create().await.unwrap_err());
        assert!(
            text.contains("would drop silently: NRI 0.10 is needed"),
            "{text}"
        );
    }
    for kind in [runtime::containerd_2_2(), runtime::containerd_2_3()] {
        let (_running, link) = established(kind, adjustment()).await;
        let response = link.create().await.unwrap();
        assert_eq!(
            response.adjust.linux.seccomp_policy.syscalls[0].names,
            ["unshare"]
        );
    }
}

#[tokio::test]
async fn unknown_fields_and_events_are_tolerated() {
    let (running, link) = established(runtime::containerd_2_3(), Recorder::default()).await;
    let mut request = api::CreateContainerRequest::new();
    let mut pod = runtime::pod();
    pod.special_fields.mut_unknown_fields().add_varint(9000, 1);
    request.pod = MessageField::some(pod);
    let mut container = runtime::container();
    container.state = protobuf::EnumOrUnknown::from_i32(77);
    container
        .special_fields
        .mut_unknown_fields()
        .add_length_delimited(9001, b"from the future".to_vec());
    request.container = MessageField::some(container);
    link.plugin
        .create_container(link.context(), &request)
        .await
        .unwrap();

    let mut event = api::StateChangeEvent::new();
    event.event = protobuf::EnumOrUnknown::from_i32(99);
    link.plugin
        .state_change(link.context(), &event)
        .await
        .unwrap();
    for event_with_answer in [Event::UNKNOWN, Event::CREATE_CONTAINER] {
        event.event = event_with_answer.into();
        link.plugin
            .state_change(link.context(), &event)
            .await
            .unwrap();
    }
    assert_eq!(running.plugin.calls(), ["create_container"]);
}

#[tokio::test]
async fn events_without_their_subject_are_refused() {
    let (running, link) = established(runtime::containerd_2_1(), Recorder::default()).await;
    let error = link
        .plugin
        .create_container(link.context(), &api::CreateContainerRequest::new())
        .await
        .unwrap_err();
    assert_eq!(message(error), "CreateContainer without a pod");
    let mut event = api::StateChangeEvent::new();
    event.event = Event::START_CONTAINER.into();
    event.pod = MessageField::some(runtime::pod());
    let error = link
        .plugin
        .state_change(link.context(), &event)
        .await
        .unwrap_err();
    assert_eq!(message(error), "start_container without a container");
    assert!(running.plugin.calls().is_empty());
}

#[tokio::test]
async fn a_subscription_that_the_runtime_cannot_serve_is_refused() {
    let runtime = Runtime::listen();
    let plugin = Recorder {
        subscription: EventMask::of(Event::VALIDATE_CONTAINER_ADJUSTMENT),
        ..Recorder::default()
    };
    let running = start(&runtime, plugin);
    let mut link = runtime.accept(runtime::containerd_2_1()).await;
    link.registration().await;
    let text = message(link.configure().await.unwrap_err());
    assert!(
        text.contains("wanted: ValidateContainerAdjustment"),
        "{text}"
    );
    link.close();
    let end = within(running.end).await.unwrap();
    assert!(
        matches!(&end, End::ConfigurationRefused(reason) if reason.contains("none of the events")),
        "{end:?}"
    );
}

#[tokio::test]
async fn the_plugin_calls_the_runtime() {
    let (running, mut link) = established(runtime::containerd_2_1(), Recorder::default()).await;
    let runtime = running
        .plugin
        .configuration
        .lock()
        .unwrap()
        .clone()
        .unwrap()
        .runtime;
    let update = ["there", "gone"]
        .map(|id| containerd_nri::adjust::container_update(id, api::LinuxResources::new()));
    let failed = runtime
        .update_containers(update.to_vec(), Vec::new(), Duration::from_secs(1))
        .await
        .unwrap();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].container_id, "gone");
    assert_eq!(within(link.updates.recv()).await.unwrap().update.len(), 2);
    link.close();
    assert!(matches!(within(running.end).await.unwrap(), End::Closed));
    let error = runtime
        .update_containers(Vec::new(), Vec::new(), Duration::from_secs(1))
        .await;
    assert!(error.is_err());
}

#[tokio::test]
async fn stopping_answers_what_is_under_way() {
    let plugin = Recorder::creating(Creation::Sleep(Duration::from_millis(300)));
    let (running, link) = established(runtime::containerd_2_1(), plugin).await;
    let plugin = running.plugin;
    let creation = async {
        let response = link.create().await.unwrap();
        assert_eq!(response.adjust.annotations["slept"], "yes");
    };
    let stopping = async {
        while plugin.calls().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        running.stop.send(()).unwrap();
        let began = std::time::Instant::now();
        assert!(matches!(within(running.end).await.unwrap(), End::Stopped));
        // The plugin keeps a handle of the runtime, which must not hold up the end.
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{:?}",
            began.elapsed()
        );
    };
    tokio::join!(creation, stopping);
}
