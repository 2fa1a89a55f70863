/* SPDX-License-Identifier: GPL-2.0 */
/*
 * execve: where tasks become subjects, and what they execute is judged: the file that was resolved, whatever string the
 * caller passed. A script passes here twice, then as its interpreter. And what is mapped to be executed.
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
 * Whoever executes a target is in its domain, from the moment at which the old program is gone (mark_of_current), and
 * stays there. Of a script it is the script that counts, and not its interpreter. The execve itself is judged by the
 * rules from before, as under AppArmor.
 */
SEC("lsm/bprm_check_security")
int BPF_PROG(bprm_check_security, struct linux_binprm *bprm)
{
	struct task_struct *task = current_task();
	struct mark *mark = mark_of_current(task);
	if (!mark) {
		bool failed = false;
		mark = enter(task, &failed);
		if (!mark) {
			if (failed)
				return -EPERM;
			return 0;
		}
	}
	struct file *file = bprm->file;
	struct dentry *dentry = file->f_path.dentry;
	struct vfsmount *mount = file->f_path.mnt;
	mark->judged_dentry = 0;
	mark->exec_id = TASK_READ(task, self_exec_id);
	/* Constants: kernel 6.12 does not see the range of a value that was put aside. */
	if (!mark->domain && bprm->interp == bprm->filename) {
		u64 next = 0;
		if (judge_exec(mark, dentry, mount, &next))
			return -EPERM;
		mark->next = next;
	} else if (judge_path(mark, dentry, mount, PERM_EXEC, OP_EXEC)) {
		return -EPERM;
	}
	if (!mark->next) {
		mark->judged_dentry = (u64)dentry;
		mark->judged_mount = (u64)mount;
	}
	return 0;
}

/*
 * Whether the current execve was judged for the very file that it maps now: then the answer is known. Once: what the
 * program maps later is judged anew.
 */
static __always_inline bool was_judged(struct task_struct *task, struct mark *mark, struct file *file)
{
	if (mark->judged_dentry != (u64)file->f_path.dentry || mark->judged_mount != (u64)file->f_path.mnt ||
	    mark->exec_id + 1 != TASK_READ(task, self_exec_id))
		return false;
	mark->judged_dentry = 0;
	return true;
}

#define PROT_EXEC 4

/* An executable mapping runs a file's code as execve does: the dynamic loader called as a program, dlopen. */
SEC("lsm/mmap_file")
int BPF_PROG(mmap_file, struct file *file, unsigned long reqprot, unsigned long prot)
{
	if (!file || !(prot & PROT_EXEC))
		return 0;
	struct task_struct *task = current_task();
	struct mark *mark = mark_of_current(task);
	if (!mark || was_judged(task, mark, file))
		return 0;
	return judge_path(mark, file->f_path.dentry, file->f_path.mnt, PERM_EXEC, OP_MMAP);
}

SEC("lsm/file_mprotect")
int BPF_PROG(file_mprotect, struct vm_area_struct *area, unsigned long reqprot, unsigned long prot)
{
	if (!(prot & PROT_EXEC))
		return 0;
	struct mark *mark = current_mark();
	if (!mark)
		return 0;
	struct file *file = BPF_CORE_READ(area, vm_file);
	if (!file)
		return 0;
	/* A mapping of overlayfs is one of the layer's file, which from kernel 6.8 on tells the path it was opened by. */
	struct backing_file *backing = (void *)file;
	if (BPF_CORE_READ(file, f_mode) & FMODE_NOACCOUNT && bpf_core_field_exists(backing->user_path))
		return judge_path_at(mark, BPF_CORE_READ(backing, user_path.dentry), BPF_CORE_READ(backing, user_path.mnt),
				  PERM_EXEC, OP_MMAP);
	return judge_path_at(mark, BPF_CORE_READ(file, f_path.dentry), BPF_CORE_READ(file, f_path.mnt), PERM_EXEC, OP_MMAP);
}
