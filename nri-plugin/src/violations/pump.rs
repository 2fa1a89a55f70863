// SPDX-License-Identifier: Apache-2.0
//! From the kernel's ring buffer to the sinks, in a thread of its own: a container that violates its policy a million
//! times keeps this thread busy, not the answers to the runtime.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use varmor_ebpf::violation::{Action, Violation};
use varmor_policy::plan::PolicyRef;

use super::record::{Entry, Record, rfc3339};
use super::sinks::Fan;
use super::subscribers::Subscribers;
use super::{clock, event};
use crate::containers::Pod;
use crate::node::Node;

/// How often the kernel's counters are looked at, and the longest that a stop takes.
const TICK: Duration = Duration::from_millis(500);

/// Where violations come from.
pub trait Source: Send + 'static {
    /// Waits until there is something to read, at most this long.
    fn wait(&mut self, timeout: Duration) -> io::Result<()>;
    /// The next violation that is there already.
    fn next(&mut self) -> Option<Result<Violation, String>>;
    /// Events that found the buffer full, and failures inside the programs, both since the programs were loaded.
    fn failures(&mut self) -> Result<(u64, u64), String>;
}

/// The thread.
pub struct Pump {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Pump {
    /// Starts to read.
    pub fn start(
        source: Box<dyn Source>,
        node: Arc<Node>,
        sinks: Fan,
        subscribers: Arc<Subscribers>,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut reader = Reader {
            source,
            node,
            sinks,
            subscribers,
            reported: None,
        };
        let thread = thread::Builder::new()
            .name("ring buffer".to_owned())
            .stack_size(512 << 10)
            .spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    reader.turn();
                }
                reader.sinks.finish();
            })?;
        Ok(Self { stop, thread })
    }

    /// Lets the thread finish what was read.
    pub fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.join().is_err() {
            tracing::error!("the reader of the ring buffer died");
        }
    }
}

struct Reader {
    source: Box<dyn Source>,
    node: Arc<Node>,
    sinks: Fan,
    subscribers: Arc<Subscribers>,
    /// The kernel's numbers at the last look.
    reported: Option<(u64, u64)>,
}

impl Reader {
    fn turn(&mut self) {
        if let Err(error) = self.source.wait(TICK) {
            tracing::error!("the ring buffer can't be waited for: {error}");
            thread::sleep(TICK);
        }
        while let Some(violation) = self.source.next() {
            match violation {
                Ok(violation) => self.take(&violation),
                Err(error) => {
                    self.node.counters.lost_in_kernel.add(1);
                    tracing::error!("a violation record can't be read: {error}");
                }
            }
        }
        self.look_at_failures();
    }

    fn look_at_failures(&mut self) {
        let Ok(now) = self.source.failures() else {
            return;
        };
        let (lost, failed) = self.reported.replace(now).unwrap_or(now);
        let (lost, failed) = (now.0.saturating_sub(lost), now.1.saturating_sub(failed));
        self.node.counters.lost_in_kernel.add(lost);
        self.node.counters.internal_failures.add(failed);
        if lost > 0 {
            tracing::warn!("{lost} violation events found the kernel's buffer full");
            self.sinks
                .send(Entry::loss(&self.node.settings.node, lost, "kernel buffer"));
        }
    }

    fn take(&self, violation: &Violation) {
        let counters = &self.node.counters;
        match violation.action {
            Action::Denied => counters.denied.add(1),
            Action::Audit | Action::Allowed => counters.audited.add(1),
        }
        let record = self.record(violation);
        counters
            .dropped_for_subscribers
            .add(self.subscribers.send(&record));
        self.sinks.send(Entry::Violation(Box::new(record)));
    }

    fn record(&self, violation: &Violation) -> Record {
        let (level, action) = event::action(violation.action);
        let happened = SystemTime::now() - clock::since_boot().saturating_sub(violation.time);
        let happened = OffsetDateTime::from(happened);
        let who = self.node.who(violation.container, violation.profile);
        let pod = |field: fn(&Pod) -> &String| {
            who.pod
                .as_ref()
                .map(|pod| field(pod).clone())
                .unwrap_or_default()
        };
        let policy = |field: fn(&PolicyRef) -> &String| {
            who.policies
                .first()
                .map(|policy| field(policy).clone())
                .unwrap_or_default()
        };
        Record {
            level,
            node_name: self.node.settings.node.clone(),
            pod_uid: pod(|pod| &pod.uid),
            pod_name: pod(|pod| &pod.name),
            pod_namespace: pod(|pod| &pod.namespace),
            container_id: who.container_id.clone(),
            container_name: who.container_name.clone(),
            image: who.image.clone(),
            pid: violation.tgid,
            mnt_ns_id: violation.mntns,
            event_timestamp: happened.unix_timestamp(),
            event_type: "BPF",
            enforcer: "BPF",
            action,
            profile_name: who.profile.clone(),
            policy_kind: policy(|policy| &policy.kind),
            policy_namespace: policy(|policy| &policy.namespace),
            policy_name: policy(|policy| &policy.name),
            policies: match &who.policies[..] {
                [] | [_] => Vec::new(),
                several => several.to_vec(),
            },
            event: event::event(&violation.event),
            time: rfc3339(happened),
            message: "violation event",
        }
    }
}
