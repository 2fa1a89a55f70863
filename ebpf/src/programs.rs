// SPDX-License-Identifier: Apache-2.0
//! Which programs there are, what each is for, and which of them a kernel can take.

use crate::object::Variant;

/// What a program is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attach {
    /// The LSM hook of the program's own name.
    Lsm,
    /// Nothing: reading its pinned link runs it over all tasks.
    TaskIterator,
}

/// One program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// Name of its function, and of its hook.
    pub name: &'static str,
    /// What it is attached to.
    pub attach: Attach,
    /// Without it nothing can be enforced.
    pub required: bool,
    /// What is not enforced without it.
    pub not_enforced: &'static str,
    /// First kernel that has the hook.
    pub since: &'static str,
    /// Loaded only where this other program can't be.
    pub stands_in_for: Option<&'static str>,
    /// What this other program does on kernels that lack the hook; then nothing is missing.
    pub covered_by: Option<&'static str>,
    /// Only in this variant of the object.
    pub only: Option<Variant>,
}

const fn lsm(name: &'static str, not_enforced: &'static str) -> Program {
    Program {
        name,
        attach: Attach::Lsm,
        required: false,
        not_enforced,
        since: "5.10",
        stands_in_for: None,
        covered_by: None,
        only: None,
    }
}

const fn required(program: Program) -> Program {
    Program {
        required: true,
        ..program
    }
}

const fn since(since: &'static str, program: Program) -> Program {
    Program { since, ..program }
}

/// Every program, in the order in which they are attached: first those that carry marks on, so that no child of a
/// subject is missed; last the one that makes subjects.
pub const PROGRAMS: &[Program] = &[
    required(lsm(
        "task_alloc",
        "anything: children of a container's processes would not be followed",
    )),
    Program {
        only: Some(Variant::ByPointer),
        ..required(lsm(
            "task_free",
            "anything: a new task could take over the rules of one that ended",
        ))
    },
    required(Program {
        attach: Attach::TaskIterator,
        ..lsm("mark_tasks", "policies on containers that already run")
    }),
    required(lsm("file_open", "rules for opening files")),
    lsm("path_unlink", "rules against deleting files"),
    lsm("path_rmdir", "rules against deleting directories"),
    lsm("path_mkdir", "rules against making directories"),
    lsm("path_mknod", "rules against making files"),
    lsm("path_symlink", "rules against making symbolic links"),
    lsm(
        "path_link",
        "rules against hard links: a protected file can get another name",
    ),
    lsm(
        "path_rename",
        "rules against renaming: a protected file can get another name",
    ),
    lsm("path_truncate", "rules against truncating files"),
    Program {
        covered_by: Some("path_truncate"),
        ..since("6.2", lsm("file_truncate", "rules against ftruncate"))
    },
    lsm("path_chmod", "rules against changing the mode of files"),
    lsm("path_chown", "rules against changing the owner of files"),
    Program {
        stands_in_for: Some("path_chown"),
        ..lsm("inode_setattr", "rules against changing the owner of files")
    },
    lsm(
        "inode_setxattr",
        "rules against setting extended attributes of files",
    ),
    lsm(
        "inode_removexattr",
        "rules against removing extended attributes of files",
    ),
    Program {
        covered_by: Some("inode_setxattr"),
        ..since(
            "6.2",
            lsm(
                "inode_set_acl",
                "rules against setting access control lists of files",
            ),
        )
    },
    Program {
        covered_by: Some("inode_removexattr"),
        ..since(
            "6.2",
            lsm(
                "inode_remove_acl",
                "rules against removing access control lists of files",
            ),
        )
    },
    lsm("mmap_file", "rules against executing files by mapping them"),
    lsm(
        "file_mprotect",
        "rules against executing files by making a mapping of them executable",
    ),
    lsm("capable", "rules for capabilities"),
    since(
        "6.0",
        lsm(
            "uring_override_creds",
            "rules for capabilities and extended attributes against io_uring's registered credentials",
        ),
    ),
    since(
        "6.1",
        lsm("userns_create", "rules against new user namespaces"),
    ),
    lsm(
        "ptrace_access_check",
        "rules for tracing and reading processes",
    ),
    lsm("sb_mount", "rules for mounting"),
    lsm("sb_umount", "rules for unmounting"),
    lsm("sb_remount", "rules for remounting"),
    lsm("move_mount", "rules for mounting by the newer mount calls"),
    lsm("sb_pivotroot", "rules for pivot_root"),
    lsm(
        "sb_set_mnt_opts",
        "rules against mounting what lives on a block device",
    ),
    lsm("socket_create", "rules for sockets"),
    lsm("socket_connect", "rules for connections"),
    lsm(
        "socket_sendmsg",
        "rules for destinations of unconnected sockets",
    ),
    lsm(
        "unix_stream_connect",
        "path rules for connecting to Unix sockets",
    ),
    lsm("unix_may_send", "path rules for sending to Unix sockets"),
    required(lsm(
        "bprm_check_security",
        "anything: no process would be found to belong to a container",
    )),
];

/// Something that this kernel can't enforce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The hook.
    pub hook: &'static str,
    /// Why it is not in use.
    pub reason: String,
    /// What is not enforced for that.
    pub not_enforced: &'static str,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "not enforced: {} ({}: {})",
            self.not_enforced, self.hook, self.reason
        )
    }
}

/// The programs of a variant.
pub fn of_variant(variant: Variant) -> impl Iterator<Item = &'static Program> {
    PROGRAMS
        .iter()
        .filter(move |program| program.only.is_none_or(|only| only == variant))
}

/// What is missing, given why each program that isn't in use could not be; `Err` with the first required one.
pub fn missing(
    variant: Variant,
    unused: &[(&'static str, String)],
) -> Result<Vec<Missing>, Missing> {
    let reason = |name: &str| {
        unused
            .iter()
            .find(|(unused, _)| *unused == name)
            .map(|(_, reason)| reason.clone())
    };
    let mut all = Vec::new();
    for program in of_variant(variant) {
        let Program {
            name: hook,
            not_enforced,
            ..
        } = *program;
        let Some(reason_of_this) = reason(hook) else {
            continue;
        };
        let missing = Missing {
            hook,
            reason: reason_of_this,
            not_enforced,
        };
        if program.required {
            return Err(missing);
        }
        // A stand-in that isn't in use is told of with the program that it stands in for, or isn't needed.
        if program.stands_in_for.is_some()
            || program
                .covered_by
                .is_some_and(|other| reason(other).is_none())
        {
            continue;
        }
        let stand_in = of_variant(variant).find(|other| other.stands_in_for == Some(hook));
        if stand_in.is_none_or(|stand_in| reason(stand_in.name).is_some()) {
            all.push(missing);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aya_obj::Object;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_lists_the_objects_programs() {
        for variant in [Variant::TaskStorage, Variant::ByPointer] {
            let object = Object::parse(variant.bytes()).unwrap();
            let found: BTreeSet<&str> = object.programs.keys().map(String::as_str).collect();
            let listed: BTreeSet<&str> = of_variant(variant).map(|program| program.name).collect();
            assert_eq!(found, listed, "{variant:?}");
        }
    }

    #[test]
    fn marks_are_carried_on_before_any_are_given() {
        let at = |name| {
            PROGRAMS
                .iter()
                .position(|program| program.name == name)
                .unwrap()
        };
        assert_eq!(at("task_alloc"), 0);
        assert_eq!(at("task_free"), 1);
        assert_eq!(at("bprm_check_security"), PROGRAMS.len() - 1);
    }

    #[test]
    fn what_another_program_does_is_not_missing() {
        let reason = || "no such hook".to_owned();
        let kernel_6_1 = [
            ("file_truncate", reason()),
            ("inode_set_acl", reason()),
            ("inode_remove_acl", reason()),
            ("inode_setattr", "path_chown is there".to_owned()),
        ];
        assert_eq!(missing(Variant::TaskStorage, &kernel_6_1), Ok(Vec::new()));
        let both = [("file_truncate", reason()), ("path_truncate", reason())];
        assert_eq!(missing(Variant::TaskStorage, &both).unwrap().len(), 2);
    }

    #[test]
    fn what_a_stand_in_does_is_not_missing() {
        let unused = [("path_chown", "arg1".to_owned())];
        assert_eq!(missing(Variant::ByPointer, &unused), Ok(Vec::new()));
        let unused = [
            ("path_chown", "arg1".to_owned()),
            ("inode_setattr", "gone".to_owned()),
        ];
        let found = missing(Variant::ByPointer, &unused).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].not_enforced,
            "rules against changing the owner of files"
        );
    }

    #[test]
    fn a_required_program_must_be_there() {
        let unused = [("file_open", "the verifier refused it".to_owned())];
        assert_eq!(
            missing(Variant::TaskStorage, &unused).unwrap_err().hook,
            "file_open"
        );
    }
}
