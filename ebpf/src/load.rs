// SPDX-License-Identifier: Apache-2.0
//! Bringing the programs into force, or finding that they are.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use aya::programs::{Program as Loaded, ProgramError};
use aya::{Btf, Ebpf};
use aya_obj::btf::BtfKind;
use varmor_bpf_abi::layout::Settings;
use varmor_bpf_abi::procfs::mount_namespace;
use varmor_bpf_abi::{pins, sys};

use crate::error::Error;
use crate::object::{PINNED_MAPS, Variant, instantiate};
use crate::programs::{self, Attach, Missing, Program};
use crate::tables::{MetaTable, Tables};
use crate::{host, links};

/// How to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOptions {
    /// Folder of the pins, on a bpffs.
    pub pin_dir: PathBuf,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            pin_dir: pins::DIR.into(),
        }
    }
}

/// What is in force after loading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadReport {
    /// Which build of the programs.
    pub variant: Variant,
    /// Programs that were attached now.
    pub attached: Vec<&'static str>,
    /// Programs of the same build that were found attached.
    pub adopted: Vec<&'static str>,
    /// Programs of an older version that were detached.
    pub removed: Vec<String>,
    /// What this kernel can't enforce.
    pub missing: Vec<Missing>,
}

/// Programs that aren't in use, and why.
type Unused = Vec<(&'static str, String)>;

/// Checks the node, makes or takes over the pinned maps, and attaches what is not attached yet. With the tables comes the
/// lock that keeps other writers away.
pub fn load(options: &LoadOptions) -> Result<(Tables, OwnedFd, LoadReport), Error> {
    let dir = &options.pin_dir;
    host::check_kernel()?;
    host::prepare_pin_dir(dir)?;
    let lock = host::lock(dir)?;
    let (meta, found) = MetaTable::open(dir)?;
    let variant = Variant::of_this_kernel()?;
    if variant == Variant::ByPointer {
        // Task storage and accounting of maps by control group, which ended this limit, came with the same kernel.
        host::raise_memlock()?;
    }
    let btf = Btf::from_sys_fs()?;
    links::remove_unfinished(dir)?;

    // Programs attached before a map's pin was lost use a map that nobody can reach: they don't count.
    let complete = PINNED_MAPS.iter().all(|name| dir.join(name).exists());
    let same = found.build == variant.build() && complete;
    let (mut wanted, mut unused) = (Vec::new(), Unused::new());
    for program in programs::of_variant(variant) {
        match hook_of(program, &btf) {
            Ok(()) => wanted.push(program),
            Err(reason) => unused.push((program.name, reason)),
        }
    }
    let (adopted, wanted): (Vec<&Program>, Vec<&Program>) = wanted
        .into_iter()
        .partition(|program: &&Program| same && links::is_pinned(dir, program.name));
    let adopted: Vec<&'static str> = adopted.iter().map(|program| program.name).collect();
    let wanted = without_stand_ins(wanted, &adopted, &mut unused);

    let mut object = match wanted.is_empty() {
        true => None,
        false => Some(
            instantiate(variant, &btf, dir).map_err(|source| Error::Maps {
                path: dir.clone(),
                source: Box::new(source),
            })?,
        ),
    };
    let tables = Tables::open(dir)?;
    let settings = Settings {
        host_mntns: mount_namespace(1)?,
        pad: 0,
    };
    tables.settings.put(&0_u32, &settings, sys::ANY, "")?;

    let mut loaded = Vec::new();
    if let Some(object) = &mut object {
        loaded = load_programs(object, &btf, &wanted, &mut unused);
        missing(variant, &unused)?;
        meta.set_build([0; 32])?;
        attach_programs(dir, object, &mut loaded, &mut unused);
    }
    let missing = missing(variant, &unused)?;

    // A program that can't be replaced stays as it is: older rules are better than none.
    let failed = wanted
        .iter()
        .map(|program| program.name)
        .filter(|name| unused.iter().any(|(other, _)| other == name));
    let keep: BTreeSet<&str> = adopted
        .iter()
        .chain(&loaded)
        .copied()
        .chain(failed)
        .collect();
    let removed = links::remove_others(dir, &keep)?;
    meta.set_build(variant.build())?;
    Ok((
        tables,
        lock,
        LoadReport {
            variant,
            attached: loaded,
            adopted,
            removed,
            missing,
        },
    ))
}

fn missing(variant: Variant, unused: &Unused) -> Result<Vec<Missing>, Error> {
    programs::missing(variant, unused).map_err(
        |Missing {
             hook,
             reason,
             not_enforced,
         }| Error::Program {
            program: hook,
            reason,
            not_enforced,
        },
    )
}

/// Whether the kernel has what the program is attached to, or why not.
fn hook_of(program: &Program, btf: &Btf) -> Result<(), String> {
    let function = match program.attach {
        Attach::Lsm => format!("bpf_lsm_{}", program.name),
        Attach::TaskIterator => "bpf_iter_task".to_owned(),
    };
    match btf.id_by_type_name_kind(&function, BtfKind::Func) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!(
            "this kernel has no {function}, kernels since {} do",
            program.since
        )),
    }
}

/// The programs but those that stand in for one that was found attached.
fn without_stand_ins<'a>(
    wanted: Vec<&'a Program>,
    adopted: &[&str],
    unused: &mut Unused,
) -> Vec<&'a Program> {
    let (idle, wanted): (Vec<&Program>, Vec<&Program>) = wanted.into_iter().partition(|program| {
        program
            .stands_in_for
            .is_some_and(|other| adopted.contains(&other))
    });
    for program in idle {
        unused.push((program.name, "what it stands in for is in use".to_owned()));
    }
    wanted
}

/// Loads programs one by one, and tells those that the kernel took.
fn load_programs(
    object: &mut Ebpf,
    btf: &Btf,
    wanted: &[&Program],
    unused: &mut Unused,
) -> Vec<&'static str> {
    let mut loaded = Vec::new();
    for program in wanted {
        if let Some(other) = program.stands_in_for
            && loaded.contains(&other)
        {
            unused.push((program.name, "what it stands in for is in use".to_owned()));
            continue;
        }
        let result = match object.program_mut(program.name) {
            Some(Loaded::Lsm(lsm)) => lsm.load(program.name, btf),
            Some(Loaded::Iter(iter)) => iter.load("task", btf),
            Some(_) => Err(ProgramError::UnexpectedProgramType),
            None => Err(ProgramError::NotLoaded),
        };
        match result {
            Ok(()) => loaded.push(program.name),
            Err(error) => unused.push((program.name, reason(&error))),
        }
    }
    loaded
}

/// The error without the verifier's whole log: its last lines say why.
fn reason(error: &ProgramError) -> String {
    let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    else {
        return error.to_string();
    };
    let log = verifier_log.to_string();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("processed "))
        .collect();
    let last = lines[lines.len().saturating_sub(3)..].join("; ");
    format!("the kernel refused it: {io_error}: {last}")
}

/// Attaches and pins the loaded programs in order; those that failed move to `unused`.
fn attach_programs(
    dir: &Path,
    object: &mut Ebpf,
    loaded: &mut Vec<&'static str>,
    unused: &mut Unused,
) {
    loaded.retain(|name| {
        let Some(program) = object.program_mut(name) else {
            return false;
        };
        let attached = links::attach(dir, name, program);
        match attached {
            Ok(()) => true,
            Err(reason) => {
                unused.push((name, reason));
                false
            }
        }
    });
}
