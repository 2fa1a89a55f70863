// SPDX-License-Identifier: Apache-2.0
//! `exec`: a command in a container, with kubectl exec, or by containerd on the node where the API server is away.

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_yaml::Value;

use super::{Kind, pod, within};
use crate::bed::Answer;
use crate::run::Context;
use crate::verdict::Verdict;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exec {
    r#in: String,
    container: Option<String>,
    run: String,
    expect: Verdict,
    stdout: Option<String>,
    /// Seconds in which the verdict may still be another; 0: it must be at once.
    #[serde(default)]
    within: f32,
    /// Without the API server.
    #[serde(default)]
    by_node: bool,
}

/// Reads the step.
pub fn read(value: Value) -> Result<(Box<dyn Kind>, String)> {
    let exec: Exec = super::fields(value)?;
    let container = exec.container.as_ref();
    let place = container.map_or(exec.r#in.clone(), |name| format!("{}/{name}", exec.r#in));
    let verdict = format!("{:?}", exec.expect).to_lowercase();
    let said = format!("{verdict} in {place}: {}", exec.run);
    Ok((Box::new(exec), said))
}

impl Exec {
    fn attempt(&self, context: &Context) -> Result<()> {
        let answer = if self.by_node {
            self.on_node(context)
        } else {
            let pod = pod(context, &self.r#in)?;
            let mut arguments = vec!["exec", &pod];
            if let Some(container) = &self.container {
                arguments.extend(["--container", container]);
            }
            arguments.extend(["--", "sh", "-c", &self.run]);
            context.kubectl(&arguments)
        };
        let verdict = Verdict::of(&answer);
        if verdict != Some(self.expect) {
            let verdict = verdict.map_or("neither".to_owned(), |one| format!("{one:?}"));
            bail!(
                "{}: status {}: {}",
                verdict.to_lowercase(),
                answer.status,
                answer.said()
            );
        }
        match &self.stdout {
            Some(text) if !answer.stdout.contains(text) => {
                bail!("its output lacks {text:?}: {}", answer.stdout.trim())
            }
            _ => Ok(()),
        }
    }

    fn on_node(&self, context: &Context) -> Answer {
        let container = self.container.as_deref().unwrap_or("c");
        let quoted = format!("'{}'", self.run.replace('\'', r"'\''"));
        let line = format!(
            "/share/exec-in {} {} {container} {quoted}",
            context.namespace, self.r#in
        );
        context.bed.in_node(&line)
    }
}

impl Kind for Exec {
    fn run(&self, context: &mut Context) -> Result<String> {
        within(self.within, || self.attempt(context))
            .with_context(|| format!("{:?} was expected", self.expect).to_lowercase())?;
        Ok(String::new())
    }

    fn is_needed(&self) -> bool {
        false
    }
}
