// SPDX-License-Identifier: Apache-2.0
//! The hook: its two moments in a container's life, and the specification that carries it.

pub mod decide;
mod kernel;
pub mod log;
pub mod options;

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use serde_json::Value;
use varmor_node_state::{ContainerId, NodeState};

use crate::input::read_pipe;
use crate::oci::{CONFIG_LIMIT, Config, OciError, STATE_LIMIT, State};
use crate::say;
use crate::spec_hooks::{HooksShapeError, with_hook};
use crate::subject::policy_words;
use decide::{Bind, Decision, decide};
use log::Level;
use options::Options;

/// The runtime writes the state at once; this is for one that doesn't.
const PATIENCE: Duration = Duration::from_secs(5);

/// What went wrong, as the sentence that the runtime shows to its client.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// What can't be read.
    #[error("varmor-oci-hook cannot read {what}: {source}")]
    Input {
        /// Of what.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Standard output.
    #[error("varmor-oci-hook cannot write its answer: {0}")]
    Output(io::Error),
    /// What the runtime said.
    #[error("varmor-nri refused a container: {0}")]
    Oci(#[from] OciError),
    /// The specification for `base-spec`.
    #[error(transparent)]
    Shape(#[from] HooksShapeError),
    /// The specification for `base-spec`.
    #[error(
        "the OCI specification on standard input is not a whole one, it has no {member}; give it what `ctr oci spec` prints"
    )]
    NotWhole {
        /// What is missing.
        member: &'static str,
    },
    /// A decision, or a clean-up that failed.
    #[error("{0}")]
    Refused(String),
}

/// Does what the command line asks for.
pub fn run(options: &Options) -> Result<(), HookError> {
    match options.command {
        options::Command::CreateRuntime => create_runtime(options, &read_state()?),
        options::Command::Poststop => poststop(options, &read_state()?),
        options::Command::BaseSpec => base_spec(options),
        options::Command::Help => print(options::USAGE),
        options::Command::Version => {
            print(concat!("varmor-oci-hook ", env!("CARGO_PKG_VERSION"), "\n"))
        }
    }
}

fn read_state() -> Result<State, HookError> {
    let json = read_pipe(io::stdin().as_fd(), STATE_LIMIT, PATIENCE).map_err(|source| {
        HookError::Input {
            what: "the container's OCI state on standard input",
            source,
        }
    })?;
    Ok(State::parse(&json)?)
}

fn create_runtime(options: &Options, state: &State) -> Result<(), HookError> {
    let decision = match Config::load(&state.bundle) {
        Ok(config) => decide(&NodeState::new(options.layout.clone()), &state.id, &config),
        Err(error) => Decision::Refuse(format!(
            "varmor-nri refused container {}: {error}",
            state.id
        )),
    };
    let bind = match decision {
        Decision::Start(bind) => bind,
        Decision::StartUnprotected(warning) => {
            record(options, Level::Warn, &state.id, &warning);
            Bind::Nothing
        }
        Decision::Refuse(sentence) => return Err(refused(options, &state.id, sentence)),
    };
    kernel::bind(&options.bpf_dir, state, &bind).map_err(|error| {
        let demand = match &bind {
            Bind::Required {
                policy: Some(policy),
                ..
            } => format!("{} demands BPF: ", policy_words(policy)),
            _ => "it opted in and must be bound for later policies: ".to_owned(),
        };
        refused(
            options,
            &state.id,
            format!("varmor-nri refused container {}: {demand}{error}", state.id),
        )
    })
}

fn refused(options: &Options, id: &ContainerId, sentence: String) -> HookError {
    record(options, Level::Error, id, &sentence);
    HookError::Refused(sentence)
}

fn poststop(options: &Options, state: &State) -> Result<(), HookError> {
    let unbound = kernel::unbind(&options.bpf_dir, &state.id);
    // Both are tried, whatever becomes of the other.
    let removed = NodeState::new(options.layout.clone()).remove_marker(&state.id);
    let result = unbound
        .map_err(|error| error.to_string())
        .and(removed.map_err(|error| error.to_string()));
    result.map_err(|reason| {
        refused(
            options,
            &state.id,
            format!(
                "varmor-nri could not clean up after container {}: {reason}",
                state.id
            ),
        )
    })
}

fn record(options: &Options, level: Level, id: &ContainerId, sentence: &str) {
    if let Err(error) = log::append(&options.log, level, id.as_str(), sentence) {
        say(&format!(
            "varmor-oci-hook cannot write {}: {error}; unwritten: {sentence}",
            options.log.display()
        ));
    }
}

fn base_spec(options: &Options) -> Result<(), HookError> {
    let what = "the OCI specification on standard input";
    let mut json = Vec::new();
    io::stdin()
        .take(CONFIG_LIMIT as u64)
        .read_to_end(&mut json)
        .map_err(|source| HookError::Input { what, source })?;
    let mut spec: Value = serde_json::from_slice(&json).map_err(|error| HookError::Input {
        what,
        source: error.into(),
    })?;
    // containerd takes the file as it is: one with the hooks alone would start containers without namespaces or masks.
    for member in ["process", "root", "mounts", "linux"] {
        if spec.get(member).is_none() {
            return Err(HookError::NotWhole { member });
        }
    }
    let hook = match &options.hook {
        Some(hook) => hook.clone(),
        None => std::env::current_exe().map_err(|source| HookError::Input {
            what: "the path of this program",
            source,
        })?,
    };
    let own = spec.get_mut("hooks").map(Value::take);
    spec["hooks"] = with_hook(own, &hook, &options.for_hook)?;
    print(&format!("{spec:#}\n"))
}

fn print(text: &str) -> Result<(), HookError> {
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(HookError::Output)
}
