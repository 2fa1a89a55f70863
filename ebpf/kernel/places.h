/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where the task's mount namespace shows a file, for hooks that tell a file without the mount it was reached by. The
 * namespace's own mounts are walked, from the root mount down: a container has some dozens, its node thousands.
 */
#pragma once
#include "judge.h"

#define PLACES 16	 /* paths that one file may have in a namespace; one with more is refused */
#define PLACE_STEPS 1024 /* at most two for each mount of the namespace */
#define NO_PLACE 0ULL	 /* there is no other */
#define LOST (~0ULL)	 /* too many mounts, or they changed meanwhile */

static __always_inline u64 read_pointer(u64 at)
{
	u64 value = 0;
	bpf_probe_read_kernel(&value, sizeof(value), (void *)at);
	return value;
}

/* Whether `dentry` is `root` or below it. */
__noinline u32 is_below(u64 dentry, u64 root)
{
	for (u32 i = 0; i < COMPONENTS + 1; i++) {
		if (dentry == root)
			return 1;
		u64 parent = read_pointer(dentry + OFFSET(struct dentry, d_parent));
		if (parent == dentry || !parent)
			return 0;
		dentry = parent;
	}
	return 0;
}

/* Whether a mount shows `dentry`; 0 stands for anything of the file system. */
__noinline u32 shows(u64 mount, u64 dentry, u64 super)
{
	struct mount_chunk m;
	if (read_mount(&m, mount) || m.super != super)
		return 0;
	if (!dentry)
		return 1;
	return is_below(dentry, m.root);
}

#define CAME_UP 1ULL /* beside a mount, whose address is even: what is below it was visited */

/*
 * One step through the tree of mounts below `root`: down to the first child, else on to the next sibling, else up.
 * NO_PLACE at the end, or LOST. Functions of their own: the verifier of kernel 5.10 follows only so many branches of a
 * loop.
 */
__noinline u64 step_through(u64 mount, u64 root)
{
	u64 came_up = mount & CAME_UP;
	mount &= ~CAME_UP;
	if (!came_up) {
		u64 children = mount + OFFSET(struct mount, mnt_mounts);
		u64 child = read_pointer(children);
		if (!child)
			return LOST;
		if (child != children)
			return child - OFFSET(struct mount, mnt_child);
	}
	if (mount == root)
		return NO_PLACE;
	u64 parent = read_pointer(mount + OFFSET(struct mount, mnt_parent));
	u64 sibling = read_pointer(mount + OFFSET(struct mount, mnt_child));
	if (!sibling || !parent || parent == mount)
		return LOST;
	if (sibling == parent + OFFSET(struct mount, mnt_mounts))
		return parent | CAME_UP;
	return sibling - OFFSET(struct mount, mnt_child);
}

/*
 * The mount after `after` (0: the first) in the current task's mount namespace that shows `dentry` of the file system
 * `super`; NO_PLACE or LOST.
 */
__noinline u64 next_place(u64 dentry, u64 super, u64 after)
{
	struct mnt_namespace *ns = mount_namespace_of(current_task());
	u64 root = (u64)BPF_CORE_READ(ns, root), mount = after;
	if (!layout_is_known() || !root)
		return LOST;
	if (!after) {
		mount = root;
		if (shows(root, dentry, super))
			return root;
	}
	for (u32 i = 0; i < PLACE_STEPS; i++) {
		mount = step_through(mount, root);
		if (mount == NO_PLACE || mount == LOST)
			return mount;
		if (!(mount & CAME_UP) && shows(mount, dentry, super))
			return mount;
	}
	return LOST;
}

static __always_inline u64 super_of(u64 dentry)
{
	struct dentry *d = (void *)dentry;
	return (u64)BPF_CORE_READ(d, d_sb);
}

/* Of a file that the namespace does not show, as PATH_NOWHERE and PATH_UNKNOWN. */
static __always_inline bool is_nowhere(u64 super)
{
	struct super_block *sb = (void *)super;
	return BPF_CORE_READ(sb, s_flags) & (SB_NOUSER | SB_KERNMOUNT);
}

/*
 * May a subject do what is asked to `dentry`, by each of its paths? A file that the namespace does not show is in a
 * detached tree, whose paths can't be told.
 */
__noinline int judge_places(u64 container, u64 domain, u64 dentry, u32 question)
{
	struct profile *p = NULL;
	u32 slot = slot_of_current();
	struct scratch *s = scratch_of(slot);
	int confined = profile_of(container, domain, &p);
	if (confined == UNCONFINED)
		return 0;
	if (confined == BROKEN || !p || !s)
		return -EACCES;
	if (!((p->forward.permissions | p->backward.permissions) & WANTED(question)))
		return 0;
	u64 super = super_of(dentry), mount = 0;
	for (u32 i = 0; i < PLACES; i++) {
		mount = next_place(dentry, super, mount);
		if (mount == LOST)
			break;
		if (mount == NO_PLACE) {
			if (i || is_nowhere(super))
				return 0;
			break;
		}
		int result = judge_at(container, domain, dentry, mount + OFFSET(struct mount, mnt), question);
		if (result)
			return result;
	}
	s->count = 0;
	return refuse_unknown(slot, container, p, WANTED(question));
}
