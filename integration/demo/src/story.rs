// SPDX-License-Identifier: Apache-2.0
//! The story: what the pod may do without a policy, under one, and under one that changed while it ran.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use varmor_scenario::format::{ContainerName, Pod};
use varmor_scenario::guest::cri::{Client, Refused};
use varmor_scenario::guest::pods::Pods;
use varmor_scenario::guest::verdict::Got;

use crate::evidence::{Enforcer, Evidence, Mark, PROFILE, Sign};
use crate::node::{self, Node, Programs};
use crate::report::{Report, Verdict, fold};

const POLICY: &str = include_str!("../policy.yaml");
const POD: &str = "
name: demo
namespace: demo
labels: {app: demo, sandbox.varmor.org/enable: 'true'}
# The node's network: nothing to set up on it, and nothing in the story needs one.
hostNetwork: true
containers: [{name: c1}]
";

/// Of one action, in emulation.
const ACTION: Duration = Duration::from_secs(20);
/// A report takes this long at most to come out of the kernel, in emulation.
const REPORTED: Duration = Duration::from_secs(8);

/// Something that a process in the pod tries.
#[derive(Clone, Copy)]
struct Action {
    title: &'static str,
    line: &'static str,
    sign: Sign,
}

const TOKEN: Action = Action {
    title: "read the token",
    line: "cat /run/secrets/kubernetes.io/serviceaccount/token",
    sign: Sign::Path("/run/secrets/kubernetes.io/serviceaccount/"),
};
const ETC: Action = Action {
    title: "write to /etc",
    line: "echo demo > /etc/demo",
    sign: Sign::Path("/etc/demo"),
};
const OPT: Action = Action {
    title: "install into /opt",
    line: "echo demo > /opt/demo",
    sign: Sign::Path("/opt/demo"),
};
const NAMESPACE: Action = Action {
    title: "new user namespace",
    line: "unshare -U true",
    sign: Sign::UserNamespace,
};
const SHADOW: Action = Action {
    title: "read /etc/shadow",
    line: "cat /etc/shadow",
    sign: Sign::Path("/etc/shadow"),
};
const NOTES: Action = Action {
    title: "read /tmp/notes",
    line: "cat /tmp/notes",
    sign: Sign::Path("/tmp/notes"),
};
const HOSTS: Action = Action {
    title: "read /etc/hosts",
    line: "cat /etc/hosts",
    sign: Sign::Path("/etc/hosts"),
};

/// Starts a node and tells the story on it; true when every verdict was the expected one.
///
/// # Errors
/// Something else than a verdict failed.
pub fn main(programs: &Programs) -> Result<bool> {
    tell(Node::start(programs)?, programs)
}

/// Tells the story on a node that runs, and ends the node.
///
/// # Errors
/// Something else than a verdict failed.
pub fn tell(node: Node, programs: &Programs) -> Result<bool> {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    println!("Kernel {release}, {}.", programs.versions()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let passed = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
        tokio::select! {
            passed = story(&node) => passed,
            _ = terminate.recv() => bail!("terminated"),
            // The node is taken down on the way out.
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        }
    })?;
    node.end()?;
    Ok(passed)
}

async fn story(node: &Node<'_>) -> Result<bool> {
    let mut teller = Teller {
        report: Report::default(),
        pods: Pods::below(
            Client::new(&node::containerd_socket())?,
            &Path::new(node::RUN).join("pods"),
        ),
        evidence: Evidence::collect()?,
        container: ContainerName {
            namespace: "demo".into(),
            pod: "demo".into(),
            container: "c1".into(),
        },
    };
    teller.unprotected().await?;
    let file = node::policies().join("demo.yaml");
    teller.protected(node, &file).await?;
    teller.changed(node, &file).await?;
    let passed = teller.report.table();
    // In the reverse order, so that the daemon removes what it loaded.
    teller.pods.remove_all().await?;
    fs::remove_file(&file).context("removing the policy")?;
    node.in_force()?;
    Ok(passed)
}

struct Teller {
    report: Report,
    pods: Pods,
    evidence: Evidence,
    container: ContainerName,
}

impl Teller {
    async fn unprotected(&mut self) -> Result<()> {
        self.report.part(
            "no policy",
            "1. A busybox pod with the label sandbox.varmor.org/enable=true, and no policy",
        );
        self.start().await?;
        for action in [TOKEN, ETC, OPT, NAMESPACE, SHADOW, HOSTS] {
            self.allowed(action).await?;
        }
        Ok(())
    }

    async fn protected(&mut self, node: &Node<'_>, file: &Path) -> Result<()> {
        self.report.part("policy", "2. A policy, and the pod again");
        println!("  cp integration/demo/policy.yaml {}", file.display());
        for line in POLICY.lines() {
            println!("    | {line}");
        }
        put(file, POLICY)?;
        println!("  in force after {}", in_force(node)?);
        let pid = self.start().await?;
        self.confinement(pid)?;

        let first = Enforcer::first_lsm()?;
        let began = self.evidence.mark()?;
        self.refused(TOKEN, first).await?;
        self.refused(ETC, first).await?;
        self.refused(OPT, Enforcer::AppArmor).await?;
        self.refused(NAMESPACE, Enforcer::Seccomp).await?;
        self.refused(SHADOW, Enforcer::Bpf).await?;
        self.allowed(HOSTS).await?;
        // Reports come in order, and one of a later action was seen: this one can't be under way any more.
        let id = self.pods.id(&self.container)?;
        if let Some((enforcer, report)) = self.evidence.refusal(began, &id, Sign::UserNamespace) {
            self.report.fact(
                "new user namespace",
                &format!("and yet it was judged again: {report}"),
                Verdict::refused(Enforcer::Seccomp),
                Verdict::refused(enforcer),
            );
        }
        self.violations()
    }

    /// Shows that the process is under a profile and a filter.
    fn confinement(&mut self, pid: u32) -> Result<()> {
        let file = format!("/proc/{pid}/attr/current");
        let label = fs::read_to_string(&file).context("the AppArmor label")?;
        let label = label.trim_end_matches(['\n', '\0']);
        self.report.fact(
            "the pod's process",
            &format!("{file}: {label}"),
            Verdict::confined(Enforcer::AppArmor, true),
            Verdict::confined(Enforcer::AppArmor, label == format!("{PROFILE} (enforce)")),
        );
        let file = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&file).context("the process's status")?;
        let mode = status
            .lines()
            .find_map(|line| Some(line.strip_prefix("Seccomp:")?.trim()))
            .unwrap_or("not there");
        self.report.fact(
            "the pod's process",
            &format!("{file}: Seccomp: {mode}"),
            Verdict::confined(Enforcer::Seccomp, true),
            // SECCOMP_MODE_FILTER of linux/seccomp.h.
            Verdict::confined(Enforcer::Seccomp, mode == "2"),
        );
        Ok(())
    }

    async fn changed(&mut self, node: &Node<'_>, file: &Path) -> Result<()> {
        self.report
            .part("policy", "3. A rule more, while the pod runs");
        self.sh("echo hello > /tmp/notes").await?;
        self.allowed(NOTES).await?;
        let before = self.identity().await?;
        let (policy, rule) = with_rule(POLICY)?;
        println!("  edit {}", file.display());
        println!("    + {rule}");
        put(file, &policy)?;
        println!("  in force after {}", in_force(node)?);
        self.report.when("rule added");
        self.refused(NOTES, Enforcer::Bpf).await?;
        self.refused(SHADOW, Enforcer::Bpf).await?;
        self.allowed(HOSTS).await?;
        let after = self.identity().await?;
        let seen = match before == after {
            true => "not restarted",
            false => "restarted",
        };
        self.report.fact(
            "the pod's process",
            &format!("the pod's process was {before}, and is {after}"),
            Verdict::plain("not restarted"),
            Verdict::plain(seen),
        );
        Ok(())
    }

    /// Starts the pod, in the place of the one before, and gives its process.
    async fn start(&mut self) -> Result<u32> {
        let pod: Pod = serde_yaml::from_str(POD).context("the pod")?;
        if let Err(Refused(text)) = self.pods.start(&pod, None).await? {
            bail!("pod demo/demo did not start: {text}");
        }
        let pid = self.pid().await?;
        println!("  pod demo/demo runs: process {pid}");
        Ok(pid)
    }

    async fn pid(&self) -> Result<u32> {
        self.pods.pid(&self.container).await
    }

    /// A number may be given to another process, but not with the same start.
    async fn identity(&self) -> Result<String> {
        let pid = self.pid().await?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the pod's process")?;
        let start = start_time(&stat).context("the process's start time")?;
        Ok(format!("{pid}, up since tick {start}"))
    }

    async fn sh(&self, line: &str) -> Result<Got> {
        Ok(Got::of(
            &self.pods.exec(&self.container, line, ACTION).await?,
        ))
    }

    async fn allowed(&mut self, action: Action) -> Result<()> {
        self.judge(action, Verdict::plain("allowed")).await
    }

    async fn refused(&mut self, action: Action, by: Enforcer) -> Result<()> {
        self.judge(action, Verdict::refused(by)).await
    }

    async fn judge(&mut self, action: Action, expected: Verdict) -> Result<()> {
        let mark = self.evidence.mark()?;
        let (seen, why) = match self.sh(action.line).await? {
            Got::Allowed => (Verdict::plain("allowed"), None),
            Got::Failed => (Verdict::plain("failed"), None),
            Got::Denied => self.refuser(action.sign, mark).await?,
        };
        self.report
            .action(action.title, action.line, expected, seen, why);
        Ok(())
    }

    /// Who refused, and what says so.
    async fn refuser(&mut self, sign: Sign, mark: Mark) -> Result<(Verdict, Option<String>)> {
        let id = self.pods.id(&self.container)?;
        let until = Instant::now() + REPORTED;
        loop {
            self.evidence.read()?;
            let mut found = self.evidence.refusal(mark, &id, sign);
            if found.is_none() && sign == Sign::UserNamespace {
                found = self.by_filter().await?;
            }
            match found {
                Some((enforcer, why)) => return Ok((Verdict::refused(enforcer), Some(why))),
                None if Instant::now() > until => return Ok((Verdict::plain("refused"), None)),
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// CLONE_PARENT is no flag of unshare(2).
    async fn by_filter(&self) -> Result<Option<(Enforcer, String)>> {
        let evidence = "EPERM also for flags that the kernel would answer with EINVAL: judged at the call's entry";
        Ok((self.sh("probe unshare user,parent").await? == Got::Denied)
            .then(|| (Enforcer::Seccomp, evidence.into())))
    }

    /// The container's lines of the violation log.
    fn violations(&self) -> Result<()> {
        let path = node::violations();
        let id = self.pods.id(&self.container)?;
        let log = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        println!("  {}:", path.display());
        for line in log.lines().filter(|line| line.contains(&id)) {
            println!("{}", fold(line, "    "));
        }
        Ok(())
    }
}

fn in_force(node: &Node<'_>) -> Result<String> {
    let began = Instant::now();
    node.in_force()?;
    Ok(format!("{:.1} s", began.elapsed().as_secs_f64()))
}

/// Under another name first: nobody may read half a policy.
fn put(file: &Path, text: &str) -> Result<()> {
    let half: PathBuf = file.with_extension("half");
    fs::write(&half, text).with_context(|| half.display().to_string())?;
    fs::rename(&half, file).with_context(|| file.display().to_string())
}

/// The policy with one rule more, after the one for /etc/shadow; and that rule.
fn with_rule(policy: &str) -> Result<(String, String)> {
    let line = policy
        .lines()
        .find(|line| line.contains("pattern: /etc/shadow"))
        .context("the rule for /etc/shadow")?;
    let rule = line.replace("/etc/shadow", "/tmp/notes");
    let text = policy.replace(line, &format!("{line}\n{rule}"));
    Ok((text, rule.trim().to_owned()))
}

/// Field 22 of proc_pid_stat(5), in clock ticks since the boot. The name before it may hold blanks and parentheses.
fn start_time(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(19)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_yaml::Value;

    #[test]
    fn the_edit_adds_one_rule_and_changes_nothing_else() {
        let (text, rule) = with_rule(POLICY).unwrap();
        let mut before: Value = serde_yaml::from_str(POLICY).unwrap();
        let after: Value = serde_yaml::from_str(&text).unwrap();
        let mut files = &mut before;
        for key in ["spec", "policy", "enhanceProtect", "bpfRawRules", "files"] {
            files = files.get_mut(key).unwrap();
        }
        let added: Value = serde_yaml::from_str(&rule).unwrap();
        files.as_sequence_mut().unwrap().push(added[0].clone());
        assert_eq!(before, after);
    }

    #[test]
    fn the_pod_is_one_that_the_policy_selects() {
        let pod: Pod = serde_yaml::from_str(POD).unwrap();
        let policy: Value = serde_yaml::from_str(POLICY).unwrap();
        let wanted = &policy["spec"]["target"]["selector"]["matchLabels"]["app"];
        assert_eq!(pod.labels.get("app").map(String::as_str), wanted.as_str());
        assert_eq!(policy["metadata"]["namespace"], pod.namespace.as_str());
        assert_eq!(
            PROFILE,
            format!(
                "varmor-{}-{}",
                pod.namespace,
                policy["metadata"]["name"].as_str().unwrap()
            )
        );
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_start_time() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 0 0 0 0 20 0 1 0 4321 1000 10";
        assert_eq!(start_time(stat), Some(4321));
        assert_eq!(start_time("7"), None);
    }
}
