// SPDX-License-Identifier: Apache-2.0
//! Making subjects of the tasks of a container that already runs.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use varmor_bpf_abi::binding::Binding;
use varmor_bpf_abi::container_key;
use varmor_bpf_abi::layout::{CONTAINER_ACTIVE, MarkRequest};
use varmor_bpf_abi::sys::ANY;

use crate::error::Error;
use crate::links;
use crate::tables::Tables;

/// A container whose tasks fork faster than they can be marked is given up after so many passes.
const PASSES: u32 = 100;

/// What was marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marked {
    /// Threads that became subjects.
    pub tasks: u32,
    /// Passes over all tasks.
    pub passes: u32,
}

/// Binds the container if it isn't, gives it the binding's profile, and marks every task of its mount namespace and the
/// children of marked ones, wherever they are, until a pass marks nothing new.
///
/// A container that the hook bound and whose init has not called execve yet needs no marks, and gets none: its set-up
/// is still the runtime's.
pub fn mark_running(tables: &Tables, dir: &Path, binding: &Binding<'_>) -> Result<Marked, Error> {
    let key = container_key(binding.container_id);
    let bound = tables
        .bindings
        .container(key)?
        .is_some_and(|bound| bound.mntns == binding.mntns);
    let state = tables.bindings.state(key)?.filter(|_| bound);
    match state {
        Some(state) => {
            tables
                .bindings
                .set_profile(binding.container_id, binding.profile_key)?;
            if state.state != CONTAINER_ACTIVE {
                return Ok(Marked::default());
            }
        }
        None => tables.bindings.bind(binding)?,
    }
    let failed = |reason: String| Error::Mark {
        container_id: binding.container_id.to_owned(),
        reason,
    };
    let mut marked = Marked::default();
    loop {
        let answer = pass(tables, dir, key, binding.mntns)?;
        marked.passes += 1;
        marked.tasks += answer.marked;
        if answer.failed > 0 {
            return Err(failed(format!(
                "the kernel had no room for the marks of {} tasks",
                answer.failed
            )));
        }
        if answer.marked == 0 {
            break;
        }
        if marked.passes == PASSES {
            return Err(failed(format!(
                "after {PASSES} passes it still had unmarked processes"
            )));
        }
    }
    let active = tables
        .bindings
        .state(key)?
        .is_some_and(|state| state.state == CONTAINER_ACTIVE);
    if !active {
        return Err(failed(format!(
            "no process is in its mount namespace {}",
            binding.mntns
        )));
    }
    Ok(marked)
}

/// One run of the iterator over all tasks: reading its pinned link to the end.
fn pass(tables: &Tables, dir: &Path, container: u64, mntns: u32) -> Result<MarkRequest, Error> {
    let request = MarkRequest {
        container,
        mntns,
        ..MarkRequest::default()
    };
    tables.mark_request.put(&0_u32, &request, ANY, "")?;
    let path = links::path(dir, "mark_tasks");
    let mut output = Vec::new();
    let read = File::open(&path).and_then(|mut file| file.read_to_end(&mut output));
    read.map_err(|source| Error::Pin {
        operation: "run the task iterator through",
        path,
        source,
    })?;
    Ok(tables.mark_request.get(&0_u32)?.unwrap_or_default())
}
