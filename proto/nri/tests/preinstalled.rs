// SPDX-License-Identifier: Apache-2.0
//! A plugin that the runtime starts itself: the logger example, over an inherited socket.

mod runtime;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;

use runtime::{Link, within};
use tokio::net::UnixStream;

/// Cargo builds a package's examples along with its tests, next to them.
fn logger() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples/logger");
    assert!(
        path.exists(),
        "{}: run `cargo build -p containerd-nri --examples` first",
        path.display()
    );
    path
}

/// Starts the logger as a runtime would: the socket as descriptor 3, three variables, nothing else.
fn launch(socket: OwnedFd, variables: &[(&str, &str)]) -> tokio::process::Child {
    tokio::process::Command::new("/bin/sh")
        .args(["-c", r#"exec "$0" 3<&0 0</dev/null"#])
        .arg(logger())
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::from(socket))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

const VARIABLES: [(&str, &str); 3] = [
    ("NRI_PLUGIN_NAME", "logger"),
    ("NRI_PLUGIN_IDX", "10"),
    ("NRI_PLUGIN_SOCKET", "3"),
];

#[tokio::test]
async fn serves_over_the_inherited_socket_and_ends_with_it() {
    let (ours, its) = UnixStream::pair().unwrap();
    let child = launch(its.into_std().unwrap().into(), &VARIABLES);
    let mut link = Link::over(ours, runtime::containerd_2_1()).await;
    link.introduce().await;
    let registered = link.registered.as_ref().unwrap();
    assert_eq!(
        (
            registered.plugin_name.as_str(),
            registered.plugin_idx.as_str()
        ),
        ("logger", "10")
    );
    let response = link.create().await.unwrap();
    assert_eq!(response.adjust.annotations["logger.example/seen"], "true");
    link.close();
    let output = within(child.wait_with_output()).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.contains("new container demo/pod/main"),
        "{text}"
    );
    assert!(
        text.ends_with("the runtime closed the connection\n"),
        "{text}"
    );
}

#[tokio::test]
async fn says_what_is_wrong_with_its_environment() {
    for (variable, value, expected) in [
        ("NRI_PLUGIN_SOCKET", "77", "NRI_PLUGIN_SOCKET=\\\"77\\\""),
        ("NRI_PLUGIN_SOCKET", "1", "NRI_PLUGIN_SOCKET=\\\"1\\\""),
        (
            "NRI_PLUGIN_SOCKET",
            "three",
            "NRI_PLUGIN_SOCKET=\\\"three\\\"",
        ),
        ("NRI_PLUGIN_IDX", "7", "Index(\"7\")"),
        ("NRI_PLUGIN_NAME", "a b", "Name(\"a b\")"),
    ] {
        let (_ours, its) = UnixStream::pair().unwrap();
        let mut variables = VARIABLES;
        variables
            .iter_mut()
            .find(|(name, _)| *name == variable)
            .unwrap()
            .1 = value;
        let output = within(launch(its.into_std().unwrap().into(), &variables).wait_with_output())
            .await
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        // `main` prints the Debug form.
        let shown = text.contains(expected) || text.contains(&format!("value: \"{value}\""));
        assert!(
            !output.status.success() && shown,
            "{variable}={value}: {text}"
        );
    }
}
