// SPDX-License-Identifier: Apache-2.0
//! The wrapper: stands in for runc in containerd's options (`BinaryName`) and executes the real one.
//!
//! A container without CRI asks for protection with the opt-in label as an OCI annotation: with ctr that is
//! `ctr run --annotation sandbox.varmor.org/enable=true`, or `--label`, which ctr writes to both places (containerd's own
//! labels of a container stay in its store and never reach a runtime). The policies see the container as a pod: its
//! annotations are the labels, its id is the name of the pod and of the container, and its namespace is the annotation
//! `sandbox.varmor.org/namespace`, else containerd's own.

pub mod arguments;
pub mod find;
pub mod json_file;
pub mod protect;

use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use varmor_node_state::{BadId, ContainerId, Layout, NodeState};

use crate::hook::log::{self, Level};
use crate::say;
use crate::spec_hooks::HOOK_NAME;
use crate::subject::DEFAULT_NAMESPACE;
use arguments::{Arguments, Subcommand};
use protect::{Places, ProtectError, Protected};

/// Set for the executed runtime: seen again, the real runtime is another copy of the wrapper.
const EXECUTED: &str = "VARMOR_RUNTIME_EXECUTED";

/// Why the real runtime was not executed.
#[derive(Debug, thiserror::Error)]
pub enum WrapperError {
    /// No runtime.
    #[error(transparent)]
    Find(#[from] find::FindError),
    /// The found runtime is another copy of the wrapper.
    #[error(
        "the runtime that varmor-runtime executes is varmor-runtime again; write the path of the real one to {}",
        find::OPTION_FILE
    )]
    Loop,
    /// The arguments.
    #[error(transparent)]
    Arguments(#[from] arguments::ArgumentError),
    /// The container's id.
    #[error(transparent)]
    Id(#[from] BadId),
    /// The container can't be put under its policy.
    #[error("container {id} refused: {source}")]
    Protect {
        /// The container.
        id: ContainerId,
        /// Why.
        source: ProtectError,
    },
    /// A process that joins a container can't be put under its policy.
    #[error("process refused that was to join container {id}: {source}")]
    ProtectExec {
        /// The container.
        id: ContainerId,
        /// Why.
        source: ProtectError,
    },
    /// execve(2).
    #[error("cannot execute {path:?}: {source}")]
    Execute {
        /// The runtime.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// The places, as containerd's environment says: the variables are the daemon's, plus VARMOR_HOOK_LOG.
struct Settings {
    state: NodeState,
    bpf: bool,
    hook: PathBuf,
    hook_options: Vec<String>,
    log: PathBuf,
}

impl Settings {
    fn from_environment(own: &Path) -> Self {
        let mut hook_options = Vec::new();
        let mut place = |variable: &str, option: &str, default: PathBuf| match env::var(variable) {
            Ok(value) if Path::new(&value).is_absolute() => {
                hook_options.extend([option.to_owned(), value.clone()]);
                PathBuf::from(value)
            }
            _ => default,
        };
        let layout = Layout::default();
        let layout = Layout {
            run: place("VARMOR_RUN_DIR", "--run-dir", layout.run),
            state: place("VARMOR_STATE_DIR", "--state-dir", layout.state),
        };
        let bpf_dir = place(
            "VARMOR_BPF_PIN_DIR",
            "--bpf-dir",
            varmor_bpf_abi::pins::DIR.into(),
        );
        let log = place("VARMOR_HOOK_LOG", "--log", log::DEFAULT_LOG.into());
        let hook = env::var_os("VARMOR_HOOK_PATH")
            .map_or_else(|| own.with_file_name(HOOK_NAME), PathBuf::from);
        let bpf = bpf_dir.join(varmor_bpf_abi::pins::CONTAINERS).exists();
        Self {
            state: NodeState::new(layout),
            bpf,
            hook,
            hook_options,
            log,
        }
    }
}

/// Does what the arguments ask for, and executes the real runtime with them unchanged: returns only when that failed.
/// The reason also goes where the runtime's caller looks for it.
pub fn run(arguments: &[OsString]) -> WrapperError {
    let parsed = match Arguments::parse(arguments) {
        Ok(parsed) => parsed,
        Err(error) => return error.into(),
    };
    let Err(error) = prepare_and_execute(arguments, &parsed);
    if let (Some(log), Subcommand::Create { .. } | Subcommand::Exec { .. }) =
        (&parsed.log, &parsed.subcommand)
    {
        tell_caller(log, &format!("varmor-runtime: {error}"));
    }
    error
}

fn prepare_and_execute(
    arguments: &[OsString],
    parsed: &Arguments,
) -> Result<Infallible, WrapperError> {
    let own = env::current_exe().unwrap_or_default();
    if env::var_os(EXECUTED).is_some() {
        return Err(WrapperError::Loop);
    }
    let (variable, path) = (env::var_os(find::VARIABLE), env::var_os("PATH"));
    let runtime = find::find(
        &own,
        Path::new(find::OPTION_FILE),
        variable.as_deref(),
        path.as_deref(),
    )?;
    match &parsed.subcommand {
        Subcommand::Create { id, bundle } => {
            let id = ContainerId::new(id.to_string_lossy())?;
            let refused = |source| WrapperError::Protect {
                id: id.clone(),
                source,
            };
            prepare(&own, &id, bundle, parsed.root.as_deref()).map_err(refused)?;
        }
        Subcommand::Exec { id, process } => {
            let id = ContainerId::new(id.to_string_lossy())?;
            let settings = Settings::from_environment(&own);
            protect::protect_exec(&settings.state, &id, process)
                .map_err(|source| WrapperError::ProtectExec { id, source })?;
        }
        Subcommand::Other => {}
    }
    let source = Command::new(&runtime)
        .args(arguments)
        .env(EXECUTED, "1")
        .exec();
    Err(WrapperError::Execute {
        path: runtime,
        source,
    })
}

fn prepare(
    own: &Path,
    id: &ContainerId,
    bundle: &Path,
    root: Option<&Path>,
) -> Result<(), ProtectError> {
    let settings = Settings::from_environment(own);
    let places = Places {
        state: &settings.state,
        hook: &settings.hook,
        hook_options: &settings.hook_options,
        bpf: settings.bpf,
    };
    let namespace = arguments::namespace_of(root).unwrap_or(DEFAULT_NAMESPACE);
    if let Protected::Unprotected(reason) = protect::protect(&places, id, bundle, namespace)? {
        let message = format!(
            "varmor-runtime let container {id} start unprotected (failurePolicy Ignore): {reason}"
        );
        say(&message);
        if let Err(error) = log::append(&settings.log, Level::Warn, id.as_str(), &message) {
            say(&format!(
                "varmor-runtime cannot write {}: {error}",
                settings.log.display()
            ));
        }
    }
    Ok(())
}

/// containerd's shim shows the last line of level error in the file that it names with `--log`
/// (go-runc and runc/v2 `getLastRuntimeError`), and not what a runtime says on its standard error.
fn tell_caller(log: &Path, message: &str) {
    let line = serde_json::json!({"level": "error", "msg": message});
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(log);
    if let Ok(mut file) = file {
        // The sentence is on standard error too.
        let _ = writeln!(file, "{line}");
    }
}
