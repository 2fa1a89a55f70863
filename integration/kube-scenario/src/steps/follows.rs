// SPDX-License-Identifier: Apache-2.0
//! `follows`: an address of a service or of pods comes or goes, and connections from a pod are refused, or are not any
//! more, soon after the API server has told of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::Value as Json;
use serde_yaml::Value;

use super::{Kind, pod};
use crate::run::Context;

/// How long the API server may take to tell of the change: containers are started or ended for it.
const EVENT: Duration = Duration::from_secs(60);

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
enum Address {
    /// It comes; from then on it is refused.
    Joins,
    /// It goes; from then on nobody refuses it.
    Leaves,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Follows {
    /// The label of pods (KEY=VALUE), or the name of a service.
    of: String,
    /// What is done with kubectl.
    change: String,
    address: Address,
    /// The pod that connects.
    r#in: String,
    port: u16,
    /// Seconds after the API server's event.
    within: f32,
}

/// Reads the step.
pub fn read(value: Value) -> Result<(Box<dyn Kind>, String)> {
    let follows: Follows = super::fields(value)?;
    let said = format!(
        "{}: an address of {} {:?}",
        follows.change, follows.of, follows.address
    );
    Ok((Box::new(follows), said))
}

impl Kind for Follows {
    fn run(&self, context: &mut Context) -> Result<String> {
        let mut watch = Watch::start(context, &self.of)?;
        let mut client = Client::start(context, &self.r#in, self.port)?;
        watch.settle();
        let before = watch.addresses();
        let words: Vec<&str> = self.change.split_whitespace().collect();
        context.kubectl(&words).output("kubectl")?;
        let (address, told) = watch
            .changed(&before, self.address)
            .with_context(|| format!("before: {before:?}"))?;
        let limit = told + Duration::from_secs_f32(self.within);
        loop {
            let asked = Instant::now();
            let answer = client.connect(&address)?;
            let is_refused = matches!(answer.as_str(), "EPERM" | "EACCES");
            if is_refused == (self.address == Address::Joins) {
                // The kernel decides at the beginning of the call, which may then wait for an answer.
                let took = asked.duration_since(told).as_secs_f32();
                if asked > limit {
                    bail!("{address}: {answer} only after {took:.2} s");
                }
                return Ok(format!("{address}: {answer} {took:.2} s after the event"));
            }
            if asked > limit + Duration::from_secs(20) {
                bail!(
                    "{address}: still {answer} after {:.1} s",
                    told.elapsed().as_secs_f32()
                );
            }
        }
    }

    fn is_needed(&self) -> bool {
        false
    }
}

/// The API server's events about pods with a label, or about a service's endpoints.
struct Watch {
    child: Child,
    events: Receiver<(Instant, Json)>,
    objects: BTreeMap<String, BTreeSet<String>>,
}

impl Watch {
    fn start(context: &Context, of: &str) -> Result<Self> {
        let namespace = context.namespace;
        let path = match of.split_once('=') {
            Some((key, value)) => {
                format!(
                    "/api/v1/namespaces/{namespace}/pods?watch=true&labelSelector={key}%3D{value}"
                )
            }
            None => format!(
                "/apis/discovery.k8s.io/v1beta1/namespaces/{namespace}/endpointslices?watch=true\
                 &labelSelector=kubernetes.io%2Fservice-name%3D{of}"
            ),
        };
        let mut child = context.bed.kubectl_stream(&["get", "--raw", &path])?;
        let stdout = child.stdout.take().context("kubectl without output")?;
        let (sender, events) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let Ok(event) = serde_json::from_str(&line) else {
                    continue;
                };
                if sender.send((Instant::now(), event)).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            child,
            events,
            objects: BTreeMap::new(),
        })
    }

    fn take(&mut self, event: &Json) {
        let object = &event["object"];
        let name = object["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if event["type"] == "DELETED" {
            self.objects.remove(&name);
            return;
        }
        let of_slice = object["endpoints"].as_array().into_iter().flatten();
        let of_slice = of_slice.flat_map(|one| one["addresses"].as_array().into_iter().flatten());
        let found = of_slice.chain([&object["status"]["podIP"]]);
        let found = found.filter_map(|one| one.as_str().map(str::to_owned));
        self.objects.insert(name, found.collect());
    }

    /// Takes what there is already.
    fn settle(&mut self) {
        while let Ok((_, event)) = self.events.recv_timeout(Duration::from_secs(1)) {
            self.take(&event);
        }
    }

    fn addresses(&self) -> BTreeSet<String> {
        self.objects.values().flatten().cloned().collect()
    }

    /// The address that came or went, and when the API server said so.
    fn changed(
        &mut self,
        before: &BTreeSet<String>,
        address: Address,
    ) -> Result<(String, Instant)> {
        let until = Instant::now() + EVENT;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok((at, event)) = self.events.recv_timeout(left) else {
                bail!("the API server tells of no address that {address:?} (joins or leaves)");
            };
            self.take(&event);
            let now = self.addresses();
            let mut changed = match address {
                Address::Joins => now.difference(before),
                Address::Leaves => before.difference(&now),
            };
            if let Some(address) = changed.next() {
                return Ok((address.clone(), at));
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A loop in a pod that connects to what it is told, and says what the kernel answered.
struct Client {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Client {
    fn start(context: &Context, which: &str, port: u16) -> Result<Self> {
        let pod = pod(context, which)?;
        let line = format!(
            "while read -r address; do probe tcp-connect $address:{port} 2> /dev/null | sed 's/^ERRNO //; s/:.*//'; done"
        );
        let mut child = context.bed.kubectl_stream(&[
            "--namespace",
            context.namespace,
            "exec",
            "-i",
            &pod,
            "--",
            "sh",
            "-c",
            &line,
        ])?;
        let requests = child.stdin.take().context("kubectl without input")?;
        let stdout = child.stdout.take().context("kubectl without output")?;
        let mut client = Self {
            child,
            requests,
            answers: BufReader::new(stdout),
        };
        // It runs once this is answered.
        client.connect("127.0.0.1")?;
        Ok(client)
    }

    /// The name of the errno, or OK.
    fn connect(&mut self, address: &str) -> Result<String> {
        writeln!(self.requests, "{address}").context("the pod that connects")?;
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            bail!("the pod that connects has ended");
        }
        Ok(answer.trim().to_owned())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
