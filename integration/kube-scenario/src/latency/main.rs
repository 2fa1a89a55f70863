// SPDX-License-Identifier: Apache-2.0
//! `kube-latency`: from `kubectl apply` of a change to its enforcement, a hundred times, and the parts of it. On the
//! Kubernetes test bed, which must be up.

mod stub;
mod times;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use kube_scenario::bed::Bed;
use serde_json::{Value, json};

use stub::Stub;
use times::{Place, Times};

const NAMESPACE: &str = "latency";
/// A change that is not seen after this long is counted as never seen.
const LIMIT: Duration = Duration::from_secs(20);

/// Measures how long a change of a policy takes.
#[derive(Parser)]
struct Cli {
    /// The bed's state directory
    #[arg(long, env = "VARMOR_KUBE_STATE", default_value = "target/kube")]
    state: PathBuf,
    /// How many changes
    #[arg(long, default_value_t = 100)]
    changes: u32,
}

fn main() -> ExitCode {
    match measure(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kube-latency: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The number of the change that an object is of: it is in the pattern of one of its rules.
fn change_in(text: &str) -> Option<u32> {
    let rest = text.split_once("/change-")?.1;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The policy at a change: the odd ones refuse to read /etc/shadow.
fn policy(change: u32) -> Value {
    let mut files = vec![
        json!({"pattern": format!("/change-{change}"), "permissions": ["read"], "qualifiers": ["deny"]}),
    ];
    if change % 2 == 1 {
        files.push(
            json!({"pattern": "/etc/shadow", "permissions": ["read"], "qualifiers": ["deny"]}),
        );
    }
    json!({
        "apiVersion": "crd.varmor.org/v1beta1", "kind": "VarmorPolicy", "metadata": {"name": "web", "namespace": NAMESPACE},
        "spec": {
            "target": {"kind": "Pod", "name": "web"},
            "policy": {"enforcer": "BPF", "mode": "EnhanceProtect", "enhanceProtect": {"bpfRawRules": {"files": files}}},
        },
    })
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": NAMESPACE, "labels": {"sandbox.varmor.org/enable": "true"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
            "name": "c", "image": "registry.local/varmor-test:1", "imagePullPolicy": "Never", "command": ["sleep", "100000"],
        }]},
    })
}

/// A process that is ended with its owner.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Calls `each` with every line that kubectl writes.
fn lines(
    bed: &Bed,
    arguments: &[&str],
    mut each: impl FnMut(&str) + Send + 'static,
) -> Result<Guard> {
    let mut child = bed.kubectl_stream(arguments)?;
    let stdout = child.stdout.take().context("kubectl without output")?;
    std::thread::spawn(move || {
        let lines = BufReader::new(stdout).lines().map_while(Result::ok);
        lines.for_each(|line| each(&line));
    });
    Ok(Guard(child))
}

fn watch(bed: &Bed, plural: &str, place: Place, times: &Times) -> Result<Guard> {
    let path = format!("/apis/crd.varmor.org/v1beta1/namespaces/{NAMESPACE}/{plural}?watch=true");
    let times = times.clone();
    lines(bed, &["get", "--raw", &path], move |line| {
        // What kubectl keeps in an annotation is the same text.
        if let Some(change) = change_in(line) {
            times.saw(place, change);
        }
    })
}

/// Tells of each change of the verdict in the container; the loop sleeps without a process of its own.
fn kernel(bed: &Bed, times: &Times) -> Result<Guard> {
    const LOOP: &str = "exec {never}<> <(:); last=; while :; do \
        if { read -r line < /etc/shadow; } 2> /dev/null; then now=0; else now=1; fi; \
        [[ $now = \"$last\" ]] || echo $now; last=$now; read -r -t 0.005 -u $never; done";
    let times = times.clone();
    let mut change = 0;
    let arguments = [
        "--namespace",
        NAMESPACE,
        "exec",
        "web",
        "--",
        "bash",
        "-c",
        LOOP,
    ];
    lines(bed, &arguments, move |_| {
        // The first line is of how it was before.
        times.saw(Place::Kernel, change);
        change += 1;
    })
}

/// policy-sync node on this machine, with a daemon that only notes.
fn native_node(bed: &Bed, times: &Times, directory: &std::path::Path) -> Result<Guard> {
    let socket = directory.join("node.sock");
    let stub = Arc::new(Stub(times.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listener = {
        let _in_it = runtime.enter();
        varmor_node_api::NodeSocket::bind(&socket)?
    };
    std::thread::spawn(move || {
        runtime.block_on(listener.serve(stub, std::future::pending()));
    });
    let kubeconfig = directory.join("kubeconfig");
    std::fs::write(
        &kubeconfig,
        bed.kubeconfig_for("varmor", "policy-sync-node")?,
    )?;
    let child = Command::new(bed.path("policy-sync"))
        .args(["node", "--node-name", "native", "--node-socket"])
        .arg(&socket)
        .env("KUBECONFIG", &kubeconfig)
        .stderr(Stdio::null())
        .spawn()
        .context("policy-sync; see integration/kube/controllers-up")?;
    Ok(Guard(child))
}

fn apply(bed: &Bed, object: &Value) -> Result<Duration> {
    let began = Instant::now();
    bed.kubectl_with(&["apply", "-f", "-"], &object.to_string())
        .output("kubectl apply")?;
    Ok(began.elapsed())
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let began = Instant::now();
    while !is_so() {
        if began.elapsed() > LIMIT * 3 {
            bail!("{what}: not within {} s", LIMIT.as_secs() * 3);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn measure(cli: &Cli) -> Result<()> {
    let bed = Bed::open(&cli.state)?;
    bed.kubectl(&["create", "namespace", NAMESPACE])
        .output("the namespace")?;
    let result = measure_in(&bed, cli.changes);
    bed.kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"]);
    bed.kubectl(&["delete", "armornode", "native", "--ignore-not-found"]);
    result
}

fn measure_in(bed: &Bed, changes: u32) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let times = Times::default();
    apply(bed, &policy(0))?;
    apply(bed, &pod())?;
    bed.kubectl(&[
        "--namespace",
        NAMESPACE,
        "wait",
        "--for=condition=Ready",
        "pod/web",
        "--timeout=100s",
    ])
    .output("the pod")?;
    let _node = native_node(bed, &times, directory.path())?;
    let _policies = watch(bed, "varmorpolicies", Place::Policy, &times)?;
    let _profiles = watch(bed, "armorprofiles", Place::Profile, &times)?;
    let _kernel = kernel(bed, &times)?;
    let all = [Place::Policy, Place::Profile, Place::Daemon, Place::Kernel];
    let is_seen = |change| all.iter().all(|place| times.at(*place, change).is_some());
    until("the beginning is seen everywhere", || is_seen(0))?;
    let mut applies = Vec::new();
    for change in 1..=changes {
        let began = Instant::now();
        applies.push(apply(bed, &policy(change))?);
        while !is_seen(change) && began.elapsed() < LIMIT {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Not in step with anything that is periodic.
        std::thread::sleep(Duration::from_millis(u64::from(change * 37 % 190)));
    }
    println!(
        "{:<72} {:>4} {:>8} {:>8} {:>8}",
        "milliseconds", "n", "p50", "p99", "max"
    );
    println!(
        "{}",
        times::line("kubectl apply, the whole command", applies)
    );
    for (what, from, to) in [
        (
            "event of the policy -> event of its profile (controller)",
            Place::Policy,
            Place::Profile,
        ),
        (
            "event of the profile -> daemon is sent it (policy-sync node)",
            Place::Profile,
            Place::Daemon,
        ),
        (
            "together: event of the policy -> daemon, outside the emulator",
            Place::Policy,
            Place::Daemon,
        ),
        (
            "event of the profile -> kernel of the emulated node",
            Place::Profile,
            Place::Kernel,
        ),
        (
            "together: event of the policy -> kernel of the emulated node",
            Place::Policy,
            Place::Kernel,
        ),
    ] {
        println!("{}", times::line(what, times.between(from, to, changes)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_known_by_its_pattern() {
        for change in [0, 7, 100] {
            assert_eq!(change_in(&policy(change).to_string()), Some(change));
        }
        assert_eq!(change_in("{}"), None);
    }
}
