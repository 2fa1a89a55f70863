/* SPDX-License-Identifier: GPL-2.0 */
/*
 * execve: where tasks become subjects, and what they execute is judged: the file that was resolved, whatever string the
 * caller passed. A script passes here twice, then as its interpreter.
 */
#pragma once
#include "judge.h"

/*
 * The container that the current task belongs to from now on, 0 for none; negative when it belongs to one and could
 * not be marked. PENDING ends with the first execve of the container's init; until then whatever else executes in the
 * mount namespace is the runtime setting the container up. Nothing sets PENDING back when that execve fails.
 */
static __always_inline s64 enter(struct task_struct *task)
{
	struct mnt_namespace *ns = mount_namespace_of(task);
	u32 inum = BPF_CORE_READ(ns, ns.inum);
	u64 *found = bpf_map_lookup_elem(&namespaces, &inum);
	if (!found)
		return 0;
	u64 key = *found;
	struct container *container = bpf_map_lookup_elem(&containers, &key);
	struct container_state *state = bpf_map_lookup_elem(&states, &key);
	if (!container || !state)
		return 0;
	u64 identity = identity_of(ns);
	if (state->state == CONTAINER_PENDING) {
		u32 tgid = bpf_get_current_pid_tgid() >> 32;
		if (tgid != container->init_tgid)
			return 0;
		state->mntns_seq = identity;
		state->state = CONTAINER_ACTIVE;
	} else if (state->mntns_seq != identity) {
		return 0; /* the inode number was reused by another container's namespace */
	}
	if (!set_mark(task, key)) {
		count(COUNTER_MARK_FAILED);
		return -1;
	}
	return key;
}

SEC("lsm/bprm_check_security")
int BPF_PROG(bprm_check_security, struct linux_binprm *bprm)
{
	struct task_struct *task = current_task();
	u64 mark = mark_of(task);
	if (!mark) {
		s64 entered = enter(task);
		if (entered == 0)
			return 0;
		if (entered == -1)
			return -EPERM;
		mark = entered;
	}
	return judge_path(mark, bprm->file->f_path.dentry, bprm->file->f_path.mnt, PERM_EXEC, OP_EXEC);
}
