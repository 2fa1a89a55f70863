// SPDX-License-Identifier: Apache-2.0
//! The scenario file: what is in it, and what a correct one looks like.
//!
//! Everything is checked before a machine is booted: unknown fields, steps that name pods which do not exist, verdicts that
//! could not be judged.

mod lines;
mod pod;
mod step;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

pub use pod::{Container, Pod, SeccompProfile};
pub use step::{
    Action, Conditions, ContainerName, Expect, KERNELS, RawConditions, Service, Signal, Step,
    Violations, Wanted,
};

/// A policy object as it was written, with what the runner needs to know of it.
#[derive(Debug, Clone)]
pub struct Policy {
    /// `VarmorPolicy` or `VarmorClusterPolicy`.
    pub kind: String,
    /// Empty for a cluster policy.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// The whole object.
    pub object: serde_yaml::Value,
}

impl Policy {
    /// `kind/namespace/name`, or `kind/name` for a cluster policy: what a `delete` step says.
    pub fn reference(&self) -> String {
        if self.namespace.is_empty() {
            format!("{}/{}", self.kind, self.name)
        } else {
            format!("{}/{}/{}", self.kind, self.namespace, self.name)
        }
    }

    fn read(object: serde_yaml::Value) -> Result<Self> {
        let text = |path: &[&str]| {
            let mut value = &object;
            for key in path {
                value = value.get(*key)?;
            }
            value.as_str().map(str::to_string)
        };
        let kind = text(&["kind"]).context("a policy needs a kind")?;
        let name = text(&["metadata", "name"]).context("a policy needs metadata.name")?;
        let namespace = text(&["metadata", "namespace"]);
        let namespace = match kind.as_str() {
            "VarmorPolicy" => namespace.context("a VarmorPolicy needs metadata.namespace")?,
            "VarmorClusterPolicy" if namespace.is_none() => String::new(),
            "VarmorClusterPolicy" => bail!("a VarmorClusterPolicy has no metadata.namespace"),
            _ => bail!("{kind:?} is no kind of policy: VarmorPolicy or VarmorClusterPolicy"),
        };
        Ok(Self {
            kind,
            namespace,
            name,
            object,
        })
    }
}

/// The file as serde sees it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// What the scenario is about, for its readers.
    #[serde(default)]
    description: String,
    #[serde(default)]
    policies: Vec<serde_yaml::Value>,
    #[serde(default)]
    pods: Vec<Pod>,
    steps: Vec<step::Raw>,
    /// Flags of the daemon beside those that the runner always gives; it is restarted for them and after them.
    #[serde(default, rename = "daemonFlags")]
    daemon_flags: Vec<String>,
    kernels: Option<Vec<String>>,
    except_kernels: Option<Vec<String>>,
    containerd: Option<Vec<String>>,
    reason: Option<String>,
}

/// One scenario.
#[derive(Debug)]
pub struct Scenario {
    /// Where it was read from.
    pub path: PathBuf,
    /// What it is about.
    pub description: String,
    /// In force before the pods start.
    pub policies: Vec<Policy>,
    /// In the order in which they start.
    pub pods: Vec<Pod>,
    /// One after the other.
    pub steps: Vec<Step>,
    /// See [`File::daemon_flags`].
    pub daemon_flags: Vec<String>,
    /// Where it runs at all.
    pub conditions: Conditions,
}

impl Scenario {
    /// Reads and checks one file.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{}: can't be read", path.display()))?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self> {
        let file: File = serde_yaml::from_str(text).map_err(|error| {
            let line = error.location().map_or(String::new(), |at| {
                format!(":{}:{}", at.line(), at.column())
            });
            anyhow::anyhow!("{}{line}: {error}", path.display())
        })?;
        let at = |section: &str, index: usize| match lines::item(text, section, index) {
            Some(line) => format!("{}:{line}: {section}[{index}]", path.display()),
            None => format!("{}: {section}[{index}]", path.display()),
        };
        let mut policies = Vec::new();
        for (index, object) in file.policies.into_iter().enumerate() {
            policies.push(Policy::read(object).with_context(|| at("policies", index))?);
        }
        for (index, pod) in file.pods.iter().enumerate() {
            pod.check().with_context(|| at("pods", index))?;
            if file.pods[..index]
                .iter()
                .any(|other| other.name == pod.name)
            {
                bail!(
                    "{}: a second pod named {:?}: steps start pods by name",
                    at("pods", index),
                    pod.name
                );
            }
        }
        let mut steps = Vec::new();
        for (index, raw) in file.steps.into_iter().enumerate() {
            let line = lines::item(text, "steps", index).unwrap_or_default();
            let step = Step::read(raw, line, &file.pods).with_context(|| at("steps", index))?;
            steps.push(step);
        }
        if steps.is_empty() {
            bail!("{}: a scenario needs steps", path.display());
        }
        let conditions = Conditions::read(RawConditions {
            kernels: file.kernels,
            except_kernels: file.except_kernels,
            containerd: file.containerd,
            reason: file.reason,
        })
        .with_context(|| path.display().to_string())?;
        Ok(Self {
            path: path.to_path_buf(),
            description: file.description,
            policies,
            pods: file.pods,
            steps,
            daemon_flags: file.daemon_flags,
            conditions,
        })
    }
}

/// The scenarios of files, and of every `*.yaml` below folders in the order of their paths. All wrong files are reported at
/// once.
pub fn load_all<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<Scenario>> {
    let mut files = Vec::new();
    for path in paths.iter().map(AsRef::as_ref) {
        let before = files.len();
        collect(path, &mut files)?;
        if files.len() == before {
            bail!("{}: no scenario files (*.yaml) here", path.display());
        }
    }
    let (mut scenarios, mut errors) = (Vec::new(), Vec::new());
    for file in files {
        match Scenario::load(&file) {
            Ok(scenario) => scenarios.push(scenario),
            Err(error) => errors.push(format!("{error:#}")),
        }
    }
    if !errors.is_empty() {
        bail!("{}", errors.join("\n"));
    }
    Ok(scenarios)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    let mut entries: Vec<_> = std::fs::read_dir(path)
        .with_context(|| format!("{}: can't be listed", path.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    entries.sort();
    for entry in entries {
        if entry.is_dir()
            || entry
                .extension()
                .is_some_and(|extension| extension == "yaml")
        {
            collect(&entry, files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
description: A file rule.
policies:
- {apiVersion: crd.varmor.org/v1beta1, kind: VarmorPolicy, metadata: {name: p, namespace: demo}, spec: {}}
pods:
- name: demo
  namespace: demo
  labels: {sandbox.varmor.org/enable: "true"}
  containers: [{name: c1}]
steps:
- {in: demo/demo/c1, run: "cat /etc/shadow", expect: denied, violation: {enforcer: BPF, path: /etc/shadow}}

# between
- in: host
  run: "true"
  expect: allowed
- delete: VarmorPolicy/demo/p
- {in: demo/demo/c1, run: "unshare -U true", expect: denied, except_kernels: ["5.10"], reason: "no hook there"}
"#;

    fn parse(text: &str) -> Result<Scenario> {
        Scenario::parse(Path::new("x.yaml"), text)
    }

    fn error(text: &str) -> String {
        format!("{:#}", parse(text).unwrap_err())
    }

    #[test]
    fn a_whole_file_is_read() {
        let scenario = parse(GOOD).unwrap();
        assert_eq!(scenario.policies[0].reference(), "VarmorPolicy/demo/p");
        assert_eq!(scenario.steps.len(), 4);
        assert_eq!(scenario.steps[1].line, 14);
        assert!(
            scenario.steps[3]
                .conditions
                .why_not("5.10", "2.1")
                .is_some()
        );
        assert!(
            scenario.steps[3]
                .conditions
                .why_not("6.12", "2.1")
                .is_none()
        );
    }

    #[test]
    fn mistakes_are_named_with_file_line_and_field() {
        assert!(
            error(&GOOD.replace("expect: allowed", "expcet: allowed")).starts_with("x.yaml:16")
        );
        assert!(error(&GOOD.replace("expect: allowed", "expect: maybe")).contains("maybe"));
        let unknown = error(&GOOD.replace(
            "- {in: demo/demo/c1, run: \"cat",
            "- {in: demo/demo/c2, run: \"cat",
        ));
        assert!(
            unknown.contains("x.yaml:11: steps[0]") && unknown.contains("demo/demo/c2"),
            "{unknown}"
        );
        assert!(
            error(&GOOD.replace("  expect: allowed\n", ""))
                .contains("x.yaml:14: steps[1]: `run` needs `expect`")
        );
        assert!(error(&GOOD.replace(", reason: \"no hook there\"", "")).contains("reason"));
        assert!(
            error(&GOOD.replace(
                "- delete: VarmorPolicy/demo/p",
                "- {delete: VarmorPolicy/demo/p, restart: daemon}"
            ))
            .contains("one of")
        );
        assert!(
            error(&GOOD.replace("kind: VarmorPolicy,", "kind: VarmorPolice,"))
                .contains("x.yaml:4: policies[0]")
        );
    }
}
