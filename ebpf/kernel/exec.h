/* SPDX-License-Identifier: GPL-2.0 */
/*
 * execve: where tasks become subjects, and what they execute is judged: the file that was resolved, whatever string the
 * caller passed. A script passes here twice, then as its interpreter.
 */
#pragma once
#include "judge.h"

/*
 * The mark of the current task, which has none yet, when it belongs to a container from now on: NULL when it does not.
 * PENDING ends with the first execve of the container's init; until then whatever else executes in the mount namespace
 * is the runtime setting the container up. Nothing sets PENDING back when that execve fails.
 */
static __always_inline struct mark *enter(struct task_struct *task, bool *failed)
{
	struct mnt_namespace *ns = mount_namespace_of(task);
	u32 inum = BPF_CORE_READ(ns, ns.inum);
	u64 *found = bpf_map_lookup_elem(&namespaces, &inum);
	if (!found)
		return NULL;
	u64 key = *found;
	struct container *container = bpf_map_lookup_elem(&containers, &key);
	struct container_state *state = bpf_map_lookup_elem(&states, &key);
	if (!container || !state)
		return NULL;
	u64 identity = identity_of(ns);
	if (state->state == CONTAINER_PENDING) {
		u32 tgid = bpf_get_current_pid_tgid() >> 32;
		if (tgid != container->init_tgid)
			return NULL;
		state->mntns_seq = identity;
		state->state = CONTAINER_ACTIVE;
	} else if (state->mntns_seq != identity) {
		return NULL; /* the inode number was reused by another container's namespace */
	}
	struct mark *mark = set_mark(task, key, 0);
	if (!mark) {
		count(COUNTER_MARK_FAILED);
		*failed = true;
	}
	return mark;
}

/*
 * Puts the domain that the file in scratch (dentry, mount) leads to into scratch, 0 for none. 0, a negative errno, or
 * DISTURBED.
 */
__noinline int find_target(u64 container, u32 slot, u64 owner)
{
	struct profile *p = NULL;
	struct scratch *s = scratch_of(slot);
	int confined = profile_of(container, 0, &p);
	if (!s)
		return -EACCES;
	s->target = 0;
	if (confined == UNCONFINED)
		return 0;
	if (confined == BROKEN || !p)
		return -EACCES;
	if (p->targets.class == AUTOMATON_NONE)
		return 0;
	u64 dentry = *(volatile u64 *)&s->dentry;
	int found = walk(slot, dentry, *(volatile u64 *)&s->mount);
	u64 target = found == PATH_OK ? match_path(p->targets.key, p->targets.class, slot, FORWARD) : 0;
	if (found == PATH_OK && !target && is_bind_of_root(s)) {
		found = walk_in_super(slot, dentry);
		if (found == PATH_OK)
			target = match_path(p->targets.key, p->targets.class, slot, FORWARD);
	}
	if (disturbed(s, owner))
		return DISTURBED;
	/* A file in no tree of mounts, such as a memfd, has no path and is no target. */
	if (found == PATH_UNKNOWN)
		return refuse_unknown(slot, container, p, PERM_EXEC);
	if (target == NO_VERDICT)
		return -EACCES;
	s->target = target;
	return 0;
}

/* As judge_path, of the domain that executing this file leads to. */
static __always_inline int find_domain(u64 container, struct file *file, u64 *domain)
{
	u32 slot = slot_of_current();
	struct scratch *s = scratch_of(slot);
	if (!s)
		return -EACCES;
	for (u32 attempt = 0; attempt < 2; attempt++) {
		u64 owner = new_owner();
		*(volatile u64 *)&s->owner = owner;
		*(volatile u64 *)&s->dentry = (u64)file->f_path.dentry;
		*(volatile u64 *)&s->mount = (u64)file->f_path.mnt;
		int result = find_target(container, slot, owner);
		*domain = *(volatile u64 *)&s->target;
		if (result == 0 && !disturbed(s, owner))
			return 0;
		if (result < 0)
			break;
	}
	return -EPERM;
}

/*
 * Whoever executes a target is in its domain, from the moment at which the old program is gone, and stays there. Of a
 * script it is the script that counts, and not its interpreter. The execve itself is judged by the rules from before,
 * as under AppArmor.
 */
SEC("lsm/bprm_check_security")
int BPF_PROG(bprm_check_security, struct linux_binprm *bprm)
{
	struct task_struct *task = current_task();
	struct mark *mark = mark_of(task);
	if (!mark) {
		bool failed = false;
		mark = enter(task, &failed);
		if (!mark) {
			if (failed)
				return -EPERM;
			return 0;
		}
	}
	if (!mark->domain && bprm->interp == bprm->filename) {
		u64 next = 0;
		if (find_domain(mark->container, bprm->file, &next))
			return -EPERM;
		mark->next = next;
	}
	/* Constants: kernel 6.12 does not see the range of a value that was put aside. */
	if (judge_path(mark, bprm->file->f_path.dentry, bprm->file->f_path.mnt, PERM_EXEC, OP_EXEC))
		return -EPERM;
	return 0;
}

/* The execve succeeds. One that failed left `next` behind, which the next one overwrites. */
SEC("lsm/bprm_committed_creds")
int BPF_PROG(bprm_committed_creds)
{
	struct mark *mark = current_mark();
	if (!mark || !mark->next)
		return 0;
	mark->domain = mark->next;
	mark->next = 0;
	return 0;
}
