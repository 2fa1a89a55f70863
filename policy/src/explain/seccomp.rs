// SPDX-License-Identifier: Apache-2.0
//! What a seccomp filter says of an action: the filter that the container would have, call by call.

use super::action::{Action, Change, Protocol};
use super::{Question, Verdict};
use crate::plan::Seccomp;
use crate::seccomp_merge::{self, Strictness};
use serde_json::Value;

const CLONE_NEWUSER: u64 = 0x1000_0000;
/// AT_FDCWD and whatever directory: not compared by any rule that makes sense.
const ANY: Option<u64> = None;

/// One way to do an action: a system call with what is known of its arguments.
type Call = (&'static str, [Option<u64>; 6]);

/// The verdict of the filter that the container gets: its own, merged with the policy's part.
pub(super) fn judge(plan: &Seccomp, question: &Question<'_>) -> Verdict {
    let filter = match seccomp_merge::merge(question.own_filter, plan, question.capabilities) {
        Ok(Some(filter)) => filter,
        Ok(None) => return Verdict::of(false, false),
        Err(error) => return Verdict::depends(error.to_string()),
    };
    let calls = match question.action {
        Action::Syscall(name, args) => return judge_call(&filter, name, args),
        action => calls(action),
    };
    if calls.is_empty() {
        return Verdict::not_mediated();
    }
    // What is refused one way may be allowed another: the most permitting way counts.
    let verdicts: Vec<_> = calls
        .iter()
        .map(|(name, args)| (*name, judge_call(&filter, name, args)))
        .collect();
    let some_refused = verdicts.iter().any(|(_, verdict)| verdict.is_refused());
    let open_way = verdicts.iter().find(|(_, verdict)| !verdict.is_refused());
    match open_way {
        None => verdicts
            .into_iter()
            .next()
            .map_or_else(Verdict::not_mediated, |(_, verdict)| verdict),
        Some((name, verdict)) if some_refused => verdict
            .clone()
            .with_note(&format!("by {name}; other system calls for it are refused")),
        Some((_, verdict)) => verdict.clone(),
    }
}

fn judge_call(filter: &Value, name: &str, args: &[Option<u64>; 6]) -> Verdict {
    match seccomp_merge::verdict(filter, name, args) {
        Err(error) => Verdict::depends(error.to_string()),
        Ok((mildest, strictest)) => {
            let verdict = of(mildest);
            if mildest == strictest {
                verdict
            } else if strictest == Strictness::Refused {
                verdict.unless("its arguments are those of a rule")
            } else {
                verdict.with_note("logged when its arguments are those of a rule")
            }
        }
    }
}

fn of(strictness: Strictness) -> Verdict {
    match strictness {
        Strictness::Allowed => Verdict::of(false, false),
        Strictness::Logged => Verdict::of(false, true),
        Strictness::Refused => Verdict::of(true, false),
    }
}

/// The system calls that do it.
fn calls(action: &Action) -> Vec<Call> {
    let of = |name| (name, [ANY; 6]);
    let first = |name, value| (name, [Some(value), ANY, ANY, ANY, ANY, ANY]);
    match action {
        Action::Open { .. } => vec![of("openat"), of("open"), of("openat2")],
        Action::Exec(_) => vec![of("execve"), of("execveat")],
        Action::Change(change, _) => match change {
            Change::Create => vec![of("openat"), of("open"), of("creat"), of("openat2")],
            Change::Unlink => vec![of("unlinkat"), of("unlink")],
            Change::Rmdir => vec![of("unlinkat"), of("rmdir")],
            Change::Mkdir => vec![of("mkdirat"), of("mkdir")],
            Change::Mknod => vec![of("mknodat"), of("mknod")],
            Change::Symlink => vec![of("symlinkat"), of("symlink")],
            Change::Truncate => vec![of("truncate"), of("ftruncate")],
            Change::Chmod => vec![of("fchmodat"), of("chmod"), of("fchmod"), of("fchmodat2")],
            Change::Setxattr => vec![of("setxattr"), of("lsetxattr"), of("fsetxattr")],
            Change::Chown => vec![of("fchownat"), of("chown"), of("fchown"), of("lchown")],
        },
        Action::Rename(..) => vec![of("renameat2"), of("renameat"), of("rename")],
        Action::Link(..) => vec![of("linkat"), of("link")],
        Action::Connect {
            protocol: Protocol::Tcp,
            ..
        }
        | Action::ConnectUnix(_) => vec![of("connect")],
        Action::Connect { .. } => vec![of("connect"), of("sendto"), of("sendmsg")],
        Action::Socket {
            family,
            kind,
            protocol,
        } => {
            let args = [u64::from(*family), u64::from(*kind), u64::from(*protocol)].map(Some);
            vec![("socket", [args[0], args[1], args[2], ANY, ANY, ANY])]
        }
        Action::Mount { flags, .. } => {
            vec![("mount", [ANY, ANY, ANY, Some(u64::from(*flags)), ANY, ANY])]
        }
        Action::Umount(_) => vec![of("umount2")],
        Action::Ptrace { .. } => vec![
            of("ptrace"),
            of("process_vm_readv"),
            of("process_vm_writev"),
        ],
        Action::UserNamespace => vec![
            first("unshare", CLONE_NEWUSER),
            first("clone", CLONE_NEWUSER),
            of("clone3"),
        ],
        Action::Capability(_) | Action::Syscall(..) => Vec::new(),
    }
}
