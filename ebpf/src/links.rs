// SPDX-License-Identifier: Apache-2.0
//! Pinned links: what keeps a program attached when no process holds it.
//!
//! A link can't be given another program, so a new one is attached beside the old one and renamed over its pin: for a
//! moment both decide, and the stricter one wins.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::programs::links::FdLink;
use aya::programs::{Program, ProgramError};
use varmor_bpf_abi::pins::LINK_PREFIX;

use crate::error::Error;

/// Ends the name of a pin that is about to take another's place.
const NEW: &str = "_new";

/// Where a program's link is pinned.
pub fn path(dir: &Path, program: &str) -> PathBuf {
    dir.join(format!("{LINK_PREFIX}{program}"))
}

/// Whether a program's link is pinned.
pub fn is_pinned(dir: &Path, program: &str) -> bool {
    path(dir, program).exists()
}

/// Attaches a loaded program and pins it, in place of a link pinned before.
pub fn attach(dir: &Path, name: &str, program: &mut Program) -> Result<(), String> {
    let link = take_link(program)?;
    let (new, path) = (
        dir.join(format!("{LINK_PREFIX}{name}{NEW}")),
        path(dir, name),
    );
    // Dropping the pinned link only closes the descriptor.
    link.pin(&new)
        .map_err(|error| format!("cannot pin it at {}: {error}", new.display()))?;
    fs::rename(&new, &path).map_err(|error| {
        format!(
            "cannot rename {} to {}: {error}",
            new.display(),
            path.display()
        )
    })
}

/// Attaches a program and takes the link from it, which would else be closed with it.
fn take_link(program: &mut Program) -> Result<FdLink, String> {
    let failed = |error: ProgramError| format!("it cannot be attached: {error}");
    match program {
        Program::Lsm(lsm) => lsm
            .attach()
            .and_then(|id| lsm.take_link(id))
            .map(FdLink::from)
            .map_err(failed),
        Program::Iter(iter) => {
            let link = iter
                .attach()
                .and_then(|id| iter.take_link(id))
                .map_err(failed)?;
            FdLink::try_from(link).map_err(|error| format!("it cannot be attached: {error}"))
        }
        _ => Err(failed(ProgramError::UnexpectedProgramType)),
    }
}

/// Removes the links that an interrupted replacement left beside those in force.
pub fn remove_unfinished(dir: &Path) -> Result<(), Error> {
    for name in pinned(dir)?.iter().filter(|name| name.ends_with(NEW)) {
        unpin(dir, name)?;
    }
    Ok(())
}

/// Removes every link but those of `keep`, and tells their names: programs that this version doesn't have any more.
pub fn remove_others(dir: &Path, keep: &BTreeSet<&str>) -> Result<Vec<String>, Error> {
    let others: Vec<String> = pinned(dir)?
        .into_iter()
        .filter(|name| !keep.contains(name.as_str()))
        .collect();
    others.iter().try_for_each(|name| unpin(dir, name))?;
    Ok(others)
}

fn unpin(dir: &Path, program: &str) -> Result<(), Error> {
    let path = path(dir, program);
    fs::remove_file(&path).map_err(|source| Error::Pin {
        operation: "remove",
        path,
        source,
    })
}

/// Names of the programs whose links are pinned.
fn pinned(dir: &Path) -> Result<Vec<String>, Error> {
    let failed = |source: io::Error| Error::Pin {
        operation: "list",
        path: dir.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if let Some(program) = name
            .to_str()
            .and_then(|name| name.strip_prefix(LINK_PREFIX))
        {
            names.push(program.to_owned());
        }
    }
    Ok(names)
}
